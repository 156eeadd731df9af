"""``gaussian``: real numbers with normal noise, whose variance is fixed, shared, per dimension, or a function of z."""

from __future__ import annotations

import math
from typing import Literal

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import Support
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.theory.identities import LOG_VAR_FLOOR

__all__ = ["GaussianLikelihood", "GaussianOptions", "build"]


@attrs.frozen(kw_only=True)
class GaussianOptions:
    """Options of the Gaussian likelihood.

    Args:
        variance: one for all dimensions and learned, one per dimension, a function of the latents, or fixed.
        initial_log_var: what ln σ² starts at, or stays at where it is fixed.
    """

    variance: Literal["shared", "per-dimension", "function", "fixed"] = "shared"
    initial_log_var: float = attrs.field(default=-4.0, validator=in_range(minimum=-30, maximum=30))


class GaussianLikelihood(nn.Module):
    """p(x|z) = N(μ(z), Σ), Σ = σ² I, diag σ²_d or diag σ²_d(z)."""

    support: Support = "real"
    location = True

    def __init__(self, options: GaussianOptions, dimension: int) -> None:
        super().__init__()
        self.variance = options.variance
        self.by_dimension = options.variance in {"per-dimension", "function"}
        self.outputs = 2 if options.variance == "function" else 1
        self.initial_log_var = options.initial_log_var
        shape = (dimension,) if options.variance == "per-dimension" else ()
        value = torch.full(shape, options.initial_log_var)
        if options.variance == "fixed":
            self.register_buffer("log_var", value)
        elif options.variance != "function":
            self.log_var = nn.Parameter(value)

    @property
    def theorem(self) -> str:
        """Empty unless the variance is fixed."""
        return "" if self.variance != "fixed" else "the decoder variance is fixed, so R_dec need not vanish"

    @property
    def closed_form(self) -> str | None:
        """Name of the parameter that is ln σ², or None."""
        return "log_var" if self.variance in {"shared", "per-dimension"} else None

    def forward(self, outputs: tuple[Tensor, ...]) -> DiagonalGaussian:
        """Return p(x|z)."""
        if self.variance == "function":
            mean, log_var = outputs
            return DiagonalGaussian(mean, (log_var + self.initial_log_var).clamp_min(LOG_VAR_FLOOR))
        return DiagonalGaussian(outputs[0], self.log_var)


def build(options: GaussianOptions, data_shape: tuple[int, ...]) -> GaussianLikelihood:
    """Return the likelihood for points of that shape."""
    return GaussianLikelihood(options, math.prod(data_shape))
