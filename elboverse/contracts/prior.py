"""What a prior is: a module that gives p(z)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Prior", "PriorModule"]


@runtime_checkable
class Prior(Protocol):
    """p(z) over H latents: `DiagonalGaussian`, or anything with these.

    It may offer more: `entropy()`, of shape (H,) where it factorises, else (1,); `cross_entropy(encoder, samples)`,
    −E_q ln p(z_h) of shape (*B, H) or (*B, 1), in closed form where there is one; `component_entropy(samples)`,
    E_q H[r(k|z)], of a mixture in its augmented form. Without an entropy it is judged by samples of it.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(z) in nats, shape (*K, *B), for z of shape (*K, *B, H)."""
        ...

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws of shape (*K, *B, H), a function of noise ~ N(0, I) of that shape."""
        ...


@runtime_checkable
class PriorModule(Protocol):
    """A `torch.nn.Module` that gives a prior.

    `build(options, latent_dim, data_shape)` of a prior component returns one.
    """

    @property
    def theorem(self) -> str:
        """Empty where the prior residuals vanish at stationary points; else one sentence that says why not."""
        ...

    def __call__(self, encode: Callable[[Tensor], Any]) -> Any:
        """Return p(z).

        Args:
            encode: the model's own x → q(z|x), for a prior that is made of it.
        """
        ...
