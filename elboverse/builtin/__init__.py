"""The components that ship with elboverse. They use only what a stranger may use, and register the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from elboverse.builtin.analyses import ANALYSES
from elboverse.builtin.annealing import ANNEALING_SCHEDULES
from elboverse.builtin.constraints import CONSTRAINTS
from elboverse.builtin.datasets import DATASETS
from elboverse.builtin.launchers import LAUNCHERS
from elboverse.builtin.likelihoods import LIKELIHOODS
from elboverse.builtin.models import MODELS
from elboverse.builtin.networks import NETWORKS
from elboverse.builtin.optimisers import OPTIMISERS
from elboverse.builtin.posteriors import POSTERIORS
from elboverse.builtin.priors import PRIORS
from elboverse.builtin.regularisers import REGULARISERS
from elboverse.builtin.sinks import SINKS
from elboverse.components.hookspecs import Component, hookimpl

__all__ = [
    "elboverse_analyses",
    "elboverse_annealing_schedules",
    "elboverse_datasets",
    "elboverse_launchers",
    "elboverse_likelihoods",
    "elboverse_models",
    "elboverse_networks",
    "elboverse_optimisers",
    "elboverse_posteriors",
    "elboverse_priors",
    "elboverse_regularisers",
    "elboverse_sinks",
    "elboverse_weight_constraints",
]


def _offering(components: Iterable[Component]) -> Callable[[], Iterable[Component]]:
    @hookimpl
    def offer() -> Iterable[Component]:
        return components

    return offer


elboverse_models = _offering(MODELS)
elboverse_networks = _offering(NETWORKS)
elboverse_likelihoods = _offering(LIKELIHOODS)
elboverse_priors = _offering(PRIORS)
elboverse_posteriors = _offering(POSTERIORS)
elboverse_regularisers = _offering(REGULARISERS)
elboverse_datasets = _offering(DATASETS)
elboverse_weight_constraints = _offering(CONSTRAINTS)
elboverse_annealing_schedules = _offering(ANNEALING_SCHEDULES)
elboverse_analyses = _offering(ANALYSES)
elboverse_launchers = _offering(LAUNCHERS)
elboverse_optimisers = _offering(OPTIMISERS)
elboverse_sinks = _offering(SINKS)
