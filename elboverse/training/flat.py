"""Parameters and their gradients in one piece of memory each, so that an update is one call whatever their number."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

__all__ = ["FlatGroup", "flattened"]


@attrs.frozen(eq=False)
class FlatGroup:
    """The parameters that share a learning rate.

    Args:
        rate: the learning rate.
        values: all of them, shape (P,).
        gradients: their gradients, shape (P,).
        parts: name → where each lies, as a slice of the two.
        shapes: name → shape.
    """

    rate: float
    values: Tensor
    gradients: Tensor
    parts: Mapping[str, slice]
    shapes: Mapping[str, torch.Size]

    def part(self, flat: Tensor, name: str) -> Tensor:
        """Return what belongs to a parameter of a tensor of shape (P,), in the parameter's shape, sharing memory."""
        return flat[self.parts[name]].view(self.shapes[name])


def flattened(parameters: Mapping[str, Tensor], rates: Mapping[str, float]) -> list[FlatGroup]:
    """Move parameters into one piece of memory per learning rate, give each its place there as `grad`, and return them.

    Args:
        parameters: leaves of the graph, by name; they stay the tensors that they are.
        rates: the learning rate of each, by name.
    """
    groups = []
    for rate in dict.fromkeys(rates[name] for name in parameters):
        own = {name: value for name, value in parameters.items() if rates[name] == rate}
        parts, start = {}, 0
        for name, value in own.items():
            parts[name] = slice(start, start + value.numel())
            start += value.numel()
        values = torch.cat([value.detach().reshape(-1) for value in own.values()])
        shapes = {name: value.shape for name, value in own.items()}
        group = FlatGroup(rate, values, torch.zeros_like(values), parts, shapes)
        for name, value in own.items():
            value.data = group.part(values, name)
            value.grad = group.part(group.gradients, name)
        groups.append(group)
    return groups
