"""Annealing schedules: the weight β of the KL term through training."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["ANNEALING_SCHEDULES"]

ANNEALING_SCHEDULES = (
    Component(
        "constant",
        "elboverse.builtin.annealing.schedules:ConstantOptions",
        "elboverse.builtin.annealing.schedules:Constant",
        "the same β in every step (a β-VAE where it is not 1)",
    ),
    Component(
        "linear",
        "elboverse.builtin.annealing.schedules:LinearOptions",
        "elboverse.builtin.annealing.schedules:Linear",
        "β rises linearly over the first part of the run (the paper's)",
    ),
    Component(
        "cyclical",
        "elboverse.builtin.annealing.schedules:CyclicalOptions",
        "elboverse.builtin.annealing.schedules:Cyclical",
        "β rises linearly in each of several cycles (Fu et al. 2019)",
    ),
    Component(
        "sigmoid",
        "elboverse.builtin.annealing.schedules:SigmoidOptions",
        "elboverse.builtin.annealing.schedules:Sigmoid",
        "β follows a logistic curve (Bowman et al. 2016)",
    ),
    Component(
        "linear-warmup",
        "elboverse.builtin.annealing.rates:LinearWarmupOptions",
        "elboverse.builtin.annealing.rates:LinearWarmup",
        "rises linearly to 1 over the first steps (for learning rates)",
    ),
    Component(
        "cosine",
        "elboverse.builtin.annealing.rates:CosineOptions",
        "elboverse.builtin.annealing.rates:Cosine",
        "falls along half a cosine, after a warm-up if wanted (for learning rates)",
    ),
    Component(
        "step",
        "elboverse.builtin.annealing.rates:StepsOptions",
        "elboverse.builtin.annealing.rates:Steps",
        "falls by a factor a few times through the run (for learning rates)",
    ),
)
