"""SUSY, simulated collisions of particles, as a dataset for elboverse."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse import Component, hookimpl

__all__ = ["elboverse_datasets"]


@hookimpl
def elboverse_datasets() -> Iterable[Component]:
    """Offer the dataset."""
    return (
        Component(
            "susy",
            "elboverse_susy.dataset:SusyOptions",
            "elboverse_susy.dataset:build_susy",
            "5,000,000 simulated particle collisions, 18 features",
        ),
    )
