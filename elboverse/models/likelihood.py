"""A likelihood of a distribution alone: the outputs of the decoder are its fields."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from elboverse.contracts.likelihood import Support

__all__ = ["LikelihoodOf"]


class LikelihoodOf(nn.Module):
    """A `contracts.Likelihood` without parameters, whose decoder outputs are the fields of a distribution.

    Args:
        distribution: a NamedTuple of tensors with `log_prob`, `mean` and `sample`, and best `entropy` and
            `log_reference`; see `contracts.Likelihood`.
        support: what values it is defined on.
        theorem: empty where the ELBO equals the entropy sum at stationary points; else one sentence that says why not.

    Example:
        >>> from elboverse.theory.distributions import Laplace
        >>> LikelihoodOf(Laplace, support="real").outputs
        2
    """

    def __init__(self, distribution: Any, *, support: Support, theorem: str = "") -> None:
        super().__init__()
        self.distribution = distribution
        self.outputs = len(distribution._fields)
        self.support = support
        self.theorem = theorem

    def forward(self, outputs: tuple[Tensor, ...]) -> Any:
        """Return p(x|z) of the decoder's outputs, each of shape (*B, D)."""
        return self.distribution(*outputs)
