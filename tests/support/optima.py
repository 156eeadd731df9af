"""Linear VAEs at, near and off the exact optimum of random data, for verdicts that must be right."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from support.builders import configure
from support.pca_optimum import noise_variance, principal_components, set_stationary
from torch import Tensor

from elboverse.theory.certificate import TOLERANCE, Certificate
from elboverse.training.certifying import certify
from elboverse.training.full_batch import FullBatch
from elboverse.training.intake import Intake

SETTINGS = tuple((d, h, n) for d, h in ((2, 1), (4, 2), (5, 4), (10, 2), (20, 5), (30, 3)) for n in (200, 1_000, 5_000))
"""D, H and N of 18 data sets; those with a million points are for the soak."""


@attrs.frozen
class Verdicts:
    """The certificates at the optimum, at 90 % of the way to it, and with σ² off by twice the tolerance."""

    optimum: Certificate
    stopped: Certificate
    mismatched: Certificate


def verdicts(dimension: int, latent_dim: int, count: int, seed: int = 0) -> Verdicts:
    """Return what is said of a linear VAE on points W z + ε with noise of 0.5."""
    stream = torch.Generator().manual_seed(1_000 * dimension + seed)
    mixing = 1.5 * torch.randn(latent_dim, dimension, generator=stream, dtype=torch.float64)
    x = torch.randn(count, latent_dim, generator=stream, dtype=torch.float64) @ mixing
    x += 0.5 * torch.randn(count, dimension, generator=stream, dtype=torch.float64)
    found = [certify(full, theta, TOLERANCE, try_steps=True) for full, theta in _models(x, latent_dim)]
    return Verdicts(*found)


def _models(x: Tensor, latent_dim: int) -> Iterator[tuple[FullBatch, Tensor]]:
    data = {"name": "pca", "points": 100, "dimension": x.shape[1]}
    model = configure("linear-vae", latent_dim=latent_dim, dataset=data).model.build((x.shape[1],)).double()
    full = FullBatch(model, x, Intake(torch.device("cpu"), torch.float64), seed=0, samples=1, beta=1.0)
    begin = full.load({name: tensor.clone() for name, tensor in model.state_dict().items()})
    pca = principal_components(x)
    variance = noise_variance(pca, range(latent_dim))
    set_stationary(model, pca, range(latent_dim), variance)
    optimum = full.load({name: tensor.clone() for name, tensor in model.state_dict().items()})
    yield full, optimum
    yield full, begin + 0.9 * (optimum - begin)
    set_stationary(model, pca, range(latent_dim), variance)
    with torch.no_grad():
        model.decoder_log_var.sub_(torch.log1p(torch.tensor(2 * TOLERANCE, dtype=torch.float64)))
    yield full, full.load({name: tensor.clone() for name, tensor in model.state_dict().items()})
