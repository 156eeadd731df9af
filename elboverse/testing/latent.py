"""The checks of a prior and of a posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from elboverse.components.hookspecs import Component
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, require, selection
from elboverse.testing.distribution import agrees, integral, require_pure_sample
from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["check_posterior", "check_prior"]

SAMPLES: Final = 4000
BATCH: Final = 5


def check_prior(
    prior: str | Component, *, latent_dim: int = 3, data_shape: Sequence[int] = (5,), **options: Any
) -> None:
    """Check a prior against `contracts.PriorModule`, in float32 and float64.

    Samples are a function of their noise alone, the density has one number per point, the density over one latent
    adds up to 1, an entropy is that of the samples, a closed-form cross entropy is what samples average to, and
    the density depends on every parameter.

    Args:
        prior: its name, or its `Component`.
        latent_dim: H.
        data_shape: shape of one point.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a prior of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("prior", prior, options)
    who = f"prior {chosen.name!r}"
    shape = tuple(data_shape)
    for dtype in TOLERANCE:
        module, encode = _built(chosen, latent_dim, shape, dtype)
        require(
            isinstance(module.theorem, str),
            f"{who}: theorem is {module.theorem!r}; expected a sentence, or an empty string where R_h vanishes",
        )
        found = module(encode)
        for method in ("log_prob", "sample"):
            require(callable(getattr(found, method, None)), f"{who}: p(z) is a {type(found).__name__} without {method}")
        noise = torch.randn(SAMPLES, BATCH, latent_dim, generator=generator(0, "check_prior"), dtype=dtype)
        with torch.no_grad():
            samples = require_pure_sample(found, noise, (SAMPLES, BATCH, latent_dim), who)
            density = found.log_prob(samples)
            require(
                density.shape == (SAMPLES, BATCH),
                f"{who}: log_prob(z) has shape {tuple(density.shape)}; expected {(SAMPLES, BATCH)}, summed over "
                "the latents",
            )
            _require_entropy(found, samples, density, latent_dim, who)
            _require_cross_entropy(found, noise[:, :1].expand_as(noise), dtype, who)
        _require_gradients(module, found.log_prob(samples[:1]).mean(), who)
    module, encode = _built(chosen, 1, shape, torch.float64)
    with torch.no_grad():
        single = module(encode)
        noise = torch.randn(SAMPLES, 1, 1, generator=generator(1, "check_prior"), dtype=torch.float64)
        samples = single.sample(noise).reshape(-1, 1)
        total = integral(lambda value: single.log_prob(value.unsqueeze(1)).reshape(-1), samples, "real")
    require(abs(total - 1) < 0.02, f"{who}: its density adds up to {total:.4g} over one latent; expected 1")


