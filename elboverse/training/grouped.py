"""Replicas in groups: as many in one vectorised step as pay, and one by one where a model cannot be vectorised."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from elboverse.contracts import Model
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import ALL, SingleStep, Step, StepSettings
from elboverse.training.threads import chosen_threads

__all__ = ["GroupedStep", "Grouping", "build_step", "measure_grouping", "measure_threads"]

SECONDS: Final = 3.0
"""About how long the group size is looked for; the sizes 1 and 2 are tried however long they take."""

TURNS: Final = 9
"""How often each of the best sizes is timed, at most."""

CONTENDERS: Final = 3
"""How many sizes are timed in turns, beside one by one."""


@attrs.frozen
class Grouping:
    """How many replicas go through one vectorised step.

    Args:
        size: replicas per group; the last group may have fewer.
        obstacle: why the model cannot be vectorised, in one line; empty if it can.
    """

    size: int
    obstacle: str = ""


def build_step(models: Sequence[Model], settings: StepSettings, size: int) -> Step:
    """Return the step for some models in groups of that size.

    Args:
        models: one per replica.
        settings: how parameters are updated.
        size: replicas per group.
    """
    steps = [_ungrouped(models[first : first + size], settings) for first in range(0, len(models), size)]
    return steps[0] if len(steps) == 1 else GroupedStep(steps)


def measure_grouping(models: Sequence[Model], settings: StepSettings, x: Tensor, noise: Tensor | None) -> Grouping:
    """Return the group size with the least time per replica, found by trying steps on copies of the models.

    Each of 1, 2, 4, 8, … and all at once is timed once, and then the best of them in turns, so that a machine that is
    busy for a while is busy for all of them. The least time of each counts, since other work only ever adds. One by one
    takes part to the end, so the choice is never slower than that.

    Args:
        models: one per replica; left as they are.
        settings: how parameters are updated.
        x: a batch, shape (B, D).
        noise: its noise, (B, H) or (K, B, H), or None.
    """
    started = time.perf_counter()
    seconds: dict[int, float] = {}
    for size in [*(2**power for power in range(20) if 2**power < len(models)), len(models)]:
        if size > 2 and time.perf_counter() - started > SECONDS / 2:
            break
        trial = _trial(models[:size], settings, x, noise)
        if isinstance(trial, str):
            if len(seconds) < 2:  # not even two of them
                return Grouping(1, trial)
            break
        seconds[size] = trial()
    best = sorted(seconds, key=lambda size: seconds[size])[:CONTENDERS]
    trials = {size: _trial(models[:size], settings, x, noise) for size in sorted({1, *best})}
    for _ in range(TURNS):
        for size, trial in trials.items():
            if not isinstance(trial, str):
                seconds[size] = min(seconds[size], trial())
        if time.perf_counter() - started > SECONDS:
            break
    return Grouping(min(trials, key=lambda size: seconds[size]))


def measure_threads(models: Sequence[Model], settings: StepSettings, x: Tensor, noise: Tensor | None, most: int) -> int:
    """Return how many threads a step of these models should have, tried on copies of them.

    Args:
        models: those that share a vectorised step; left as they are.
        settings: how parameters are updated.
        x: a batch, shape (B, D).
        noise: its noise, (B, H) or (K, B, H), or None.
        most: how many threads there may be at most.
    """
    if most == 1:
        return 1
    with torch.random.fork_rng(devices=[]):
        try:
            trial = _trial(models, settings, x, noise)
        except Exception:  # noqa: BLE001 - the run itself will say what is wrong with the model
            return 1
        return 1 if isinstance(trial, str) else chosen_threads(trial, most)


class GroupedStep(Step):
    """The steps of several groups of replicas, one after the other.

    Args:
        steps: one per group.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self.replicas = sum(step.replicas for step in steps)

    @property
    def obstacle(self) -> str:
        """Why gradients do not come from a tape, in the first group of which they do not."""
        return next((step.obstacle for step in self._steps if step.obstacle), "")

    def at(self, number: int) -> None:
        """Tell every group."""
        for step in self._steps:
            step.at(number)

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
        """Update all replicas once and return the rows' columns, shape (R, 2 + 3H)."""
        parts = zip(self._steps, self._split(x), self._split(noise), strict=True)
        return torch.cat(
            [step(_squeezed(step, x), _squeezed(step, noise), beta).view(step.replicas, -1) for step, x, noise in parts]
        )

    def set_rate_factor(self, factor: float) -> None:
        """Set what the learning rates of the next steps are multiplied by."""
        for step in self._steps:
            step.set_rate_factor(factor)

    def map_models(
        self, function: Callable[..., Tensor], x: Tensor, noise: Tensor | None, replicas: slice = ALL
    ) -> Tensor:
        """Return the function's value for each replica asked for, stacked."""
        first, last, _ = replicas.indices(self.replicas)
        found, start = [], 0
        for step in self._steps:
            begin, end = max(first, start), min(last, start + step.replicas)
            if begin < end:
                part = slice(begin - first, end - first)
                points = x[part] if x.ndim == 3 else x
                own = slice(begin - start, end - start)
                found.append(step.map_models(function, points, None if noise is None else noise[part], own))
            start += step.replicas
        return torch.cat(found)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state; unlike that of the groups, it shares no memory with them."""
        parts = [step.tensors() for step in self._steps]
        return {path: torch.cat([part[path] for part in parts]) for path in parts[0]}

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take over the state that `tensors` returned earlier, whatever the groups were then."""
        self._require_fitting(tensors)
        first = 0
        for step in self._steps:
            step.load({path: value[first : first + step.replicas] for path, value in tensors.items()})
            first += step.replicas

    def set_closed_form(self, values: Mapping[str, Tensor]) -> None:
        """Set variance parameters to values of shape (R, ...)."""
        parts = {name: self._split(value) for name, value in values.items()}
        for index, step in enumerate(self._steps):
            step.set_closed_form({name: part[index] for name, part in parts.items() if part[index] is not None})

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of the settings by a factor from now on."""
        for step in self._steps:
            step.scale_learning_rates(factor)

    def _split(self, tensor: Tensor | None) -> Sequence[Any]:
        if tensor is None:
            return [None] * len(self._steps)
        return tensor.split([step.replicas for step in self._steps])


def _ungrouped(models: Sequence[Model], settings: StepSettings) -> Step:
    return SingleStep(models[0], settings) if len(models) == 1 else ReplicatedStep(models, settings)


def _squeezed(step: Step, tensor: Tensor | None) -> Any:
    """Return a group's points or noise as its step takes them: a single model's have no axis of replicas."""
    return tensor if tensor is None or not isinstance(step, SingleStep) else tensor[0]


def _trial(
    models: Sequence[Model], settings: StepSettings, x: Tensor, noise: Tensor | None
) -> Callable[[], float] | str:
    """Return what does a step on copies of the models and returns its seconds per replica, or why there is none.

    A first step, which compiles and reserves memory, has been done.
    """
    try:
        step = _ungrouped([copy.deepcopy(model) for model in models], settings)
        if len(models) > 1:
            x = x.expand(len(models), *x.shape).contiguous()
            noise = noise if noise is None else noise.expand(len(models), *noise.shape).contiguous()
        beta = torch.ones((), dtype=x.dtype, device=x.device)
        step(x, noise, beta)
    except Exception as error:  # whatever torch raises where vmap has no rule, or memory ends
        if len(models) == 1:
            raise
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]

    def seconds_per_replica() -> float:
        _synchronise(x)
        started = time.perf_counter()
        step(x, noise, beta)
        _synchronise(x)
        return (time.perf_counter() - started) / len(models)

    return seconds_per_replica


def _synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
