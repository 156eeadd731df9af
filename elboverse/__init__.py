"""elboverse: train Gaussian variational autoencoders and read their training through entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig, load
    from elboverse.execution import resume, train
    from elboverse.gaussian import DiagonalGaussian
    from elboverse.hookspecs import CONTRACT, Component, hookimpl
    from elboverse.integrations.recording import record
    from elboverse.runfile import Run
    from elboverse.sweep import resume_sweep, train_sweep

__version__ = "0.1.0"

__all__ = [
    "CONTRACT",
    "Component",
    "DiagonalGaussian",
    "ExperimentConfig",
    "Run",
    "hookimpl",
    "load",
    "record",
    "resume",
    "resume_sweep",
    "train",
    "train_sweep",
]

_HOMES = {
    "CONTRACT": "elboverse.hookspecs",
    "Component": "elboverse.hookspecs",
    "DiagonalGaussian": "elboverse.gaussian",
    "ExperimentConfig": "elboverse.config",
    "Run": "elboverse.runfile",
    "hookimpl": "elboverse.hookspecs",
    "load": "elboverse.config",
    "record": "elboverse.integrations.recording",
    "resume": "elboverse.execution",
    "resume_sweep": "elboverse.sweep",
    "train": "elboverse.execution",
    "train_sweep": "elboverse.sweep",
}


def __getattr__(name: str) -> Any:
    # Imported at first use: `elboverse --help` must answer at once, and reading a run needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'elboverse' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
