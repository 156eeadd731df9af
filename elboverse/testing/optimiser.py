"""The check of an optimiser."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from elboverse.components import conformance
from elboverse.components.hookspecs import Component
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, require, selection

__all__ = ["check_optimiser"]

PARAMETERS: Final = 12
UPDATES: Final = 60
RATE: Final = 0.02


def check_optimiser(optimiser: str | Component, **options: Any) -> None:
    """Check an optimiser against `contracts.optimiser.Optimiser`, in float32 and float64.

    It changes parameters and state in place; it brings |θ|² down; two parameters of equal value and gradient stay
    equal; and stopped anywhere, with a new object that is given the state of the old one, it goes on bit for bit, so
    that it keeps nothing itself.

    Args:
        optimiser: its name, or its `Component`.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers an optimiser of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("optimiser", optimiser, options)
    who = f"optimiser {chosen.name!r}"
    for dtype in TOLERANCE:
        start = torch.randn(PARAMETERS, generator=generator(0, "check_optimiser"), dtype=dtype)
        start[1] = start[0]
        built = conformance.require_optimiser(chosen)
        values, state = start.clone(), _state(built, start, who)
        address = values.data_ptr()
        for update in range(UPDATES):
            if update == UPDATES // 2:
                kept = values.clone(), {name: part.clone() for name, part in state.items()}
            _updated(built, values, state, who)
        require(values.data_ptr() == address and not torch.equal(values, start), f"{who}: update changes no parameter")
        require(
            bool(values.isfinite().all()) and float(values.square().sum()) < float(start.square().sum()),
            f"{who}: {UPDATES} updates at rate {RATE} do not bring |θ|² down from {float(start.square().sum()):.3g} "
            f"(it is {float(values.square().sum()):.3g}); it must go against the gradient",
        )
        require(
            torch.equal(values[0], values[1]),
            f"{who}: two parameters of equal value and gradient part, so it draws random numbers or mixes them up",
        )
        again, state = kept
        fresh = conformance.require_optimiser(chosen)
        for _ in range(UPDATES - UPDATES // 2):
            _updated(fresh, again, state, who)
        require(
            torch.equal(again, values),
            f"{who}: a new object with the state of the old one goes on differently, so it keeps something itself that "
            "no checkpoint holds; keep it in state",
        )


def _state(built: Any, values: Tensor, who: str) -> dict[str, Tensor]:
    given = values.clone()
    state = built.state(given)
    require(torch.equal(given, values), f"{who}: state(values) changes its argument")
    require(
        isinstance(state, dict) and all(isinstance(part, Tensor) for part in state.values()),
        f"{who}: state(values) must return a dict of tensors, not {state!r}",
    )
    for name, part in state.items():
        require(
            part.shape in {(), values.shape},
            f"{who}: state(values)[{name!r}] has shape {tuple(part.shape)}; expected () or {tuple(values.shape)}",
        )
    return dict(state)


def _updated(built: Any, values: Tensor, state: dict[str, Tensor], who: str) -> None:
    held = {name: part.data_ptr() for name, part in state.items()}
    shapes = {name: part.shape for name, part in state.items()}
    built.update(values, 2 * values, state, RATE)
    kept = {name: part.data_ptr() for name, part in state.items()} == held and {
        name: part.shape for name, part in state.items()
    } == shapes
    require(kept, f"{who}: update puts new tensors into the state; change them in place, so that checkpoints hold them")
