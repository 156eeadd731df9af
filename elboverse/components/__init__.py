"""Finding components: the hooks, the record that they return, and the registry of what was found."""

from __future__ import annotations

from elboverse.components.hookspecs import HOOKS, PROJECT, Component, HookSpecs, hookimpl, selects
from elboverse.components.registry import Plugin, Registered, Registry, Selection, attributed, discover, normalised

__all__ = [
    "HOOKS",
    "PROJECT",
    "Component",
    "HookSpecs",
    "Plugin",
    "Registered",
    "Registry",
    "Selection",
    "attributed",
    "discover",
    "hookimpl",
    "normalised",
    "selects",
]
