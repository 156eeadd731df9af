"""Checks of what a model of any family does with two points: repeatable, pure, and trained in every part."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from elboverse.components.parts import objective_of
from elboverse.components.probing import (
    kept_attributes,
    kept_buffers,
    numpy_state,
    require_registered,
    restored,
    what_changed,
)
from elboverse.errors import PluginError
from elboverse.theory import families

__all__ = ["require_family_behaviour"]

TERMS = ("log_likelihood", "cross_entropy", "encoder_entropy")
"""What every model has, per point."""

RELATIVE = {torch.float32: 1e-4, torch.float64: 1e-9}


def require_family_behaviour(model: Any, points: Tensor, latent_dim: int, who: str) -> bool:
    """Check what a model that is not three diagonal Gaussians does; return whether it draws random numbers in training.

    Its buffers, attributes, its mode and all random states are afterwards as they were.

    Args:
        model: whose shapes have been checked.
        points: what a batch holds, shape (n, D + C).
        latent_dim: H.
        who: the model and its plugin, for messages.

    Raises:
        PluginError: it draws random numbers in evaluation mode, or ever from Python or NumPy; changes its arguments;
            keeps something between calls; treats points together in evaluation mode; differs from call to call; is not
            finite; or a parameter is not trained.
    """
    require_registered(model, who)
    noise = torch.linspace(-1.0, 1.0, len(points) * latent_dim, dtype=points.dtype).to(points.device)
    noise = noise.reshape(len(points), latent_dim)
    with restored(model):
        model.eval()
        with torch.no_grad():
            terms = _Repeated(model, points, noise, who, training=False).terms()
            _require_memoryless(model, points, noise, who)
            _require_pointwise(model, points, noise, terms, who)
        model.train()
        with torch.no_grad():
            repeated = _Repeated(model, points, noise, who, training=True)
            repeated.terms()
        if callable(getattr(model, "objective", None)):
            _require_trained(model, objective_of(model, points, noise, who), who, "its objective")
        else:
            _require_trained(model, families.family_terms(model, points.clone(), noise).elbo, who, "the ELBO")
    return repeated.draws


class _Repeated:
    """Takes the terms of a batch twice under equal circumstances, and says what differs and why."""

    def __init__(self, model: Any, points: Tensor, noise: Tensor, who: str, *, training: bool) -> None:
        self._model, self._points, self._noise, self._who = model, points, noise, who
        self._training = training
        self.draws = False

    def terms(self) -> families.FamilyTerms:
        first = self._taken()
        attributes, buffers = kept_attributes(self._model), kept_buffers(self._model)
        outside = random.getstate(), numpy_state()
        again = self._taken()
        if outside[0] != random.getstate() or outside[1] != numpy_state():
            raise PluginError(
                f"{self._who}: it draws random numbers from Python or NumPy, so that a run could not be resumed or "
                "repeated; draw from torch, in training mode alone"
            )
        if self.draws and not self._training:
            raise PluginError(
                f"{self._who}: it draws random numbers from torch in evaluation mode; noise is passed in by the "
                "engine, never drawn"
            )
        changed = what_changed(attributes, kept_attributes(self._model))
        if changed:
            raise PluginError(
                f"{self._who}: encode or decode changes the attribute {changed!r}, which no checkpoint holds, so that "
                "a resumed run would differ; keep nothing between calls, or register a buffer and update it in "
                "training mode"
            )
        changed = what_changed(buffers, kept_buffers(self._model))
        if changed and (not self._training or changed not in self._model.state_dict()):
            why = "which is not persistent, so no checkpoint holds it" if self._training else "in evaluation mode"
            raise PluginError(f"{self._who}: encode or decode changes the buffer {changed!r}, {why}")
        for name in TERMS:
            if not torch.equal(getattr(first, name), getattr(again, name)):
                mode = "training" if self._training else "evaluation"
                raise PluginError(
                    f"{self._who}: its {name} differs from call to call in {mode} mode, although all it is given and "
                    "torch's random state are the same; it must not use a generator, a clock or a counter of its own"
                )
        return first

    def _taken(self) -> families.FamilyTerms:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        given, noise = self._points.clone(), self._noise.clone()
        terms = families.family_terms(self._model, given, noise, average_points=False)
        if not (torch.equal(given, self._points) and torch.equal(noise, self._noise)):
            raise PluginError(f"{self._who}: encode or decode changes its argument in place; work on a copy of it")
        for name in TERMS:
            value = getattr(terms, name)
            if not bool(value.isfinite().all()):
                kind = "nan" if bool(value.isnan().any()) else "infinite"
                raise PluginError(
                    f"{self._who}: its {name} is {kind} for the first training points, with the initial parameters"
                )
        self.draws = self.draws or not torch.equal(before, torch.get_rng_state())
        return terms


def _require_memoryless(model: Any, points: Tensor, noise: Tensor, who: str) -> None:
    """Check that decode(z) does not depend on which points were encoded last."""
    observed = families.observed(model, points)
    before = families.decode(model, noise, points).log_prob(observed)
    families.encode(model, torch.cat((points.flip(0), points[:1])))
    after = families.decode(model, noise, points).log_prob(observed)
    if not torch.equal(before, after):
        raise PluginError(
            f"{who}: decode(z) gives something else after other points have been encoded, so it uses what encode(x) "
            "left behind; it must be a function of z alone, since the engine decodes latents of its own"
        )


def _require_pointwise(model: Any, points: Tensor, noise: Tensor, whole: families.FamilyTerms, who: str) -> None:
    alone = families.family_terms(model, points[:1], noise[:1], average_points=False)
    for name in TERMS:
        first, one = getattr(whole, name)[:1], getattr(alone, name)
        tolerance = RELATIVE.get(points.dtype, 1e-4) * (1 + float(one.abs().max()))
        if not torch.allclose(first, one.expand_as(first), rtol=0, atol=tolerance):
            raise PluginError(
                f"{who}: {name} of a batch is not that of its points, one by one; in evaluation mode each point is "
                "treated by itself"
            )


def _require_trained(model: Any, aim: Tensor, who: str, what: str) -> None:
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not named or not aim.requires_grad:
        raise PluginError(f"{who}: it has no parameter that {what} depends on")
    gradients = torch.autograd.grad(aim, list(named.values()), allow_unused=True)
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is None:
            raise PluginError(
                f"{who}: {what} does not depend on parameter {name!r}, so it never trains; use it (and leave out "
                "detach() and no_grad() on its way), take it out, or set requires_grad_(False)"
            )
        if bool(aim.isfinite()) and not bool(gradient.isfinite().all()):
            raise PluginError(f"{who}: the gradient of {what} in parameter {name!r} is not finite")
