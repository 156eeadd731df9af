"""Analyses of a finished or running run, read from its run file. None needs torch; matplotlib only draws figures."""

from __future__ import annotations

from elboverse.hookspecs import Component

__all__ = ["ANALYSES"]

ANALYSES: tuple[Component, ...] = (
    Component(
        "bounds",
        "elboverse.builtin.analyses.bounds:BoundsOptions",
        "elboverse.builtin.analyses.bounds:build",
        "ELBO, entropy sum and held-out ELBO through training, and the difference in %",
    ),
    Component(
        "collapse",
        "elboverse.builtin.analyses.collapse:CollapseOptions",
        "elboverse.builtin.analyses.collapse:build",
        "which latents are active and which have collapsed, by encoder entropy and by entropy drop",
    ),
    Component(
        "stationarity",
        "elboverse.builtin.analyses.stationarity:StationarityOptions",
        "elboverse.builtin.analyses.stationarity:build",
        "whether the variances are stationary: R_σ, every R_h and the gap with standard errors",
    ),
)
