"""The launcher ``slurm`` for studies of elboverse."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse import Component, hookimpl

__all__ = ["elboverse_launchers"]


@hookimpl
def elboverse_launchers() -> Iterable[Component]:
    """Offer the launcher."""
    return (
        Component(
            "slurm",
            "elboverse_slurm.launcher:SlurmOptions",
            "elboverse_slurm.launcher:Slurm",
            "a SLURM job array, through submitit",
        ),
    )
