"""Sinks: what follows a run while it is trained."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["SINKS"]

SINKS = (
    Component(
        "tensorboard",
        "elboverse.builtin.sinks.tensorboard:TensorBoardOptions",
        "elboverse.builtin.sinks.tensorboard:build",
        "scalars, charts and pictures for TensorBoard",
    ),
    Component(
        "csv",
        "elboverse.builtin.sinks.table:CSVOptions",
        "elboverse.builtin.sinks.table:build",
        "steps and evaluations as text tables, to follow with tail -f",
    ),
)
