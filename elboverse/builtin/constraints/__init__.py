"""Weight constraints on the decoder's first linear layer."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["CONSTRAINTS"]

CONSTRAINTS = (
    Component(
        "rescale",
        "elboverse.builtin.constraints.rescale:RescaleOptions",
        "elboverse.builtin.constraints.rescale:build",
        "every column W_h is rescaled to norm one after each step",
    ),
    Component(
        "regularize",
        "elboverse.builtin.constraints.regularize:RegularizeOptions",
        "elboverse.builtin.constraints.regularize:build",
        "the penalty γ Σ_h (W_hᵀW_h − 1)² is added to the loss",
    ),
)
