"""The step of a model that draws random numbers in training mode, as dropout does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from elboverse.contracts import Model
from elboverse.seeding import derived_seed
from elboverse.training.grouped import GroupedStep
from elboverse.training.step import SingleStep, Step, StepSettings

__all__ = ["DrawingStep", "build_drawing_step"]


class DrawingStep(SingleStep):
    """The step of one model, with torch's random state a function of the run's seed and the step's number.

    So a step is a function of parameters, batch and noise here too: a run resumes bitwise, and replica r draws what the
    single run with its seed draws. Afterwards torch's random state is as it was.

    Args:
        model: the model, on its device; trained in place.
        settings: constraint, variances and learning rates; a tape, which would replay the first draw, is not tried.
        seed: the seed of this model's run.
    """

    def __init__(self, model: Model, settings: StepSettings, seed: int) -> None:
        super().__init__(model, attrs.evolve(settings, tape=False))
        self._seed = seed
        self._number = 0
        devices = {value.device for value in cast(nn.Module, model).parameters() if value.is_cuda}
        self._devices = sorted({device.index or 0 for device in devices})

    @property
    def obstacle(self) -> str:
        """Nothing that a user should mend: a tape is not tried."""
        return ""

    def at(self, number: int) -> None:
        """Say the number of the step that is called next."""
        self._number = number

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
        """Update the parameters once and return the row's columns."""
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(derived_seed(self._seed, "model", self._number))
            return super().__call__(x, noise, beta)


def build_drawing_step(models: Sequence[Model], settings: StepSettings, seeds: Sequence[int]) -> Step:
    """Return the step of models that draw, one after the other where there are several.

    Args:
        models: one per replica; trained in place.
        settings: how parameters are updated.
        seeds: of the replicas.
    """
    steps = [DrawingStep(model, settings, seed) for model, seed in zip(models, seeds, strict=True)]
    return steps[0] if len(steps) == 1 else GroupedStep(steps)
