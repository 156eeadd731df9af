"""Linear layers that keep features before points in memory, which is what replicas under `vmap` are fastest with."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from elboverse.contracts import Model

__all__ = ["features_first"]


def features_first(model: Model) -> Model:
    """Return a copy of a model whose linear layers write features first, and are rectified in place.

    A layer with few features and many points is a product of thin matrices, y = x Wᵀ. As (W xᵀ)ᵀ its long side is the
    points, along which the processor works; so is that of both products of its gradient. A rectifier that follows a
    layer overwrites the layer's output, which nobody else sees. The copy computes what the model computes, up to
    rounding, and its parameters have the same names.

    Args:
        model: left as it is. Layers of a class derived from `torch.nn.Linear` stay what they are.
    """
    copied = cast(nn.Module, copy.deepcopy(model))
    for module in copied.modules():
        if type(module) is nn.Linear:
            module.__class__ = FeaturesFirst
    for module in copied.modules():
        if type(module) is nn.Sequential:
            _take_over_rectifiers(module)
    return cast(Model, copied)


class FeaturesFirst(nn.Linear):
    """y = a(x Wᵀ + b), computed and laid out in memory as a(W xᵀ + b)ᵀ.

    Attributes:
        rectify: a, which overwrites its argument; None for the identity.
    """

    rectify: Callable[[Tensor], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Return y, shape (*B, O), for x of shape (*B, I)."""
        points = input.unsqueeze(0) if input.ndim == 1 else input.flatten(0, -2)
        output = self.weight @ points.mT
        if self.bias is not None:
            output += self.bias.unsqueeze(-1)
        if self.rectify is not None:
            output = self.rectify(output)
        return output.mT if input.ndim == 2 else output.mT.reshape(*input.shape[:-1], -1)


def _take_over_rectifiers(layers: nn.Sequential) -> None:
    """Let linear layers do the work of the (leaky) rectifiers that directly follow them."""
    for index, (layer, activation) in enumerate(itertools.pairwise(list(layers))):
        if not isinstance(layer, FeaturesFirst):
            continue
        if type(activation) is nn.ReLU:
            layer.rectify = torch.relu_
        elif type(activation) is nn.LeakyReLU and activation.negative_slope >= 0:
            layer.rectify = partial(nn.functional.leaky_relu_, negative_slope=activation.negative_slope)
        else:
            continue
        layers[index + 1] = nn.Identity()
