"""Launchers: where the runs of a study are trained."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["LAUNCHERS"]

LAUNCHERS = (
    Component(
        "local",
        "elboverse.builtin.launchers.local:LocalOptions",
        "elboverse.builtin.launchers.local:Local",
        "processes of this machine, several at once",
    ),
)
