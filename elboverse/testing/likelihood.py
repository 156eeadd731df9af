"""The check of a likelihood."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from elboverse.components.hookspecs import Component
from elboverse.contracts import Support
from elboverse.data.support import SUPPORTS
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, close, require, selection
from elboverse.testing.distribution import agrees, integral, require_pure_sample
from elboverse.theory.distributions import DecoderDistribution, GaussianDecoder
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["check_likelihood"]

SAMPLES: Final = 2000
BATCH: Final = 4


def check_likelihood(likelihood: str | Component, *, data_shape: Sequence[int] = (6,), **options: Any) -> None:
    """Check a likelihood against `contracts.Likelihood`, in float32 and float64.

    Samples are a function of their noise alone and lie in the support; `mean` is their mean; the density of one number
    adds up to 1; where the distribution says its entropy and `log_reference`, −E ln(p/h) is that entropy. Of a
    `DecoderDistribution`, `residual_terms` is ln p − ln h + H̃, `score` is its gradient by automatic differentiation,
    and `varentropy_terms` the variance of the residual.

    Args:
        likelihood: its name, or its `Component`.
        data_shape: shape of one point.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a likelihood of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("likelihood", likelihood, options)
    who = f"likelihood {chosen.name!r}"
    dimension = math.prod(data_shape)
    for dtype in TOLERANCE:
        with torch.random.fork_rng(devices=[]):
            module = chosen.build(tuple(data_shape)).to(dtype)
        _require_declared(module, who)
        outputs = tuple(
            torch.randn(BATCH, dimension, generator=generator(0, "check_likelihood", index), dtype=dtype) * 0.5
            for index in range(module.outputs)
        )
        with torch.no_grad():
            distribution = _given(module(outputs), outputs[0])
            _require_samples(distribution, module, (BATCH, dimension), dtype, who)
        _require_terms(module, outputs, who)
    single = _single(chosen)
    if single is not None:
        _require_normalised(single, who)


def _require_declared(module: Any, who: str) -> None:
    require(isinstance(module, nn.Module), f"{who}: build must return a torch.nn.Module, not a {type(module).__name__}")
    require(
        type(module.outputs) is int and module.outputs >= 1,
        f"{who}: outputs is {module.outputs!r}; expected a number of output layers, at least 1",
    )
    known = typing.get_args(Support)
    require(module.support in known, f"{who}: support is {module.support!r}; expected one of {', '.join(known)}")
    require(
        isinstance(module.theorem, str),
        f"{who}: theorem is {module.theorem!r}; expected a sentence, or an empty string where ELBO = entropy sum holds",
    )


def _given(distribution: Any, like: Tensor) -> Any:
    """Return the distribution as it is used: a Gaussian with its terms, one that needs a total given it."""
    if type(distribution) is DiagonalGaussian:
        return GaussianDecoder(*distribution)
    given = getattr(distribution, "given", None)
    return distribution if given is None else given(like.abs().ceil())


def _require_samples(distribution: Any, module: Any, shape: tuple[int, ...], dtype: torch.dtype, who: str) -> None:
    for method in ("log_prob", "mean", "sample"):
        require(hasattr(distribution, method), f"{who}: its {type(distribution).__name__} has no {method}")
    noise = torch.randn(SAMPLES, *shape, generator=generator(0, "check_likelihood"), dtype=dtype)
    samples = require_pure_sample(distribution, noise, (SAMPLES, *shape), who)
    allowed, holds = SUPPORTS[module.support]
    require(
        bool(holds(samples).all()), f"{who}: sample(noise) gives values that are not {allowed}, which its support says"
    )
    mean = distribution.mean
    require(mean.shape == shape, f"{who}: mean has shape {tuple(mean.shape)}; expected {shape}")
    density = distribution.log_prob(samples)
    require(
        density.shape == (SAMPLES, shape[0]),
        f"{who}: log_prob(x) has shape {tuple(density.shape)}; expected {(SAMPLES, shape[0])}, summed over the "
        "dimensions of a point",
    )
    require(bool(density.isfinite().all()), f"{who}: log_prob(x) is not finite for a sample of its own")
    for index in range(shape[0]):
        heavy = module.support == "real" and float(samples[:, index].abs().max()) > 100
        if not heavy:  # a mean that may not exist is not looked for
            total = samples[:, index].sum(-1)
            require(
                agrees(total, mean[index].sum()),
                f"{who}: the mean of its samples is {float(total.mean()):.4g} where mean says "
                f"{float(mean[index].sum()):.4g} (summed over the dimensions)",
            )
        if hasattr(distribution, "entropy"):
            reference = distribution.log_reference(samples) if hasattr(distribution, "log_reference") else 0.0
            relative = -(density - reference)[:, index]
            entropy = distribution.entropy().expand(shape[0])[index]
            require(
                agrees(relative, entropy),
                f"{who}: entropy() is {float(entropy):.4g}, but −E(ln p − ln h) over its samples is "
                f"{float(relative.double().mean()):.4g}",
            )


