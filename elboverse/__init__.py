"""elboverse: train variational autoencoders and read their training through entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elboverse._version import __version__
from elboverse.faces import found_in

if TYPE_CHECKING:
    from elboverse.analysis.making import analyze
    from elboverse.components.hookspecs import CONTRACT, Component, hookimpl
    from elboverse.config import ExperimentConfig, load
    from elboverse.integrations.explaining import explain_loss
    from elboverse.integrations.judging import judge
    from elboverse.integrations.recording import record
    from elboverse.runfile import Run
    from elboverse.running.runs import resume, train
    from elboverse.running.sweep import resume_sweep, train_sweep
    from elboverse.theory.gaussian import DiagonalGaussian

__all__ = [
    "CONTRACT",
    "Component",
    "DiagonalGaussian",
    "ExperimentConfig",
    "Run",
    "TrainedModel",
    "__version__",
    "analyze",
    "explain_loss",
    "hookimpl",
    "judge",
    "load",
    "load_config",
    "record",
    "resume",
    "resume_sweep",
    "train",
    "train_sweep",
]

_HOMES = {
    "analyze": "elboverse.analysis.making",
    "CONTRACT": "elboverse.components.hookspecs",
    "Component": "elboverse.components.hookspecs",
    "DiagonalGaussian": "elboverse.theory.gaussian",
    "ExperimentConfig": "elboverse.config",
    "Run": "elboverse.runfile",
    "hookimpl": "elboverse.components.hookspecs",
    "explain_loss": "elboverse.integrations.explaining",
    "judge": "elboverse.integrations.judging",
    "TrainedModel": "elboverse.analysis.trained",
    "load": "elboverse.analysis.trained",
    "load_config": "elboverse.config:load",
    "record": "elboverse.integrations.recording",
    "resume": "elboverse.running.runs",
    "resume_sweep": "elboverse.running.sweep",
    "train": "elboverse.running.runs",
    "train_sweep": "elboverse.running.sweep",
}


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
