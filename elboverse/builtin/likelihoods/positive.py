"""``gamma``, ``log-normal``, ``exponential`` and ``beta``: positive numbers, and shares inside (0, 1)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import Support
from elboverse.theory.distributions import Beta, Exponential, Gamma, GammaFixedShape, LogNormal
from elboverse.theory.identities import LOG_VAR_FLOOR

__all__ = [
    "BetaLikelihood",
    "BetaOptions",
    "ExponentialLikelihood",
    "ExponentialOptions",
    "GammaLikelihood",
    "GammaOptions",
    "LogNormalLikelihood",
    "LogNormalOptions",
    "build_beta",
    "build_exponential",
    "build_gamma",
    "build_log_normal",
]


@attrs.frozen(kw_only=True)
class GammaOptions:
    """Options of the gamma likelihood.

    Args:
        shape: k learned, one for all dimensions or one per dimension, or fixed.
        initial_shape: what k starts at, or stays at where it is fixed.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    shape: Literal["shared", "per-dimension", "fixed"] = "shared"
    initial_shape: float = attrs.field(default=2.0, validator=in_range(above=0, maximum=1e6))


@attrs.frozen(kw_only=True)
class BetaOptions:
    """Options of the beta likelihood.

    Args:
        concentration: κ learned, one for all dimensions or one per dimension.
        initial_concentration: what κ starts at.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    concentration: Literal["shared", "per-dimension"] = "shared"
    initial_concentration: float = attrs.field(default=4.0, validator=in_range(above=0, maximum=1e6))


@attrs.frozen(kw_only=True)
class LogNormalOptions:
    """Options of the log-normal likelihood.

    Args:
        variance: σ² of ln x, one for all dimensions and learned, or one per dimension.
        initial_log_var: what ln σ² starts at.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    variance: Literal["shared", "per-dimension"] = "shared"
    initial_log_var: float = attrs.field(default=-2.0, validator=in_range(minimum=-30, maximum=30))


@attrs.frozen(kw_only=True)
class ExponentialOptions:
    """The exponential likelihood has no options: the bias of the log rate carries the temperature."""

    admits: ClassVar[tuple[str, ...]] = ("none",)


class GammaLikelihood(nn.Module):
    """p(x_d|z) gamma with mean m_d(z) and a learned shape k; or, with k fixed, with rate λ_d(z)."""

    outputs = 1
    support: Support = "positive"
    theorem = ""
    shape: Tensor

    def __init__(self, options: GammaOptions, dimension: int) -> None:
        super().__init__()
        self.is_fixed = options.shape == "fixed"
        self.by_dimension = options.shape in {"fixed", "per-dimension"}
        if self.is_fixed:
            self.register_buffer("shape", torch.tensor(options.initial_shape))
        else:
            size = (dimension,) if options.shape == "per-dimension" else ()
            self.log_shape = nn.Parameter(torch.full(size, math.log(options.initial_shape)))

    def forward(self, outputs: tuple[Tensor, ...]) -> Gamma | GammaFixedShape:
        """Return p(x|z)."""
        return GammaFixedShape(outputs[0], self.shape) if self.is_fixed else Gamma(outputs[0], self.log_shape)


class BetaLikelihood(nn.Module):
    """p(x_d|z) beta with mean m_d(z) and a learned concentration κ."""

    outputs = 1
    support: Support = "open-unit"
    theorem = ""

    def __init__(self, options: BetaOptions, dimension: int) -> None:
        super().__init__()
        self.by_dimension = options.concentration == "per-dimension"
        size = (dimension,) if self.by_dimension else ()
        self.log_concentration = nn.Parameter(torch.full(size, math.log(options.initial_concentration)))

    def forward(self, outputs: tuple[Tensor, ...]) -> Beta:
        """Return p(x|z)."""
        return Beta(outputs[0], self.log_concentration)


class LogNormalLikelihood(nn.Module):
    """ln x_d ~ N(μ_d(z), σ²) with σ² learned."""

    outputs = 1
    support: Support = "positive"
    theorem = ""

    def __init__(self, options: LogNormalOptions, dimension: int) -> None:
        super().__init__()
        self.by_dimension = options.variance == "per-dimension"
        size = (dimension,) if self.by_dimension else ()
        self.log_var = nn.Parameter(torch.full(size, options.initial_log_var))

    def forward(self, outputs: tuple[Tensor, ...]) -> LogNormal:
        """Return p(x|z)."""
        return LogNormal(outputs[0], self.log_var.clamp_min(LOG_VAR_FLOOR))


class ExponentialLikelihood(nn.Module):
    """p(x_d|z) exponential with ln λ_d(z)."""

    by_dimension = True
    outputs = 1
    support: Support = "positive"
    theorem = ""

    def forward(self, outputs: tuple[Tensor, ...]) -> Exponential:
        """Return p(x|z)."""
        return Exponential(outputs[0])


def build_gamma(options: GammaOptions, data_shape: tuple[int, ...]) -> GammaLikelihood:
    """Return the likelihood for points of that shape."""
    return GammaLikelihood(options, math.prod(data_shape))


def build_beta(options: BetaOptions, data_shape: tuple[int, ...]) -> BetaLikelihood:
    """Return the likelihood for points of that shape."""
    return BetaLikelihood(options, math.prod(data_shape))


def build_log_normal(options: LogNormalOptions, data_shape: tuple[int, ...]) -> LogNormalLikelihood:
    """Return the likelihood for points of that shape."""
    return LogNormalLikelihood(options, math.prod(data_shape))


def build_exponential(options: ExponentialOptions, data_shape: tuple[int, ...]) -> ExponentialLikelihood:  # noqa: ARG001
    """Return the likelihood."""
    return ExponentialLikelihood()
