"""Analyses of a finished or running run, read from its run file.

Those of the trained model import torch when they are run, the others never; matplotlib only draws figures.
"""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["ANALYSES"]

ANALYSES: tuple[Component, ...] = (
    Component(
        "bounds",
        "elboverse.builtin.analyses.bounds.analysis:BoundsOptions",
        "elboverse.builtin.analyses.bounds.analysis:build",
        "ELBO, entropy sum and held-out ELBO through training, and the difference in %",
    ),
    Component(
        "collapse",
        "elboverse.builtin.analyses.collapse.analysis:CollapseOptions",
        "elboverse.builtin.analyses.collapse.analysis:build",
        "which latents are active and which have collapsed, by encoder entropy and by entropy drop",
    ),
    Component(
        "spectrum",
        "elboverse.builtin.analyses.spectrum.analysis:SpectrumOptions",
        "elboverse.builtin.analyses.spectrum.analysis:build",
        "the data's eigenvalues, the latents that they predict, and how far the exact linear optimum is",
    ),
    Component(
        "stationarity",
        "elboverse.builtin.analyses.stationarity.analysis:StationarityOptions",
        "elboverse.builtin.analyses.stationarity.analysis:build",
        "whether the variances are stationary: R_σ, every R_h and the gap with standard errors",
    ),
    Component(
        "compare",
        "elboverse.builtin.analyses.compare.analysis:CompareOptions",
        "elboverse.builtin.analyses.compare.analysis:build",
        "several runs side by side: what differs in their configs, and where each one ended",
    ),
    Component(
        "dimension",
        "elboverse.builtin.analyses.dimension.analysis:DimensionOptions",
        "elboverse.builtin.analyses.dimension.analysis:build",
        "how many latents the data need, from runs with different numbers of them",
    ),
    Component(
        "selection",
        "elboverse.builtin.analyses.selection.analysis:SelectionOptions",
        "elboverse.builtin.analyses.selection.analysis:build",
        "which of several models BIC picks on a stream, from the ELBO and from the entropy sum",
    ),
    Component(
        "latents",
        "elboverse.builtin.analyses.latents.analysis:LatentsOptions",
        "elboverse.builtin.analyses.latents.analysis:build",
        "where the encoder puts the points: means, variances and second moments of each latent",
    ),
    Component(
        "samples",
        "elboverse.builtin.analyses.samples.analysis:SamplesOptions",
        "elboverse.builtin.analyses.samples.analysis:build",
        "data, reconstructions and samples from the prior, in data units",
    ),
    Component(
        "animate",
        "elboverse.builtin.analyses.animate.analysis:AnimateOptions",
        "elboverse.builtin.analyses.animate.analysis:build",
        "latent space and data space through training, as a GIF or MP4, from recorded frames",
    ),
    Component(
        "variance",
        "elboverse.builtin.analyses.variance.analysis:VarianceOptions",
        "elboverse.builtin.analyses.variance.analysis:build",
        "how much ELBO and entropy sum scatter when few points estimate them",
    ),
)