def _require_terms(module: Any, outputs: tuple[Tensor, ...], who: str) -> None:
    """Check residual, score and varentropy of a distribution that offers them."""
    distribution = _given(module(tuple(output.clone().requires_grad_() for output in outputs)), outputs[0])
    if not isinstance(distribution, DecoderDistribution) or not isinstance(distribution, tuple):
        return
    fields = [field.detach().requires_grad_(field.requires_grad) for field in distribution]
    distribution = type(distribution)(*fields)
    noise = torch.randn(outputs[0].shape, generator=generator(1, "check_likelihood"), dtype=outputs[0].dtype)
    value = distribution.sample(noise).detach()
    tolerance = TOLERANCE[value.dtype] * 10
    expected = distribution.log_prob(value) - distribution.log_reference(value) + distribution.entropy()
    residual = distribution.residual_terms(value)
    require(
        close(residual.detach().sum(-1), expected.detach(), tolerance),
        f"{who}: residual_terms(x) is not ln p − ln h + entropy, term by term",
    )
    _, _, _, score = distribution.terms(value)
    total = -distribution.log_prob(value).sum()
    for index, (field, own) in enumerate(zip(fields, score, strict=True)):
        if own is None or not field.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(total, field, retain_graph=True)
        require(
            close(own.detach(), gradient, tolerance * 10),
            f"{who}: score(x) of field {index} is not the gradient of −ln p that automatic differentiation gives",
        )
    if hasattr(distribution, "given"):
        return  # what is given of a point is not the same for samples of it
    many = torch.randn(SAMPLES, *value.shape, generator=generator(2, "check_likelihood"), dtype=value.dtype)
    with torch.no_grad():
        spread = distribution.residual_terms(distribution.sample(many)).sum(-1)
        squares = spread.square().reshape(-1)
        claimed = distribution.varentropy().expand(value.shape[0]).mean()
    require(
        agrees(squares, claimed),
        f"{who}: varentropy_terms() says {float(claimed):.4g} where the variance of the residual is "
        f"{float(squares.mean()):.4g}",
    )


def _single(chosen: Any) -> Any:
    """Return the distribution of one number; None where the likelihood is none of single numbers."""
    try:
        with torch.random.fork_rng(devices=[]):
            module = chosen.build((1,)).to(torch.float64)
        if module.support == "one-hot":
            return None
        with torch.no_grad():
            distribution = module(tuple(torch.full((1, 1), 0.3, dtype=torch.float64) for _ in range(module.outputs)))
    except Exception:  # noqa: BLE001 - a likelihood may be of groups or totals alone, whatever it raises
        return None
    if getattr(distribution, "given", None) is not None:
        return None
    return module.support, _given(distribution, torch.ones(1, 1))


def _require_normalised(single: tuple[str, Any], who: str) -> None:
    support, distribution = single
    noise = torch.randn(SAMPLES, 1, 1, generator=generator(3, "check_likelihood"), dtype=torch.float64)
    with torch.no_grad():
        samples = distribution.sample(noise).reshape(-1, 1)
        found = integral(lambda value: distribution.log_prob(value.unsqueeze(1)).reshape(-1), samples, support)
    require(
        abs(found - 1) < 0.02,
        f"{who}: its density adds up to {found:.4g} over one number; expected 1, so ln p lacks a term or has one "
        "too many",
    )
