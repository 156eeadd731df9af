"""The VAE types of the paper. They differ only in how the decoder's and the prior's variance are parameterised."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["MODELS"]

MODELS = (
    Component(
        "vae",
        "elboverse.builtin.models.vae:VAEOptions",
        "elboverse.builtin.models.vae:build",
        "any likelihood, prior and posterior",
    ),
    Component(
        "vae-0",
        "elboverse.builtin.models.vae0:VAE0Options",
        "elboverse.builtin.models.vae0:build",
        "decoder variance fixed, standard normal prior",
    ),
    Component(
        "vae-1",
        "elboverse.builtin.models.vae1:VAE1Options",
        "elboverse.builtin.models.vae1:build",
        "decoder variance learned, standard normal prior",
    ),
    Component(
        "vae-2",
        "elboverse.builtin.models.vae2:VAE2Options",
        "elboverse.builtin.models.vae2:build",
        "decoder and prior variances learned, first decoder layer constrained",
    ),
    Component(
        "vae-3",
        "elboverse.builtin.models.vae3:VAE3Options",
        "elboverse.builtin.models.vae3:build",
        "decoder variance per dimension as a function of the latents, standard normal prior",
    ),
    Component(
        "linear-vae",
        "elboverse.builtin.models.linear_vae:LinearVAEOptions",
        "elboverse.builtin.models.linear_vae:build",
        "affine encoder and decoder with an exact ELBO; its optimum is probabilistic PCA",
    ),
)
