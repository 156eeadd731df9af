"""Optimisers and learning-rate schedules: torch's numbers, on flat buffers, for one run and for replicas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import elboverse
from elboverse.builtin.annealing.rates import (
    Cosine,
    CosineOptions,
    LinearWarmup,
    LinearWarmupOptions,
    Steps,
    StepsOptions,
)
from elboverse.config import load
from elboverse.errors import ConfigError
from elboverse.runfile import Run
from elboverse.training.flat import flattened
from elboverse.training.optimising import FlatOptimiser

TORCH: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "adam": ({}, lambda p: torch.optim.Adam(p, lr=0.01)),
    "adamw": ({"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
    "sgd": ({}, lambda p: torch.optim.SGD(p, lr=0.01)),
    "sgd momentum": ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    "sgd nesterov": (
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
}


def selected(name: str, options: dict[str, Any]) -> Any:
    return load({"dataset": "circle", "optimiser": {"name": name.split(maxsplit=1)[0], **options}}).optimiser.build()


@pytest.mark.parametrize("name", sorted(TORCH))
def test_an_optimiser_does_what_torch_does(name: str) -> None:
    options, build = TORCH[name]
    torch.manual_seed(0)
    own = {key: torch.randn(shape, dtype=torch.float64) for key, shape in (("a", (3, 2)), ("b", (5,)))}
    theirs = [value.clone().requires_grad_() for value in own.values()]
    groups = flattened(own, dict.fromkeys(own, 0.01))
    ours, other = FlatOptimiser(groups, selected(name, options)), build(theirs)
    for _ in range(5):
        for value, twin in zip(own.values(), theirs, strict=True):
            twin.grad = torch.randn_like(twin)
            assert value.grad is not None
            value.grad.copy_(twin.grad)
        ours.step()
        other.step()
    for value, twin in zip(own.values(), theirs, strict=True):
        torch.testing.assert_close(value, twin.detach(), rtol=1e-12, atol=1e-12)


def test_the_gradient_of_each_replica_is_clipped_by_itself() -> None:
    values = {"a": torch.zeros(2, 3), "b": torch.zeros(2)}
    groups = flattened(values, {"a": 1.0, "b": 1.0})
    groups[0].part(groups[0].gradients, "a").copy_(torch.tensor([[3.0, 0, 0], [0.3, 0, 0]]))
    groups[0].part(groups[0].gradients, "b").copy_(torch.tensor([4.0, 0.4]))
    FlatOptimiser(groups, selected("sgd", {}), clip_norm=1.0, replicas=2).step()
    torch.testing.assert_close(values["a"][:, 0], torch.tensor([-0.6, -0.3]))
    torch.testing.assert_close(values["b"], torch.tensor([-0.8, -0.4]))


def test_the_cosine_begins_at_one_and_ends_near_its_end() -> None:
    schedule = Cosine(CosineOptions(end=0.1))
    assert schedule.weight(0, 100) == 1.0
    assert schedule.weight(50, 100) == pytest.approx(0.55)
    assert schedule.weight(99, 100) == pytest.approx(0.1, abs=1e-3)


def test_a_warm_up_rises_to_one() -> None:
    schedule = LinearWarmup(LinearWarmupOptions(steps=4))
    assert [schedule.weight(step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_steps_fall_evenly() -> None:
    schedule = Steps(StepsOptions(factor=0.1, count=2))
    assert [schedule.weight(step, 9) for step in (0, 2, 3, 5, 6, 8)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_run_with_sgd_and_a_schedule_resumes_bitwise(tmp_path: Path, replicas: int) -> None:
    table = {
        "dataset": "circle",
        "optimiser": {"name": "sgd", "momentum": 0.9},
        "learning_rate_schedule": {"name": "linear-warmup", "steps": 5},
        "training": {"epochs": 2, "batch_size": 500, "learning_rate": 1e-4, "replicas": replicas, "clip_norm": 1.0},
    }
    elboverse.train(table, out=tmp_path / "whole").close()
    table["training"]["epochs"] = 1
    elboverse.train(table, out=tmp_path / "pieces").close()
    elboverse.resume(tmp_path / "pieces", overrides=["training.epochs=2"]).close()
    whole, pieces = (Run.open(tmp_path / name / "run.h5") for name in ("whole", "pieces"))
    np.testing.assert_array_equal(whole.series("elbo"), pieces.series("elbo"))


def test_a_learning_rate_that_falls_to_nothing_stops_the_parameters(tmp_path: Path) -> None:
    table = {
        "dataset": "circle",
        "learning_rate_schedule": {"name": "step", "factor": 1e-12, "count": 1},
        "training": {"epochs": 2, "batch_size": 1000},
    }
    run = elboverse.train(table, out=tmp_path / "run")
    per_step = run.series("decoder_log_var")[:, 0]
    half = len(per_step) // 2
    assert np.ptp(per_step[:half]) > 0
    assert np.ptp(per_step[half + 1 :]) < 1e-6


def test_nesterov_wants_a_momentum() -> None:
    with pytest.raises(ConfigError, match="momentum"):
        selected("sgd", {"nesterov": True})
