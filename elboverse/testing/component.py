"""What is checked: a component by its name or record, with its options; and how a check fails."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from elboverse.components.hookspecs import Component
from elboverse.components.registry import Plugin, Registered, Selection, discover
from elboverse.config.structuring import build_converter, structure
from elboverse.errors import PluginError

__all__ = ["TOLERANCE", "close", "refuse_options", "require", "selection"]

TOLERANCE: Final = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far two ways to one number may be apart, relative to its size and at least absolutely."""


def selection(kind: str, component: str | Component, options: dict[str, Any]) -> Selection:
    """Return a component, given by name or as a record, with raw options structured.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a component of that kind and name.
    """
    registry = discover()
    if isinstance(component, str):
        registered = registry.find(kind, component)
    else:
        registered = Registered(kind, component, Plugin("under test", "no distribution", "0"))
    where = f"{kind} {registered.name!r}"
    return Selection(registered, structure(build_converter(registry), options, registered.config_class(), where))


def refuse_options(built: object, options: dict[str, Any]) -> None:
    """Check that no options were given for what is built already."""
    if options:
        raise TypeError(f"{type(built).__name__} is built already, so {', '.join(options)} cannot be given")


def require(holds: object, message: str) -> None:
    """Raise a `PluginError` with that message unless it holds."""
    if not holds:
        raise PluginError(message)


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Return whether two tensors have one shape and equal values within a tolerance."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance)
