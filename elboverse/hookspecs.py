"""The hooks through which plugins offer components, and `Component`, the record that they return.

A plugin is a module (or any object) named in the entry-point group ``elboverse`` that implements some of these
hooks. Each hook takes nothing and returns an iterable of `Component`; it must have no side effects, and no
order among plugins may be assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import pluggy

__all__ = ["HOOKS", "PROJECT", "Component", "HookSpecs", "hookimpl", "selects"]

PROJECT: Final = "elboverse"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

HOOKS: Final = {
    "model": "elboverse_models",
    "network": "elboverse_networks",
    "dataset": "elboverse_datasets",
    "constraint": "elboverse_weight_constraints",
    "annealing": "elboverse_annealing_schedules",
    "analysis": "elboverse_analyses",
}
"""Each kind of component and the hook that offers it. The kind is also its table's key in a config."""


@attrs.frozen
class Component:
    """One thing that a plugin offers under a name.

    Args:
        name: how a config names it. Case, ``_`` and ``-`` do not matter when it is looked up.
        config: the attrs class of its options, or its import path ``"package.module:Class"``.
        build: what makes it, or its import path. It is called with the structured options first, then by kind:
            model ``(options, data_shape)``, network ``(options, data_shape, latent_dim)``, dataset
            ``(options, seed)``, constraint and annealing ``(options)``, analysis ``(options, run)``, or
            ``(options, runs)`` with a tuple of runs if its options class has ``several_runs = True``.
        summary: one line for ``elboverse plugins``.
    """

    name: str
    config: type[Any] | str
    build: Callable[..., Any] | str
    summary: str


class HookSpecs:
    """The hooks, one per kind of component."""

    @hookspec
    def elboverse_models(self) -> Iterable[Component]:
        """Offer VAE types; `build(options, data_shape)` returns a `contracts.Model`."""
        raise AssertionError("a specification is never called")

    @hookspec
    def elboverse_networks(self) -> Iterable[Component]:
        """Offer networks; `build(options, data_shape, latent_dim)` returns a `contracts.Network`."""
        raise AssertionError("a specification is never called")

    @hookspec
    def elboverse_datasets(self) -> Iterable[Component]:
        """Offer datasets; `build(options, seed)` returns `contracts.Data`."""
        raise AssertionError("a specification is never called")

    @hookspec
    def elboverse_weight_constraints(self) -> Iterable[Component]:
        """Offer weight constraints; `build(options)` returns a `contracts.Projection` or a `contracts.Penalty`."""
        raise AssertionError("a specification is never called")

    @hookspec
    def elboverse_annealing_schedules(self) -> Iterable[Component]:
        """Offer annealing schedules; `build(options)` returns a `contracts.AnnealingSchedule`."""
        raise AssertionError("a specification is never called")

    @hookspec
    def elboverse_analyses(self) -> Iterable[Component]:
        """Offer analyses; `build(options, run)` returns a `contracts.Result`.

        Each becomes a command ``elboverse analyze NAME`` whose options are the fields of its config class.
        """
        raise AssertionError("a specification is never called")


def selects(kind: str, default: str | None = None, *, help: str = "") -> Any:  # noqa: A002 - as in click
    """Return an attrs field that selects a component of another kind, as a model selects its network.

    In a config it is a table with a ``name`` and the options of the component so named. In the structured
    options it is a `registry.Selection`, whose `build` makes the component.

    Args:
        kind: a key of `HOOKS`.
        default: name of the component that is taken where the table is missing; None makes it required.
        help: one line on what it is for.

    Example:
        >>> @attrs.frozen(kw_only=True)
        ... class MyOptions:
        ...     network: "Selection" = selects("network", default="mlp")
    """
    if kind not in HOOKS:
        raise ValueError(f"kind is one of {', '.join(HOOKS)}, not {kind!r}")
    return attrs.field(metadata={"elboverse.kind": kind, "elboverse.default": default, "help": help})
