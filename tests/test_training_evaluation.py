"""Evaluation in parts: memory does not grow with replicas and samples, and the numbers do not depend on the parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import build_model, normal
from torch import Tensor

from elboverse.contracts import Scaling
from elboverse.training import evaluation
from elboverse.training.evaluation import Evaluator
from elboverse.training.grouped import build_step
from elboverse.training.pictures import Painter
from elboverse.training.step import Step, StepSettings

DIMENSION, LATENTS, POINTS = 4, 2, 150


def replicated(name: str, replicas: int, group: int) -> Step:
    models: list[Any] = [build_model(name, DIMENSION, seed=seed) for seed in range(replicas)]
    return build_step(models, StepSettings(optimal=name == "vae-2"), group)


def evaluated(step: Step, name: str, samples: int, points: Tensor) -> dict[str, Any]:
    """Return every quantity of an evaluation, and the closed-form variances where the model has some."""
    shape = None if name == "linear-vae" else (samples,) if samples > 1 else ()
    evaluator = Evaluator("train", points, range(step.replicas), shape, LATENTS)
    record = evaluator.evaluate(step, 0, 0)
    found = dict(record.scalars) | dict(record.per_latent)
    if name == "vae-2":
        names = build_model(name, DIMENSION).variance_parameters()
        found |= {path: value.numpy() for path, value in evaluator.closed_form(step, 0, names).items()}
    return found


@pytest.mark.parametrize("own_points", [False, True])
@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "samples"), [("vae-1", 1), ("vae-2", 1), ("vae-3", 5), ("vae-2", 5), ("linear-vae", 1)]
)
def test_evaluation_in_parts_is_that_of_everything_together(
    name: str, samples: int, group: int, own_points: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = normal(0, *((5,) if own_points else ()), POINTS, DIMENSION)
    step = replicated(name, 5, group)
    expected = evaluated(step, name, samples, points)
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 3 * POINTS if samples == 1 else 3 * 64 * 2)
    monkeypatch.setattr(evaluation, "SAMPLED_AT_ONCE", 64 * 2)
    found = evaluated(step, name, samples, points)
    for quantity, value in expected.items():
        np.testing.assert_allclose(found[quantity], value, rtol=1e-10, atol=1e-12, err_msg=quantity)


def rows_seen(step: Step, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which replicas times samples times points of every call of `map_models` will be added."""
    rows: list[int] = []
    map_models = step.map_models

    def counted(function: Callable[..., Tensor], x: Tensor, noise: Tensor | None, replicas: slice) -> Tensor:
        found = map_models(function, x, noise, replicas)
        samples = noise.shape[1] if noise is not None and noise.ndim == 4 else 1
        rows.append(len(found) * samples * x.shape[-2])
        return found

    monkeypatch.setattr(step, "map_models", counted)
    return rows


@pytest.mark.parametrize(("replicas", "samples"), [(40, 1), (2, 3000)])
def test_what_a_model_sees_at_a_time_is_bounded(replicas: int, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step = replicated("vae-1", replicas, replicas)
    rows = rows_seen(step, monkeypatch)
    points = 4096 if samples == 1 else 64
    evaluated(step, "vae-1", samples, normal(0, points, DIMENSION))
    assert sum(rows) == replicas * samples * points
    assert max(rows) <= 1 << 16
    assert max(rows) <= replicas * (1 << 13)


def test_pictures_are_decoded_by_the_first_replica_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = replicated("vae-1", 3, 3)
    rows = rows_seen(step, monkeypatch)
    scaling = Scaling("none", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    Painter(normal(0, 10, DIMENSION), (2, 2), scaling, LATENTS, 0).evaluate(step, 0, 0)
    assert rows == [10]
