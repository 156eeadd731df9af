"""What a posterior is: a module that turns the encoder's features into q(z|x)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Encoder", "Posterior"]


@runtime_checkable
class Encoder(Protocol):
    """q(z|x): `DiagonalGaussian`, or anything with these."""

    mean: Tensor
    """(*B, H)."""

    def sample(self, noise: Tensor) -> Tensor:
        """Return reparameterised samples, shape (*K, *B, H), for ε ~ N(0, I) of that shape."""
        ...

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (*B, H) in parts that sum to the whole, else (*B, 1)."""
        ...

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln q(z|x) in nats, shape (*K, *B)."""
        ...


@runtime_checkable
class Posterior(Protocol):
    """A `torch.nn.Module` from the outputs of one linear head to q(z|x).

    `build(options, latent_dim)` of a posterior component returns one.
    """

    width: int
    """How many values per point the head has."""

    def initial_bias(self, log_var: float) -> Tensor:
        """Return the bias that the head starts with, shape (width,), for variances near exp(log_var)."""
        ...

    def __call__(self, outputs: Tensor) -> Any:
        """Return q(z|x) for the head's values, shape (*B, width)."""
        ...
