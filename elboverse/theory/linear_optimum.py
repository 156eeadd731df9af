"""The optimum of the linear VAE in closed form: what the eigenvalues of the data's covariance decide.

With λ_1 ≥ … ≥ λ_D the eigenvalues, k active latents and β the weight of the KL term,

    σ² = Σ_{i>k} λ_i / (D − kβ),    τ²_h = βσ²/λ_h,    ‖W_h‖² = λ_h − βσ²,    active iff λ_h > βσ²,

and with a fixed σ² the latter three alone. The ELBO there is −½[D ln 2πσ² + (kβσ² + Σ_{i>k} λ_i)/σ² − Σ_h ln τ²_h].

Sources: Tipping and Bishop 1999; Lucas et al. 2019; docs/theory.md, "Exact ground truth".
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.theory import identities

__all__ = ["LinearOptimum", "linear_optimum"]

Array = npt.NDArray[Any]


@attrs.frozen(eq=False)
class LinearOptimum:
    """The optimum of a linear VAE with H latents.

    Args:
        active: k, the number of latents with λ_h > βσ².
        decoder_variance: σ².
        encoder_variances: τ²_h/α²_h, the smallest first, shape (H,); 1 where a latent has collapsed.
        elbo: in nats per point.
        decoder_entropy: in nats per point.
    """

    active: int
    decoder_variance: float
    encoder_variances: Array
    elbo: float
    decoder_entropy: float

    @property
    def entropy_drop(self) -> Array:
        """H_prior,h − H_enc,h in nats, the largest first, shape (H,)."""
        return np.asarray(-0.5 * np.log(self.encoder_variances))

    @property
    def entropy_sum(self) -> float:
        """In nats per point; equal to the ELBO where σ² is learned."""
        return float(-self.decoder_entropy - self.entropy_drop.sum())


def linear_optimum(
    eigenvalues: Array, latent_dim: int, beta: float = 1.0, decoder_variance: float | None = None
) -> LinearOptimum | None:
    """Return the optimum; None where there is none, because points without spread left over let σ² go to 0.

    Args:
        eigenvalues: λ of the data's covariance (divided by N), falling, shape (D,).
        latent_dim: H.
        beta: β > 0, constant.
        decoder_variance: σ² where it is fixed; None where it is learned.

    Example:
        >>> import numpy as np
        >>> best = linear_optimum(np.array([4.0, 2.0, 0.5, 0.5]), latent_dim=3)
        >>> best.active, best.decoder_variance
        (2, 0.5)
        >>> bool(np.isclose(best.elbo, best.entropy_sum))
        True
    """
    dimension = len(eigenvalues)
    if decoder_variance is None:
        most = min(latent_dim, dimension - 1)
        fits = [
            (k, float(eigenvalues[k:].sum()) / (dimension - k * beta)) for k in range(most + 1) if k * beta < dimension
        ]
        active, variance = max((k, variance) for k, variance in fits if k == 0 or eigenvalues[k - 1] > beta * variance)
    else:
        variance = decoder_variance
        active = int((eigenvalues[:latent_dim] > beta * variance).sum())
    if variance <= 1e-12 * eigenvalues[0] or eigenvalues[0] <= 0:
        return None
    ratios = np.ones(latent_dim)
    ratios[:active] = beta * variance / eigenvalues[:active]
    error = active * beta + float(eigenvalues[active:].sum()) / variance
    log_likelihood = -0.5 * (dimension * (identities.LOG_2PI + np.log(variance)) + error)
    return LinearOptimum(
        active=active,
        decoder_variance=variance,
        encoder_variances=ratios,
        elbo=float(log_likelihood + 0.5 * np.log(ratios).sum()),
        decoder_entropy=float(dimension * identities.gaussian_entropy(np.log(variance))),
    )
