"""The experiments of the paper: their runs, and what is expected of them."""

from __future__ import annotations

from elboverse.reproduction.expectations import (
    Expectation,
    Expected,
    Figure,
    Limits,
    expected_file,
    found_at,
    load_expected,
)
from elboverse.reproduction.experiments import (
    Checked,
    Experiment,
    departures,
    experiments,
    find_experiment,
    require_same_experiment,
    train_runs,
)

__all__ = [
    "Checked",
    "Expectation",
    "Expected",
    "Experiment",
    "Figure",
    "Limits",
    "departures",
    "expected_file",
    "experiments",
    "find_experiment",
    "found_at",
    "load_expected",
    "require_same_experiment",
    "train_runs",
]
