"""The terms of each point by itself, as a trained model gives them."""

from __future__ import annotations

from typing import Any, Self

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.theory import identities

__all__ = ["PointStatistics"]

Array = npt.NDArray[Any]


@attrs.frozen(eq=False)
class PointStatistics:
    """The terms of each point by itself, in nats, float64; M points.

    Args:
        log_likelihood: E_q ln p(x|z), shape (M,).
        decoder_entropy: E_q Σ_d ½ ln(2πe σ²_d(z)), shape (M,).
        decoder_log_var: ln σ², averaged over dimensions and samples, shape (M,).
        kl: KL_h, shape (M, H).
        encoder_entropy: ½ ln(2πe τ²_h), shape (M, H).
        prior_entropy: ½ ln(2πe α²_h), shape (M, H).
        log_reference: E_q ln h(x) of the measure that the decoder entropy is relative to, shape (M,); 0 for a Gaussian.
    """

    log_likelihood: Array
    decoder_entropy: Array
    decoder_log_var: Array
    kl: Array
    encoder_entropy: Array
    prior_entropy: Array
    log_reference: Array | float = 0.0

    @classmethod
    def of(cls, table: Array) -> Self:
        """Return them from the columns of `training.evaluation.point_statistics`."""
        kl, encoder_entropy, prior_log_var, _ = np.split(table[:, 4:], 4, axis=1)
        prior_entropy = np.asarray(identities.gaussian_entropy(prior_log_var))
        return cls(table[:, 0], table[:, 1], table[:, 2], kl, encoder_entropy, prior_entropy)

    @classmethod
    def of_family(cls, table: Array) -> Self:
        """Return them from the columns of `training.family_evaluation.FamilyStatistics`."""
        kl, encoder_entropy, prior_entropy, _ = np.split(table[:, 4:], 4, axis=1)
        nowhere = np.full(len(table), np.nan)
        return cls(table[:, 0], table[:, 2], nowhere, kl, encoder_entropy, prior_entropy, table[:, 1])

    @property
    def elbo(self) -> Array:
        """The ELBO of each point, shape (M,)."""
        return np.asarray(identities.elbo(self.log_likelihood, self.kl))

    @property
    def entropy_sum(self) -> Array:
        """The entropy sum of each point, shape (M,)."""
        return np.asarray(
            identities.entropy_sum(self.decoder_entropy, self.encoder_entropy, self.prior_entropy) + self.log_reference
        )

    @property
    def residuals(self) -> Array:
        """R_dec and R_h of each point, which sum to ELBO − entropy sum, shape (M, 1 + H)."""
        decoder = self.log_likelihood - self.log_reference + self.decoder_entropy
        return np.concatenate([decoder[:, None], self.prior_entropy - self.encoder_entropy - self.kl], axis=1)
