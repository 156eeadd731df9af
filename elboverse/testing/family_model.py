"""The check of a model that is not three diagonal Gaussians."""

from __future__ import annotations

import copy
import math
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from elboverse.components.behaviour import require_known_methods
from elboverse.components.family_behaviour import require_family_behaviour
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, close, require
from elboverse.testing.distribution import agrees, require_pure_sample
from elboverse.theory import families

__all__ = ["check_family"]

SAMPLES: Final = 2000


def check_family(module: nn.Module, x: Tensor, latent_dim: int, who: str) -> str:
    """Check a model whose shapes have been checked, and return why it cannot be trained as replicas in one step.

    Args:
        module: in evaluation mode.
        x: points, with their conditions behind them, shape (B, D + C).
        latent_dim: H.
        who: the model, for messages.

    Raises:
        PluginError: the contract is broken.
    """
    require_known_methods(module, who)
    require_family_behaviour(module, x, latent_dim, who)
    noise = torch.randn(len(x), latent_dim, generator=generator(0, "check_model", "family"), dtype=x.dtype)
    _require_pointwise(module, x, noise, who)
    _require_latents(module, x, latent_dim, who)
    return _obstacle(module, x, noise, who)


@torch.no_grad()
def _require_pointwise(module: Any, x: Tensor, noise: Tensor, who: str) -> None:
    given = x.clone()
    together = families.family_terms(module, given, noise, average_points=False)
    require(torch.equal(given, x), f"{who}: encode(x) or decode(z) changes its argument in place; work on a copy of it")
    for row in range(len(x)):
        part = slice(row, row + 1)
        alone = families.family_terms(module, x[part], noise[part], average_points=False)
        for name in ("log_likelihood", "encoder_entropy"):
            whole, one = getattr(together, name)[part], getattr(alone, name)
            require(
                close(whole, one.expand_as(whole), TOLERANCE[x.dtype] * (1 + float(one.abs().max()))),
                f"{who}: {name} of a batch is not that of its points, one by one; in evaluation mode each point is "
                "treated by itself",
            )


@torch.no_grad()
def _require_latents(module: Any, x: Tensor, latent_dim: int, who: str) -> None:
    """Check that entropies of encoder and prior are those of their samples."""
    encoder, prior = families.encode(module, x), module.prior()
    shape = (SAMPLES, len(x), latent_dim)
    noise = torch.randn(shape, generator=generator(1, "check_model", "family"), dtype=x.dtype)
    z = require_pure_sample(encoder, noise, shape, f"{who}: q(z|x)")
    if hasattr(encoder, "log_prob"):
        for row in range(len(x)):
            entropy = encoder.entropy()[row].sum()
            density = -encoder.log_prob(z)[:, row]
            require(
                agrees(density, entropy),
                f"{who}: the entropy of q(z|x) is {float(entropy):.4g}, but −E ln q over its samples is "
                f"{float(density.mean()):.4g}",
            )
    drawn = require_pure_sample(prior, noise, shape, f"{who}: p(z)")
    if hasattr(prior, "entropy"):
        claimed = families.prior_entropy(prior, drawn).sum(-1).mean()
        values = -prior.log_prob(drawn).mean(1)
        require(
            agrees(values, claimed),
            f"{who}: the entropy of p(z) is {float(claimed):.4g}, but −E ln p over its samples is "
            f"{float(values.mean()):.4g}",
        )
    decoder = families.decode(module, encoder.mean, x)
    values = families.observed(module, x)
    density = decoder.log_prob(values)
    require(
        density.shape == (len(x),) and bool(density.isfinite().all()),
        f"{who}: ln p(x|z) of points in [0, 1] has shape {tuple(density.shape)} or is not finite; expected ({len(x)},)",
    )
    require(math.isfinite(float(prior.log_prob(encoder.mean).sum())), f"{who}: ln p(z) is not finite")


class _Bound(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        own = getattr(self.model, "objective", None)
        if callable(own):
            found: Tensor = own(x, noise, x.new_ones(()))
            return found
        return families.family_terms(self.model, x, noise).elbo


def _obstacle(module: nn.Module, x: Tensor, noise: Tensor, who: str) -> str:
    bound = _Bound(module)
    expected = bound(x, noise)
    parameters, buffers = stack_module_state([bound, copy.deepcopy(bound)])
    try:
        found = vmap(lambda *state: functional_call(bound, state, (x, noise)))(parameters, buffers)
        found.sum().backward()
    except Exception as error:  # noqa: BLE001 - whatever torch raises where vmap has no rule
        return str(error).partition("\n")[0]
    same = close(found, expected.expand(2), TOLERANCE[x.dtype] * (1 + float(expected.detach().abs())))
    require(same, f"{who}: what it is trained by differs under torch.func.vmap")
    return ""
