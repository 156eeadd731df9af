"""``laplace``, ``generalised-normal`` and ``student-t``: real numbers with other tails than the normal ones."""

from __future__ import annotations

import math
from typing import Literal

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import Support
from elboverse.theory.distributions import GeneralisedNormal, Laplace, StudentT
from elboverse.theory.identities import LOG_VAR_FLOOR

__all__ = [
    "GeneralisedNormalLikelihood",
    "GeneralisedNormalOptions",
    "LaplaceLikelihood",
    "ScaleOptions",
    "StudentTLikelihood",
    "StudentTOptions",
    "build_generalised_normal",
    "build_laplace",
    "build_student_t",
]


@attrs.frozen(kw_only=True)
class ScaleOptions:
    """Options of a likelihood with a learned scale.

    Args:
        scale: one for all dimensions, or one per dimension.
        initial_log_scale: what the logarithm of the scale starts at.
    """

    scale: Literal["shared", "per-dimension"] = "shared"
    initial_log_scale: float = attrs.field(default=-2.0, validator=in_range(minimum=-15, maximum=15))


@attrs.frozen(kw_only=True)
class GeneralisedNormalOptions(ScaleOptions):
    """Options of the generalised normal likelihood.

    Args:
        power: p of e^(−|u|^p), fixed; 1 is the Laplace, 2 the normal distribution.
    """

    power: float = attrs.field(default=1.5, validator=in_range(above=0, maximum=100))


@attrs.frozen(kw_only=True)
class StudentTOptions(ScaleOptions):
    """Options of Student's t likelihood.

    Args:
        initial_df: what ν, the degrees of freedom, starts at.
        learn_df: whether ν is learned; where it is not, the theorem does not hold.
    """

    initial_df: float = attrs.field(default=5.0, validator=in_range(above=0, maximum=1e6))
    learn_df: bool = True


class _Scaled(nn.Module):
    """What has a learned scale, shared or per dimension, held above the floor that variances have."""

    outputs = 1
    support: Support = "real"
    location = True
    theorem = ""

    def __init__(self, options: ScaleOptions, dimension: int) -> None:
        super().__init__()
        self.by_dimension = options.scale == "per-dimension"
        shape = (dimension,) if self.by_dimension else ()
        self.log_scale = nn.Parameter(torch.full(shape, options.initial_log_scale))

    def _log_scale(self) -> Tensor:
        return self.log_scale.clamp_min(0.5 * LOG_VAR_FLOOR)


class LaplaceLikelihood(_Scaled):
    """p(x_d|z) Laplace with location μ_d(z) and a learned scale b."""

    def forward(self, outputs: tuple[Tensor, ...]) -> Laplace:
        """Return p(x|z)."""
        return Laplace(outputs[0], self._log_scale())


class GeneralisedNormalLikelihood(_Scaled):
    """p(x_d|z) ∝ e^(−|u|^p), u = (x − μ_d(z))/s, with s learned and p fixed."""

    power: Tensor

    def __init__(self, options: GeneralisedNormalOptions, dimension: int) -> None:
        super().__init__(options, dimension)
        self.register_buffer("power", torch.tensor(options.power))

    def forward(self, outputs: tuple[Tensor, ...]) -> GeneralisedNormal:
        """Return p(x|z)."""
        return GeneralisedNormal(outputs[0], self._log_scale(), self.power)


class StudentTLikelihood(_Scaled):
    """p(x_d|z) Student's t with location μ_d(z), and scale and degrees of freedom learned."""

    log_df: Tensor

    def __init__(self, options: StudentTOptions, dimension: int) -> None:
        super().__init__(options, dimension)
        log_df = torch.full_like(self.log_scale.detach(), math.log(options.initial_df))
        self.learns_df = options.learn_df
        if options.learn_df:
            self.log_df = nn.Parameter(log_df)
        else:
            self.register_buffer("log_df", log_df)

    @property
    def theorem(self) -> str:  # type: ignore[override]
        """Empty where the degrees of freedom are learned."""
        return "" if self.learns_df else "the degrees of freedom are fixed, so R_dec need not vanish"

    def forward(self, outputs: tuple[Tensor, ...]) -> StudentT:
        """Return p(x|z)."""
        return StudentT(outputs[0], 2 * self._log_scale(), self.log_df)


def build_laplace(options: ScaleOptions, data_shape: tuple[int, ...]) -> LaplaceLikelihood:
    """Return the likelihood for points of that shape."""
    return LaplaceLikelihood(options, math.prod(data_shape))


def build_generalised_normal(
    options: GeneralisedNormalOptions, data_shape: tuple[int, ...]
) -> GeneralisedNormalLikelihood:
    """Return the likelihood for points of that shape."""
    return GeneralisedNormalLikelihood(options, math.prod(data_shape))


def build_student_t(options: StudentTOptions, data_shape: tuple[int, ...]) -> StudentTLikelihood:
    """Return the likelihood for points of that shape."""
    return StudentTLikelihood(options, math.prod(data_shape))