def _built(chosen: Any, latent_dim: int, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = chosen.build(latent_dim, shape).to(dtype)
        encoder = _Encoder(math.prod(shape), latent_dim).to(dtype)
    return module, encoder


class _Encoder(nn.Module):
    """x → q(z|x), for a prior that is made of it."""

    def __init__(self, dimension: int, latent_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(dimension, 2 * latent_dim)

    def forward(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*self.head(x).chunk(2, dim=-1))


def _require_entropy(found: Any, samples: Tensor, density: Tensor, latent_dim: int, who: str) -> None:
    if not hasattr(found, "entropy"):
        return
    entropy = families.prior_entropy(found, samples)
    width = entropy.shape[-1]
    require(
        width in {1, latent_dim},
        f"{who}: entropy() has shape {tuple(found.entropy().shape)}; expected ({latent_dim},), or (1,) of all "
        "latents together",
    )
    total = entropy.sum(-1).mean()
    values = -density.mean(1)
    require(
        agrees(values, total),
        f"{who}: entropy() sums to {float(total):.4g}, but −E ln p(z) over its samples is {float(values.mean()):.4g}",
    )


def _require_cross_entropy(found: Any, noise: Tensor, dtype: torch.dtype, who: str) -> None:
    if not hasattr(found, "cross_entropy"):
        return
    stream = generator(2, "check_prior")
    mean = torch.randn(noise.shape[1], noise.shape[2], generator=stream, dtype=dtype)
    encoder = DiagonalGaussian(mean, torch.full_like(mean, -1.0))
    z = encoder.sample(noise)
    claimed = found.cross_entropy(encoder, z).sum(-1)
    values = -found.log_prob(z)
    for index in range(len(mean)):
        require(
            agrees(values[:, index], claimed.expand(len(mean))[index]),
            f"{who}: cross_entropy(encoder, z) is {float(claimed.expand(len(mean))[index]):.4g}, but −E_q ln p(z) over "
            f"samples is {float(values[:, index].mean()):.4g}",
        )


def _require_gradients(module: nn.Module, value: Tensor, who: str) -> None:
    trained = {name: part for name, part in module.named_parameters() if part.requires_grad}
    if not trained:
        return
    require(value.requires_grad, f"{who}: ln p(z) does not depend on its parameters {', '.join(trained)}")
    gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    for name, gradient in zip(trained, gradients, strict=True):
        require(gradient is not None, f"{who}: ln p(z) does not depend on parameter {name!r}, so it never trains")


def check_posterior(posterior: str | Component, *, latent_dim: int = 3, **options: Any) -> None:
    """Check a posterior against `contracts.Posterior`, in float32 and float64.

    Its head has `width` values and a start value of each; q(z|x) treats each point by itself; samples are a
    differentiable function of their noise alone; its entropy is −E ln q over its samples.

    Args:
        posterior: its name, or its `Component`.
        latent_dim: H.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a posterior of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("posterior", posterior, options)
    who = f"posterior {chosen.name!r}"
    for dtype in TOLERANCE:
        with torch.random.fork_rng(devices=[]):
            module = chosen.build(latent_dim).to(dtype)
        require(
            type(module.width) is int and module.width >= 1,
            f"{who}: width is {module.width!r}; expected how many values the head has, an integer",
        )
        bias = module.initial_bias(-1.0)
        require(
            isinstance(bias, Tensor) and bias.shape == (module.width,),
            f"{who}: initial_bias(log_var) must be a tensor of shape ({module.width},), as many as its width",
        )
        stream = generator(0, "check_posterior")
        outputs = (torch.randn(BATCH, module.width, generator=stream, dtype=dtype) * 0.5).requires_grad_()
        q = module(outputs)
        for method in ("mean", "sample", "entropy", "log_prob"):
            require(hasattr(q, method), f"{who}: q(z|x) is a {type(q).__name__} without {method}")
        shape = (BATCH, latent_dim)
        require(q.mean.shape == shape, f"{who}: mean has shape {tuple(q.mean.shape)}; expected {shape}")
        noise = torch.randn(SAMPLES, *shape, generator=stream, dtype=dtype)
        samples = require_pure_sample(q, noise, (SAMPLES, *shape), who)
        require(samples.requires_grad, f"{who}: sample(noise) does not depend on the head differentiably")
        alone = module(outputs[:1]).sample(noise[:, :1])
        require(
            torch.allclose(samples[:, :1], alone, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]),
            f"{who}: q(z|x) of a batch is not that of its points, one by one",
        )
        entropy = q.entropy()
        require(
            entropy.shape in {shape, (BATCH, 1)},
            f"{who}: entropy() has shape {tuple(entropy.shape)}; expected {shape}, or {(BATCH, 1)} where it has no "
            "parts",
        )
        density = q.log_prob(samples)
        density = density.sum(-1) if density.ndim == samples.ndim else density
        for index in range(BATCH):
            require(
                agrees(-density[:, index].detach(), entropy[index].sum().detach()),
                f"{who}: entropy() is {entropy[index].sum().item():.4g}, but −E ln q over its samples is "
                f"{-density[:, index].mean().item():.4g}",
            )
