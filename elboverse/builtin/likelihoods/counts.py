"""``poisson``, ``poisson-softmax`` and ``negative-binomial``: counts, by themselves or as shares of a total."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import Support
from elboverse.theory.distributions import NegativeBinomial, Poisson, PoissonSoftmax, PoissonWithLibrary

__all__ = [
    "NegativeBinomialLikelihood",
    "NegativeBinomialOptions",
    "PoissonLikelihood",
    "PoissonOptions",
    "PoissonSoftmaxLikelihood",
    "PoissonSoftmaxOptions",
    "build_negative_binomial",
    "build_poisson",
    "build_poisson_softmax",
]

LARGEST_LOG_DISPERSION = 15.0
"""ln θ at which a gene counts as Poisson: more changes no count, and less of it would be lost to rounding."""


@attrs.frozen(kw_only=True)
class PoissonOptions:
    """Options of the Poisson likelihood.

    Args:
        library: multiply the rates of each point by its total count l, λ = l e^η.
        typical_library: l of points that are drawn from the model, where `library` is set.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    library: bool = False
    typical_library: float = attrs.field(default=1000.0, validator=in_range(above=0))


@attrs.frozen(kw_only=True)
class PoissonSoftmaxOptions:
    """Options of the Poisson likelihood with rates that are shares of the total count, λ = l softmax(η).

    Args:
        typical_library: l of points that are drawn from the model.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    typical_library: float = attrs.field(default=1000.0, validator=in_range(above=0))


@attrs.frozen(kw_only=True)
class NegativeBinomialOptions:
    """Options of the negative binomial likelihood.

    Args:
        mean: the means are shares of the total count, μ = l softmax(η), as in scVI, or μ = e^η without a total.
        initial_log_dispersion: what ln θ of every dimension starts at.
        typical_library: l of points that are drawn from the model.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    mean: Literal["softmax", "log"] = "softmax"
    initial_log_dispersion: float = attrs.field(default=0.0, validator=in_range(minimum=-15, maximum=15))
    typical_library: float = attrs.field(default=1000.0, validator=in_range(above=0))


class PoissonLikelihood(nn.Module):
    """p(x_d|z) Poisson with ln λ_d = η_d(z), or ln l + η_d(z)."""

    by_dimension = True
    outputs = 1
    support: Support = "counts"
    theorem = ""
    log_library: Tensor

    def __init__(self, options: PoissonOptions) -> None:
        super().__init__()
        self.takes_library = options.library
        self.register_buffer("log_library", torch.tensor(math.log(options.typical_library)))

    def forward(self, outputs: tuple[Tensor, ...]) -> Poisson | PoissonWithLibrary:
        """Return p(x|z)."""
        return PoissonWithLibrary(outputs[0], self.log_library) if self.takes_library else Poisson(outputs[0])


class PoissonSoftmaxLikelihood(nn.Module):
    """p(x_d|z) Poisson with λ = l softmax(η(z)), l the point's total count."""

    outputs = 1
    support: Support = "counts"
    theorem = ""
    log_library: Tensor

    def __init__(self, options: PoissonSoftmaxOptions) -> None:
        super().__init__()
        self.register_buffer("log_library", torch.tensor(math.log(options.typical_library)))

    def forward(self, outputs: tuple[Tensor, ...]) -> PoissonSoftmax:
        """Return p(x|z)."""
        return PoissonSoftmax(outputs[0], self.log_library)


class NegativeBinomialLikelihood(nn.Module):
    """p(x_d|z) negative binomial with mean μ_d(z) and a learned dispersion θ_d per dimension, variance μ + μ²/θ."""

    by_dimension = True
    outputs = 1
    support: Support = "counts"
    theorem = ""
    log_library: Tensor

    def __init__(self, options: NegativeBinomialOptions, dimension: int) -> None:
        super().__init__()
        self.softmax = options.mean == "softmax"
        self.log_dispersion = nn.Parameter(torch.full((dimension,), options.initial_log_dispersion))
        self.register_buffer("log_library", torch.tensor(math.log(options.typical_library) if self.softmax else 0.0))

    def forward(self, outputs: tuple[Tensor, ...]) -> NegativeBinomial:
        """Return p(x|z)."""
        log_dispersion = self.log_dispersion.clamp_max(LARGEST_LOG_DISPERSION)
        if self.softmax:
            return NegativeBinomial(outputs[0].log_softmax(-1), log_dispersion, self.log_library)
        return NegativeBinomialWithoutLibrary(outputs[0], log_dispersion, self.log_library)


class NegativeBinomialWithoutLibrary(NegativeBinomial):
    """The negative binomial distribution with means of their own, whatever the total count."""

    __slots__ = ()

    def given(self, value: Tensor) -> NegativeBinomialWithoutLibrary:  # noqa: ARG002 - nothing of it is given
        """Return the distribution as it is."""
        return self


def build_poisson(options: PoissonOptions, data_shape: tuple[int, ...]) -> PoissonLikelihood:  # noqa: ARG001
    """Return the likelihood."""
    return PoissonLikelihood(options)


def build_poisson_softmax(options: PoissonSoftmaxOptions, data_shape: tuple[int, ...]) -> PoissonSoftmaxLikelihood:  # noqa: ARG001
    """Return the likelihood."""
    return PoissonSoftmaxLikelihood(options)


def build_negative_binomial(
    options: NegativeBinomialOptions, data_shape: tuple[int, ...]
) -> NegativeBinomialLikelihood:
    """Return the likelihood for points of that shape."""
    return NegativeBinomialLikelihood(options, math.prod(data_shape))
