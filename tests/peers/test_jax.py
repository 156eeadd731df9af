"""The step of the same VAE under JAX (jit and scan) in turns with the program's loop; the ratios are printed."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("jax")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from jax_loop import jax_loop
from step import SHAPES, our_loop

ROUNDS = 3
STEPS = {100: 600, 18: 1000, 2: 10_000, 784: 800}
"""By the number of dimensions: about two seconds each, so that starting and ending a run weigh little."""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_recorded_step_is_compared_with_the_step_under_jax(
    shape: tuple[int, int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    dimension, latent_dim, hidden, batch_size = shape
    points = torch.rand(20 * batch_size, dimension)
    steps = STEPS[dimension]
    pairs = [
        (
            jax_loop(points.numpy(), batch_size, latent_dim, hidden, steps),
            our_loop(points, steps, batch_size, latent_dim=latent_dim, network={"name": "mlp", "hidden": [hidden]}),
        )
        for _ in range(ROUNDS)
    ]
    ratios = sorted(ours / theirs for theirs, ours in pairs)
    theirs, ours = (1e3 * min(column) / steps for column in zip(*pairs, strict=True))
    with capsys.disabled():
        sys.stdout.write(
            f"\nD={dimension} H={latent_dim} hidden {hidden} B={batch_size}: JAX {theirs:.3f} ms, ours {ours:.3f} ms, "
            f"ours / JAX {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
        )
    assert ratios[0] > 0
