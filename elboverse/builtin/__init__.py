"""The components that ship with elboverse. They use only what a stranger may use, and register the same way."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse.builtin.analyses import ANALYSES
from elboverse.builtin.annealing import ANNEALING_SCHEDULES
from elboverse.builtin.constraints import CONSTRAINTS
from elboverse.builtin.datasets import DATASETS
from elboverse.builtin.models import MODELS
from elboverse.builtin.networks import NETWORKS
from elboverse.hookspecs import Component, hookimpl

__all__ = [
    "elboverse_analyses",
    "elboverse_annealing_schedules",
    "elboverse_datasets",
    "elboverse_models",
    "elboverse_networks",
    "elboverse_weight_constraints",
]


@hookimpl
def elboverse_models() -> Iterable[Component]:
    """Offer the VAE types of the paper."""
    return MODELS


@hookimpl
def elboverse_networks() -> Iterable[Component]:
    """Offer the networks."""
    return NETWORKS


@hookimpl
def elboverse_datasets() -> Iterable[Component]:
    """Offer the generated datasets and the user's own arrays."""
    return DATASETS


@hookimpl
def elboverse_weight_constraints() -> Iterable[Component]:
    """Offer the weight constraints of the paper."""
    return CONSTRAINTS


@hookimpl
def elboverse_annealing_schedules() -> Iterable[Component]:
    """Offer the annealing schedules."""
    return ANNEALING_SCHEDULES


@hookimpl
def elboverse_analyses() -> Iterable[Component]:
    """Offer the analyses of a run file."""
    return ANALYSES
