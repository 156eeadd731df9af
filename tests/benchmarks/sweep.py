"""How the time of a step grows with D, H, batch size, samples and replicas, one at a time from a common start."""

from __future__ import annotations

import statistics

import torch
from limits import Limits, Machine, seconds

from elboverse.config import load
from elboverse.running.assembly import default_samples_at_once
from elboverse.training.grouped import build_step
from elboverse.training.step import StepSettings

__all__ = ["swept"]

START = {"D": 10, "H": 2, "B": 500, "K": 1, "R": 1}
HIDDEN = (50, 50)
AXES = {
    "D": (2, 10, 100, 784),
    "H": (2, 8, 32, 128),
    "B": (64, 256, 1024, 4096),
    "K": (1, 4, 16, 64),
    "R": (1, 4, 16, 64),
}
SECONDS = 0.5
"""About how long the steps of one size are timed."""


def swept(machine: Machine) -> list[dict[str, object]]:
    """Return one row per axis and value: the median time of a step per replica, and its limits."""
    rows: list[dict[str, object]] = []
    for axis, values in AXES.items():
        for value in values:
            size = START | {axis: value}
            milliseconds = 1e3 * step_seconds(**size) / size["R"]
            limits = Limits.of(size["D"], size["H"], HIDDEN, size["B"], size["K"])
            rows.append(
                {
                    "axis": axis,
                    "value": value,
                    "ours_ms": round(milliseconds, 4),
                    "least_ms": [round(least, 4) for least in limits.milliseconds(machine)],
                }
            )
    return rows


def step_seconds(D: int, H: int, B: int, K: int, R: int) -> float:  # noqa: N803 - the axes' names
    """Return the median time of a step of R replicas of vae-1."""
    model = {"name": "vae-1", "latent_dim": H, "network": {"name": "mlp", "hidden": list(HIDDEN)}}
    selection = load({"model": model, "dataset": "pca"}).model
    settings = StepSettings(samples_at_once=default_samples_at_once(B))
    step = build_step([selection.build((D,)) for _ in range(R)], settings, R)
    lead = (R,) if R > 1 else ()
    noise = torch.randn(*lead, *((K,) if K > 1 else ()), B, H)
    x, beta = torch.randn(*lead, B, D), torch.ones(())
    once = max(seconds(lambda: step(x, noise, beta)) for _ in range(3))
    return statistics.median(seconds(lambda: step(x, noise, beta)) for _ in range(max(5, int(SECONDS / once))))
