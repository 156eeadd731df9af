"""Analyses of a finished or running run, read from its run file.

Those of the trained model import torch when they are run, the others never; matplotlib only draws figures.
"""

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
        "spectrum",
        "elboverse.builtin.analyses.spectrum:SpectrumOptions",
        "elboverse.builtin.analyses.spectrum:build",
        "the data's eigenvalues, the latents that they predict, and how far the exact linear optimum is",
    ),
    Component(
        "stationarity",
        "elboverse.builtin.analyses.stationarity:StationarityOptions",
        "elboverse.builtin.analyses.stationarity:build",
        "whether the variances are stationary: R_σ, every R_h and the gap with standard errors",
    ),
    Component(
        "compare",
        "elboverse.builtin.analyses.compare:CompareOptions",
        "elboverse.builtin.analyses.compare:build",
        "several runs side by side: what differs in their configs, and where each one ended",
    ),
    Component(
        "selection",
        "elboverse.builtin.analyses.selection:SelectionOptions",
        "elboverse.builtin.analyses.selection:build",
        "which of several models BIC picks on a stream, from the ELBO and from the entropy sum",
    ),
    Component(
        "latents",
        "elboverse.builtin.analyses.latents:LatentsOptions",
        "elboverse.builtin.analyses.latents:build",
        "where the encoder puts the points: means, variances and second moments of each latent",
    ),
    Component(
        "samples",
        "elboverse.builtin.analyses.samples:SamplesOptions",
        "elboverse.builtin.analyses.samples:build",
        "data, reconstructions and samples from the prior, in data units",
    ),
    Component(
        "animate",
        "elboverse.builtin.analyses.animate:AnimateOptions",
        "elboverse.builtin.analyses.animate:build",
        "latent space and data space through training, as a GIF or MP4, from recorded frames",
    ),
    Component(
        "variance",
        "elboverse.builtin.analyses.variance:VarianceOptions",
        "elboverse.builtin.analyses.variance:build",
        "how much ELBO and entropy sum scatter when few points estimate them",
    ),
)
