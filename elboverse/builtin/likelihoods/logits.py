"""``bernoulli``, ``categorical`` and ``continuous-bernoulli``: families with logits, whose scale is the temperature."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import Support
from elboverse.errors import ConfigError
from elboverse.theory.distributions import Bernoulli, Categorical, ContinuousBernoulli

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "CategoricalOptions",
    "ContinuousBernoulliLikelihood",
    "GreyOptions",
    "LogitsOptions",
    "build_bernoulli",
    "build_categorical",
    "build_continuous_bernoulli",
]


@attrs.frozen(kw_only=True)
class LogitsOptions:
    """The likelihood has no options: weight and bias of the last layer carry the temperature."""

    admits: ClassVar[tuple[str, ...]] = ("none",)


@attrs.frozen(kw_only=True)
class GreyOptions:
    """The likelihood has no options: weight and bias of the last layer carry the temperature."""

    admits: ClassVar[tuple[str, ...]] = ("min-max", "none")


@attrs.frozen(kw_only=True)
class CategoricalOptions:
    """Options of the categorical likelihood.

    Args:
        categories: C, how many consecutive dimensions make one variable, of which exactly one is 1.
    """

    admits: ClassVar[tuple[str, ...]] = ("none",)

    categories: int = attrs.field(validator=in_range(minimum=2, maximum=1_000_000))


class BernoulliLikelihood(nn.Module):
    """p(x_d|z) Bernoulli with logits η(z)."""

    by_dimension = True
    outputs = 1
    support: Support = "binary"
    theorem = ""

    def forward(self, outputs: tuple[Tensor, ...]) -> Bernoulli:
        """Return p(x|z)."""
        return Bernoulli(outputs[0])


class ContinuousBernoulliLikelihood(nn.Module):
    """p(x_d|z) continuous Bernoulli on [0, 1] with logits η(z)."""

    by_dimension = True
    outputs = 1
    support: Support = "unit"
    theorem = ""

    def forward(self, outputs: tuple[Tensor, ...]) -> ContinuousBernoulli:
        """Return p(x|z)."""
        return ContinuousBernoulli(outputs[0])


class CategoricalLikelihood(nn.Module):
    """p(x|z) = one category in each of G = D/C groups, with logits η(z)."""

    by_dimension = True
    outputs = 1
    support: Support = "one-hot"
    theorem = ""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.categories = categories

    def forward(self, outputs: tuple[Tensor, ...]) -> Categorical:
        """Return p(x|z)."""
        return Categorical(outputs[0].unflatten(-1, (-1, self.categories)))


def build_bernoulli(options: LogitsOptions, data_shape: tuple[int, ...]) -> BernoulliLikelihood:  # noqa: ARG001
    """Return the likelihood."""
    return BernoulliLikelihood()


def build_continuous_bernoulli(
    options: GreyOptions,  # noqa: ARG001 - as any likelihood
    data_shape: tuple[int, ...],  # noqa: ARG001
) -> ContinuousBernoulliLikelihood:
    """Return the likelihood."""
    return ContinuousBernoulliLikelihood()


def build_categorical(options: CategoricalOptions, data_shape: tuple[int, ...]) -> CategoricalLikelihood:
    """Return the likelihood for points of that shape.

    Raises:
        ConfigError: the dimensions are not a whole number of groups.
    """
    dimension = math.prod(data_shape)
    if dimension % options.categories:
        raise ConfigError(
            f"likelihood.categories: got {options.categories}; expected a divisor of the {dimension} dimensions, "
            "since each variable takes that many"
        )
    return CategoricalLikelihood(options.categories)
