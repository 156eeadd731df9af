"""Adam for the two groups of parameters, without the bookkeeping of `torch.optim.Optimizer`.

The update is torch's own (`torch.optim.adam.adam`, fused). The class around it costs as much as a small network's
whole forward pass, which is why it is left out; docs/performance.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


class State(NamedTuple):
    """A parameter, its running averages of gradient and squared gradient, and its number of updates."""

    parameter: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor


class Adam:
    """Adam (Kingma and Ba 2015) with torch's default settings and a learning rate of its own for some parameters.

    Args:
        parameters: the trained parameters by name; their `grad` is what a step uses.
        learning_rates: one per parameter, by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor], learning_rates: Mapping[str, float]) -> None:
        self._states = {
            name: State(
                parameter,
                torch.zeros_like(parameter, requires_grad=False),
                torch.zeros_like(parameter, requires_grad=False),
                torch.zeros((), dtype=torch.float32, device=parameter.device),
            )
            for name, parameter in parameters.items()
        }
        rates = dict.fromkeys(learning_rates[name] for name in parameters)
        self._groups = [
            (rate, [state for name, state in self._states.items() if learning_rates[name] == rate]) for rate in rates
        ]

    def step(self) -> None:
        """Update every parameter from its `grad`, and forget the `grad`.

        A parameter without a `grad` is left as it is, its moments too.
        """
        with torch.no_grad():
            for rate, group in self._groups:
                states = [state for state in group if state.parameter.grad is not None]
                if not states:
                    continue
                parameters, averages, squares, counts = (list(column) for column in zip(*states, strict=True))
                adam(
                    parameters,
                    [parameter.grad for parameter in parameters],
                    averages,
                    squares,
                    [],
                    counts,
                    fused=True,
                    amsgrad=False,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    lr=rate,
                    weight_decay=0.0,
                    eps=EPSILON,
                    maximize=False,
                )
                for parameter in parameters:
                    parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments and step counts as ``exp_avg/parameter``, ``exp_avg_sq/parameter``, ``step/parameter``."""
        return {
            f"{what}/{name}": getattr(state, what)
            for name, state in self._states.items()
            for what in ("exp_avg", "exp_avg_sq", "step")
        }
