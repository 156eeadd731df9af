"""The launcher ``ray`` for studies of elboverse."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse import Component, hookimpl

__all__ = ["elboverse_launchers"]


@hookimpl
def elboverse_launchers() -> Iterable[Component]:
    """Offer the launcher."""
    return (
        Component(
            "ray",
            "elboverse_ray.launcher:RayOptions",
            "elboverse_ray.launcher:Ray",
            "tasks of a Ray cluster, or of one started here",
        ),
    )
