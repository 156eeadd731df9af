"""The check of a weight constraint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from elboverse.components import conformance
from elboverse.components.hookspecs import Component
from elboverse.contracts import Penalty, Projection
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, close, refuse_options, require, selection

__all__ = ["check_constraint"]


def check_constraint(
    constraint: str | Component | Projection | Penalty, *, weight_shape: tuple[int, int] = (6, 3), **options: Any
) -> None:
    """Check a weight constraint against `contracts.Projection` or `contracts.Penalty`, in float32 and float64.

    A projection keeps shape and number type, changes nothing the second time, leaves its argument alone and runs
    under `torch.func.vmap`; a penalty is one finite number ≥ 0 with a finite gradient.

    Args:
        constraint: its name, its `Component`, or a constraint that was built already.
        weight_shape: (F, H) of the weight to try it on.
        options: its options; none for a built constraint.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a constraint of that name.
        PluginError: the contract is broken.
    """
    if isinstance(constraint, str | Component):
        chosen = selection("constraint", constraint, options)
        who, built = f"constraint {chosen.name!r}", chosen.build()
    else:
        refuse_options(constraint, options)
        who, built = type(constraint).__name__, constraint
    for dtype, tolerance in TOLERANCE.items():
        weight = torch.randn(weight_shape, generator=generator(0, "check_constraint"), dtype=dtype)
        checked = conformance.require_constraint(built, _Weight(weight), who)
        given = weight.clone()
        if isinstance(checked, Projection):
            projected = checked.project(given)
            require(torch.equal(given, weight), f"{who}: project(weight) changes its argument")
            require(projected.dtype == dtype, f"{who}: project(weight) returns {projected.dtype} for {dtype}")
            require(close(checked.project(projected), projected, tolerance), f"{who}: projecting twice is not once")
            stacked = vmap(checked.project)(torch.stack((weight, 2 * weight)))
            require(close(stacked[0], projected, tolerance), f"{who}: project(weight) differs under torch.func.vmap")
        if isinstance(checked, Penalty):
            value = checked.penalty(given.requires_grad_())
            number = float(value.detach())
            require(0 <= number < float("inf"), f"{who}: penalty(weight) is {number}; expected a finite number ≥ 0")
            require(value.requires_grad, f"{who}: penalty(weight) does not depend on the weight differentiably")
            (gradient,) = torch.autograd.grad(value, given)
            require(bool(gradient.isfinite().all()), f"{who}: the gradient of penalty(weight) is not finite")


class _Weight(nn.Module):
    """The least model that a constraint can act on."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def constrained_weight(self) -> str:
        return "weight"
