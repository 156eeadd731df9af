"""The best model without latents: what an ELBO must beat for its latents to be of use.

    gain = ELBO − ELBO_0,    ELBO_0 = max over constant outputs of mean_n ln p(x_n)

is 0 at full posterior collapse, in nats, and comparable between likelihoods of one data space.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.theory.identities import LOG_VAR_FLOOR

__all__ = ["MOST_POINTS", "gaussian_without_latents", "log_likelihood_without_latents"]

MOST_POINTS: Final = 2000
"""How many points it is fitted on and evaluated on, at most."""

FLAT: Final = 1e-5
"""Largest slope, in nats per unit of an output, that counts as none."""

MOST_VALUES: Final = 1 << 19
"""How many of their values, so that it costs a second or two with images."""


class _Constant(torch.nn.Module):
    """A model whose decoder has the same outputs for all latents."""

    def __init__(self, likelihood: Any, outputs: Tensor) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.outputs = torch.nn.Parameter(outputs)

    def decode(self, z: Tensor) -> Any:
        return self.likelihood(tuple(one.expand(*z.shape[:-1], -1) for one in self.outputs))


def log_likelihood_without_latents(likelihood: Any, train: Tensor, *others: Tensor) -> list[float]:
    """Return the mean log-likelihood of the best factorised model without latents, in nats per point.

    It is fitted on training points by L-BFGS in float64, the likelihood's own parameters included; for a Gaussian that
    is −½ Σ_d ln 2πe s²_d with one variance per dimension or for all, for a Bernoulli minus the entropies of the means.

    Args:
        likelihood: a `contracts.Likelihood`; a copy of it is fitted.
        train: points, shape (N, D).
        others: points that it is evaluated on besides, each of shape (M, D).

    Returns:
        The mean over the training points, then over each of the others; not a number where it could not be fitted.
    """
    train = train[: max(2, min(MOST_POINTS, MOST_VALUES // max(1, train.shape[-1])))].double()
    outputs = torch.zeros(likelihood.outputs, train.shape[-1], dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        model = _Constant(copy.deepcopy(likelihood).double().cpu(), outputs)

    def loss(points: Tensor) -> Tensor:
        mean: Tensor = families.decode(model, points.new_zeros(len(points), 1), points).log_prob(points).mean()
        return -mean

    with torch.no_grad():
        starts = _starts(likelihood, train)
        found = []
        for start in starts:
            model.outputs[0] = start
            value = float(loss(train))
            found.append(value if math.isfinite(value) else math.inf)
        model.outputs[0] = starts[found.index(min(found))]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    slopes = torch.autograd.grad(loss(train), parameters, allow_unused=True)
    if all(slope is None or float(slope.abs().max()) < FLAT for slope in slopes):
        with torch.no_grad():  # without torch's optimisers, whose first one takes seconds to import
            return [-float(loss(points[:MOST_POINTS].double())) for points in (train, *others)]
    optimiser = torch.optim.LBFGS(parameters, max_iter=40, tolerance_grad=FLAT, line_search_fn="strong_wolfe")
    optimiser.step(_closure(optimiser, lambda: loss(train)))
    with torch.no_grad():
        return [-float(loss(points[:MOST_POINTS].double())) for points in (train, *others)]


def _starts(likelihood: Any, train: Tensor) -> list[Tensor]:
    """Return outputs that may be the best already, by what the likelihood is defined on, shape (D,) each."""
    mean = train.mean(0)
    if getattr(likelihood, "location", False):
        return [mean]
    least = 1e-6
    if likelihood.support in {"binary", "unit", "open-unit"}:
        guess = mean.clamp(least, 1 - least).logit()
    else:
        guess = mean.clamp_min(least).log()
    return [guess, -guess, torch.zeros_like(guess)]


def gaussian_without_latents(log_var: Tensor, is_learned: bool, train: Tensor, *others: Tensor) -> list[float]:
    """Return the mean log-likelihood of the best Gaussian model without latents, in nats per point.

    −½ Σ_d [ln 2πs² + (x_d − x̄_d)²/s²], where s² is one learned variance for all dimensions, one for each, or fixed.

    Args:
        log_var: of the decoder: of shape () where it is one for all dimensions.
        is_learned: whether it is learned.
        train: points, shape (N, D), to which mean and variance are fitted.
        others: points that it is evaluated on besides, each of shape (M, D).
    """
    train = train.double()
    mean = train.mean(0)
    variance = (train - mean).square().mean(0)
    if not is_learned:
        variance = log_var.detach().double().cpu().exp().expand(train.shape[-1])
    elif log_var.ndim == 0:
        variance = variance.mean().expand(train.shape[-1])
    density = DiagonalGaussian(mean, variance.clamp_min(1e-300).log().clamp_min(LOG_VAR_FLOOR))
    return [float(density.log_prob(points.double()).mean()) for points in (train, *others)]


def _closure(optimiser: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Any]:
    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure
