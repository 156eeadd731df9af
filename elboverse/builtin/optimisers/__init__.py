"""Optimisers."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["OPTIMISERS"]

OPTIMISERS = (
    Component(
        "adam",
        "elboverse.builtin.optimisers.adam:AdamOptions",
        "elboverse.builtin.optimisers.adam:build",
        "Adam (Kingma and Ba 2015)",
    ),
    Component(
        "adamw",
        "elboverse.builtin.optimisers.adam:AdamWOptions",
        "elboverse.builtin.optimisers.adam:build_decaying",
        "Adam with decoupled weight decay (Loshchilov and Hutter 2019)",
    ),
    Component(
        "sgd",
        "elboverse.builtin.optimisers.sgd:SGDOptions",
        "elboverse.builtin.optimisers.sgd:build",
        "stochastic gradient descent, with momentum if wanted",
    ),
)
