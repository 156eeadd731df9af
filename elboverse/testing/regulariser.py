"""The check of a regulariser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from elboverse.components.hookspecs import Component
from elboverse.runfile import schema
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, close, require, selection
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["check_regulariser"]

BATCH, DIMENSION, LATENTS = 8, 5, 3


def check_regulariser(regulariser: str | Component, **options: Any) -> tuple[str, ...]:
    """Check a regulariser against `contracts.Regulariser` and return the names of its terms.

    With one sample per point and with several, each term is a finite number with a name of its own; calling again gives
    the same; the arguments are left as they were; the terms are a differentiable function of q or z; their gradient
    is finite.

    Args:
        regulariser: its name, or its `Component`.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a regulariser of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("regulariser", regulariser, options)
    who = f"regulariser {chosen.name!r}"
    built = chosen.build()
    names: tuple[str, ...] = ()
    for dtype in TOLERANCE:
        for samples in ((), (2,)):
            found = _names(built, samples, dtype, who)
            require(not names or found == names, f"{who}: extra(x, q, z) names {found} and then {names}")
            names = found
    return names


def _names(built: Any, samples: tuple[int, ...], dtype: torch.dtype, who: str) -> tuple[str, ...]:
    stream = generator(0, "check_regulariser")
    x = torch.rand(BATCH, DIMENSION, generator=stream, dtype=dtype)
    mean = torch.randn(BATCH, LATENTS, generator=stream, dtype=dtype).requires_grad_()
    log_var = torch.randn(BATCH, LATENTS, generator=stream, dtype=dtype).requires_grad_()
    q = DiagonalGaussian(mean, log_var)
    z = q.sample(torch.randn(*samples, BATCH, LATENTS, generator=stream, dtype=dtype))
    kept = x.clone(), z.detach().clone()
    before = torch.get_rng_state()
    terms, again = (built.extra(x, q, z) for _ in range(2))  # noqa: S610 - no SQL
    require(
        isinstance(terms, Mapping) and all(isinstance(value, Tensor) and value.ndim == 0 for value in terms.values()),
        f"{who}: extra(x, q, z) must return name → tensor of shape (), not {terms!r}",
    )
    for name in terms:
        require(
            schema.is_name(name) and name not in schema.UNITS,
            f"{who}: extra(x, q, z) names a term {name!r}; expected a lower-case name of its own",
        )
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{who}: extra(x, q, z) draws random numbers, so a run could not be resumed; use the samples z",
    )
    same = terms.keys() == again.keys() and all(torch.equal(terms[name], again[name]) for name in terms)
    require(same, f"{who}: extra(x, q, z) differs from call to call")
    require(
        torch.equal(x, kept[0]) and close(z.detach(), kept[1], 0.0),
        f"{who}: extra(x, q, z) changes its arguments in place; work on copies",
    )
    require(terms, f"{who}: extra(x, q, z) names no term")
    total = torch.stack(list(terms.values())).sum()
    require(total.isfinite(), f"{who}: a term of extra(x, q, z) is not finite")
    require(
        total.requires_grad,
        f"{who}: no term of extra(x, q, z) depends on q or z differentiably, so it changes nothing",
    )
    gradients = torch.autograd.grad(total, [mean, log_var], allow_unused=True)
    finite = all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)
    require(finite, f"{who}: the gradient of extra(x, q, z) is not finite")
    return tuple(terms)
