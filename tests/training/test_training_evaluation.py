"""Evaluation in parts: memory does not grow with replicas and samples, and the numbers do not depend on the parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import build_model, configure, normal
from torch import Tensor

from elboverse.contracts import Scaling
from elboverse.training import evaluation
from elboverse.training.evaluation import Evaluator
from elboverse.training.frames import Camera
from elboverse.training.grouped import build_step
from elboverse.training.intake import Intake
from elboverse.training.pictures import Painter
from elboverse.training.step import Step, StepSettings

DIMENSION, LATENTS, POINTS = 4, 2, 150
PCA: dict[str, Any] = {"name": "pca", "points": 240, "dimension": DIMENSION}


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


def test_of_points_with_many_values_fewer_replicas_are_evaluated_together(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[Any] = [build_model("vae-1", 20, seed=seed) for seed in range(6)]
    step, points = build_step(models, StepSettings(), 6), normal(0, 100, 20)
    together = evaluated(step, "vae-1", 1, points)
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 2 * 100 * 20)
    rows = rows_seen(step, monkeypatch)
    apart = evaluated(step, "vae-1", 1, points)
    assert rows == [200] * 3
    for quantity, value in together.items():
        np.testing.assert_allclose(apart[quantity], value, rtol=1e-10, atol=1e-12, err_msg=quantity)


@pytest.mark.parametrize("own_data", [False, True])
def test_a_frame_is_of_a_few_replicas_at_a_time_and_the_same(own_data: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    step = replicated("vae-1", 6, 4)
    intake = Intake(torch.device("cpu"), torch.float64)
    parts = [configure("vae-1", dataset=PCA).dataset.build(seed) for seed in range(6)]
    if not own_data:
        parts = parts[:1] * 6
    expected = Camera(1, parts, range(6), LATENTS, intake).evaluate(step, 0, 0)
    points = len(parts[0].held_out)
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 2 * points * DIMENSION)
    rows = rows_seen(step, monkeypatch)
    camera = Camera(1, parts, range(6), LATENTS, intake)
    found = camera.evaluate(step, 0, 0)
    assert rows == [2 * points] * 3
    assert camera._points.shape == ((6,) if own_data else ()) + (points, DIMENSION)
    np.testing.assert_array_equal(found.data, expected.data)
    for name, values in expected.series.items():
        np.testing.assert_allclose(found.series[name], values, rtol=1e-6, err_msg=name)


def test_pictures_are_decoded_by_the_first_replica_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = replicated("vae-1", 3, 3)
    rows = rows_seen(step, monkeypatch)
    scaling = Scaling("none", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    Painter(normal(0, 10, DIMENSION), (2, 2), scaling, LATENTS, 0).evaluate(step, 0, 0)
    assert rows == [10]
