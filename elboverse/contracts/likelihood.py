"""What a likelihood is: a module that turns the decoder's outputs into p(x|z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Likelihood", "Support"]

Support = Literal["real", "binary", "one-hot", "unit", "open-unit", "positive", "counts"]
"""What values a likelihood is defined on: any number, {0, 1}, groups with exactly one 1, [0, 1], (0, 1), numbers above
0, and 0, 1, 2, …."""


@runtime_checkable
class Likelihood(Protocol):
    """A `torch.nn.Module` from the outputs of a decoder network to p(x|z); any network takes any likelihood.

    `build(options, data_shape)` of a likelihood component returns one. Its own parameters, such as a scale that all
    latents share, take the variances' learning rate.
    """

    outputs: int
    """How many output layers it takes, each with D values per point."""

    support: Support
    """What values it is defined on; data with others are refused before training."""

    # Optional: `by_dimension`, whether each dimension has a temperature of its own, so that each R_d vanishes; False if
    # it is missing.

    @property
    def theorem(self) -> str:
        """Empty where the ELBO equals the entropy sum at stationary points; else one sentence that says why not."""
        ...

    def __call__(self, outputs: tuple[Tensor, ...]) -> Any:
        """Return p(x|z), a `DiagonalGaussian` or a distribution with `log_prob`, `mean` and `sample`.

        Where it also offers `entropy` and `log_reference`, the identity is recorded in each step; see
        `elboverse.theory.distributions.DecoderDistribution` for a base that needs one formula per dimension.

        Args:
            outputs: as many as `outputs` says, each of shape (*B, D).
        """
        ...
