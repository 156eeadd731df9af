"""The activation functions that networks offer by name."""

from __future__ import annotations

from typing import Final, Literal

from torch import nn

__all__ = ["ACTIVATIONS", "Activation", "OutputActivation"]

Activation = Literal["relu", "leaky-relu", "tanh", "sigmoid", "softplus", "elu", "gelu", "silu"]

OutputActivation = Literal["identity", "sigmoid", "tanh", "leaky-relu"]

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
"""Each name and the layer, with the layer's default settings."""
