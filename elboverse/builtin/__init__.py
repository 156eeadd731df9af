"""The components that ship with elboverse. They use only what a stranger may use, and register the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from elboverse.builtin.analyses import ANALYSES
from elboverse.builtin.annealing import ANNEALING_SCHEDULES
from elboverse.builtin.constraints import CONSTRAINTS
from elboverse.builtin.datasets import DATASETS
from elboverse.builtin.launchers import LAUNCHERS
from elboverse.builtin.models import MODELS
from elboverse.builtin.networks import NETWORKS
from elboverse.components.hookspecs import Component, hookimpl

__all__ = [
    "elboverse_analyses",
    "elboverse_annealing_schedules",
    "elboverse_datasets",
    "elboverse_launchers",
    "elboverse_models",
    "elboverse_networks",
    "elboverse_weight_constraints",
]


def _offering(components: Iterable[Component]) -> Callable[[], Iterable[Component]]:
    @hookimpl
    def offer() -> Iterable[Component]:
        return components

    return offer


elboverse_models = _offering(MODELS)
elboverse_networks = _offering(NETWORKS)
elboverse_datasets = _offering(DATASETS)
elboverse_weight_constraints = _offering(CONSTRAINTS)
elboverse_annealing_schedules = _offering(ANNEALING_SCHEDULES)
elboverse_analyses = _offering(ANALYSES)
elboverse_launchers = _offering(LAUNCHERS)
