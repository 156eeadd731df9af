"""Networks: the trainable functions between data and latents, without the heads that belong to the VAE types."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["NETWORKS"]

NETWORKS = (
    Component(
        "affine",
        "elboverse.builtin.networks.affine:AffineOptions",
        "elboverse.builtin.networks.affine:build",
        "no hidden layer: heads act on the data and on the latents directly",
    ),
    Component(
        "mlp",
        "elboverse.builtin.networks.mlp:MLPOptions",
        "elboverse.builtin.networks.mlp:build",
        "fully connected hidden layers; the decoder mirrors the encoder unless given",
    ),
    Component(
        "conv",
        "elboverse.builtin.networks.conv:ConvOptions",
        "elboverse.builtin.networks.conv:build",
        "convolutions with batch normalisation, for images; the decoder mirrors the encoder",
    ),
)
