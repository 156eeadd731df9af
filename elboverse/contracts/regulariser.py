"""What a regulariser is: extra terms of the loss, recorded by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Regulariser"]


@runtime_checkable
class Regulariser(Protocol):
    """Extra terms of the loss; `build(options)` of a regulariser component returns one.

    A model may offer `extra` itself. Each value is added to −ELBO and recorded as a series under its name. It shifts
    the stationary points, and with them the residuals: what it does to the certificate is said, not hidden.
    """

    def extra(self, x: Tensor, q: Any, z: Tensor) -> Mapping[str, Tensor]:
        """Return the terms in nats, name → shape (), the same names each time, lower-case identifiers.

        They are a differentiable function of the arguments.

        Args:
            x: points, shape (B, D).
            q: q(z|x) of these points.
            z: samples of it, shape (*K, B, H).
        """
        ...
