"""Checks of what a model of any family does with two points: repeatable, pure, and trained in every part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elboverse.errors import PluginError
from elboverse.theory import families

__all__ = ["require_family_behaviour"]


def require_family_behaviour(model: Any, points: Tensor, latent_dim: int, who: str) -> bool:
    """Check what a model that is not three diagonal Gaussians does; return whether it draws random numbers in training.

    Its buffers, its mode and torch's random state are afterwards as they were.

    Args:
        model: whose shapes have been checked.
        points: what a batch holds, shape (n, D + C).
        latent_dim: H.
        who: the model and its plugin, for messages.

    Raises:
        PluginError: in evaluation mode it draws random numbers or differs from call to call, or a parameter is not
            trained by the ELBO, or its gradient is not finite.
    """
    training = model.training
    kept = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    noise = torch.linspace(-1.0, 1.0, len(points) * latent_dim, dtype=points.dtype).to(points.device)
    noise = noise.reshape(len(points), latent_dim)
    try:
        with torch.random.fork_rng(devices=[]):
            model.eval()
            _, draws = _elbo(model, points, noise)
            if draws:
                raise PluginError(
                    f"{who}: draws random numbers from torch in evaluation mode; noise is passed in by the engine, "
                    "never drawn"
                )
            first, again = (_elbo(model, points, noise)[0].detach() for _ in range(2))
            if not torch.equal(first, again):
                raise PluginError(f"{who}: its ELBO differs from call to call in evaluation mode")
            model.train()
            elbo, draws = _elbo(model, points, noise)
            if callable(getattr(model, "objective", None)):
                beta = torch.ones((), dtype=points.dtype, device=points.device)
                _require_trained(model, model.objective(points, noise, beta), who, "its objective")
            else:
                _require_trained(model, elbo, who, "the ELBO")
    finally:
        model.train(training)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
    return draws


def _elbo(model: Any, points: Tensor, noise: Tensor) -> tuple[Tensor, bool]:
    """Return the ELBO, and whether torch's random numbers were drawn."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    elbo = families.family_terms(model, points, noise).elbo
    return elbo, not torch.equal(before, torch.get_rng_state())


def _require_trained(model: Any, elbo: Tensor, who: str, what: str) -> None:
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not named or not elbo.requires_grad:
        raise PluginError(f"{who}: it has no parameter that {what} depends on")
    gradients = torch.autograd.grad(elbo, list(named.values()), allow_unused=True)
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is None:
            raise PluginError(
                f"{who}: {what} does not depend on parameter {name!r}, so it never trains; use it (and leave out "
                "detach() and no_grad() on its way), take it out, or set requires_grad_(False)"
            )
        if bool(elbo.isfinite()) and not bool(gradient.isfinite().all()):
            raise PluginError(f"{who}: the gradient of {what} in parameter {name!r} is not finite")
