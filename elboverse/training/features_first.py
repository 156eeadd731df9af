"""Linear layers that keep features before points in memory, which is what replicas under `vmap` are fastest with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import torch
from torch import Tensor, nn

from elboverse.contracts import Model

__all__ = ["features_first"]

HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Where a module keeps its hooks; torch has no public way to ask for them."""


def features_first(model: Model) -> Model:
    """Return a copy of a model whose linear layers write features first, and are rectified in place.

    A layer with few features and many points is a product of thin matrices, y = x Wᵀ. As (W xᵀ)ᵀ its long side is the
    points, along which the processor works; so is that of both products of its gradient. Where a `torch.nn.Sequential`
    runs a layer and a rectifier after it, the rectifier overwrites the layer's output, which nobody else sees; the
    layer itself stays linear, for whoever else calls it. The copy computes what the model computes, up to rounding,
    and its modules and parameters have the same names.

    Args:
        model: left as it is. Modules of a class derived from `torch.nn.Linear` or `Sequential` stay what they are.
    """
    copied = cast(nn.Module, copy.deepcopy(model))
    for module in copied.modules():
        if type(module) is nn.Linear:
            module.__class__ = FeaturesFirst
        elif type(module) is nn.Sequential:
            module.__class__ = RectifyingSequential
    return cast(Model, copied)


class FeaturesFirst(nn.Linear):
    """y = x Wᵀ + b, computed and laid out in memory as (W xᵀ + b)ᵀ."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Return y, shape (*B, O), for x of shape (*B, I)."""
        return self.rectified(input, None)

    def rectified(self, x: Tensor, rectify: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Return a(y) for a function that overwrites its argument; None is the identity."""
        points = x.unsqueeze(0) if x.ndim == 1 else x.flatten(0, -2)
        output = self.weight @ points.mT
        if self.bias is not None:
            output += self.bias.unsqueeze(-1)
        if rectify is not None:
            output = rectify(output)
        return output.mT if x.ndim == 2 else output.mT.reshape(*x.shape[:-1], -1)


class RectifyingSequential(nn.Sequential):
    """Modules one after the other, a linear layer and a rectifier that directly follows it as one."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Return what the last module returns."""
        output, modules = input, iter(self)
        module = next(modules, None)
        while module is not None:
            following = next(modules, None)
            rectify = _rectifier(module, following)
            if rectify is None:
                output, module = module(output), following
            else:
                output, module = cast(FeaturesFirst, module).rectified(output, rectify), next(modules, None)
        return output


def _rectifier(module: nn.Module, following: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    """Return what rectifies the output of a linear layer in place; None unless a (leaky) rectifier follows a layer.

    Nor may a hook look at what is between them.
    """
    if type(module) is not FeaturesFirst or following is None or _has_hooks(module) or _has_hooks(following):
        return None
    if type(following) is nn.ReLU:
        return torch.relu_
    if type(following) is nn.LeakyReLU and following.negative_slope >= 0:
        return partial(nn.functional.leaky_relu_, negative_slope=following.negative_slope)
    return None


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in HOOKS)
