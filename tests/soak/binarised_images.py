"""A Bernoulli VAE on binarised Fashion-MNIST against a plain PyTorch loop: the same network, seed and steps.

`pytest tests/soak/binarised_images.py`; it takes Debian's package dataset-fashion-mnist and elboverse-images.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from elboverse.config import from_table
from elboverse.data import binarised
from elboverse.runfile import Run
from elboverse.running.runs import train
from elboverse.seeding import derived_seed

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
EPOCHS, BATCH, LATENTS, HIDDEN = 6, 128, 20, 200

pytest.importorskip("elboverse_images")
pytestmark = pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")


def grey(name: str) -> Tensor:
    with gzip.open(DEBIAN / f"{name}-images-idx3-ubyte.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).copy())


class Plain(nn.Module):
    """What anyone would write."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.Tanh())
        self.head = nn.Linear(HIDDEN, 2 * LATENTS)
        self.decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.Tanh())
        self.output = nn.Linear(HIDDEN, 784)
        nn.init.constant_(self.head.bias[LATENTS:], -3.0)

    def elbo(self, x: Tensor, noise: Tensor) -> Tensor:
        mean, log_var = self.head(self.encoder(x)).chunk(2, dim=-1)
        logits = self.output(self.decoder(mean + noise * (0.5 * log_var).exp()))
        likelihood = -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return likelihood - 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)


def plain_loop(points: Tensor, held_out: Tensor) -> tuple[float, float]:
    """Return the mean ELBO of the held-out points after training, and its standard error."""
    torch.manual_seed(derived_seed(0, "weights"))
    model = Plain()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    stream = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        order = torch.randperm(len(points), generator=stream)
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            noise = torch.randn(BATCH, LATENTS, generator=stream)
            (-model.elbo(points[rows].float(), noise).mean()).backward()
            optimiser.step()
    with torch.no_grad():
        noise = torch.randn(len(held_out), LATENTS, generator=stream)
        elbo = model.elbo(held_out.float(), noise)
    return float(elbo.mean()), float(elbo.std()) / math.sqrt(len(elbo))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = from_table(
        {
            "name": "binary clothing",
            "model": {
                "name": "vae",
                "latent_dim": LATENTS,
                "network": {"name": "mlp", "hidden": [HIDDEN], "activation": "tanh"},
                "likelihood": "bernoulli",
            },
            "dataset": {"name": "fashion-mnist", "binarise": "static", "download": False},
            "training": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 1e-3, "variance_learning_rate": 1e-3},
        }
    )
    return train(config, out=tmp_path_factory.mktemp("run")).path.parent


def test_the_held_out_elbo_is_that_of_a_plain_loop(folder: Path) -> None:
    with Run.open(folder) as run:
        ours = float(run.evaluation("held_out", "elbo")[-1, 0])
        error = float(run.evaluation("held_out", "elbo_standard_error")[-1, 0])
    data = binarised(grey("train"), grey("t10k"), "static", shape=(28, 28), what="fashion-mnist")
    theirs, _ = plain_loop(data.train, data.held_out)
    assert abs(ours - theirs) <= error, (ours, theirs, error)
    assert ours > -300


def test_the_temperature_is_nearly_right_at_the_end(folder: Path) -> None:
    with Run.open(folder) as run:
        mismatch = np.abs(run.evaluation("train", "decoder_residual") / run.evaluation("train", "decoder_varentropy"))
    assert mismatch[-1, 0] < 0.02 < mismatch[0, 0]
