"""Eigenvalues of the data and what a trained linear VAE has made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from elboverse.analysis.linear import is_linear
from elboverse.analysis.reading import Array
from elboverse.analysis.trained_reading import Rebuilt
from elboverse.errors import AnalysisError
from elboverse.theory import identities
from elboverse.theory.linear_optimum import LinearOptimum, linear_optimum

if TYPE_CHECKING:
    from elboverse.analysis.trained import PointStatistics, TrainedModel

__all__ = ["Spectrum", "read_spectrum"]

_MOST_DIMENSIONS: Final = 4096


_POINTS_AT_ONCE: Final = 16_384


@attrs.frozen(eq=False, kw_only=True)
class Spectrum:
    """The trained model beside the optimum of a linear one; both on all training points, in nats per point.

    Args:
        eigenvalues: λ of the training points' covariance, falling, shape (D,).
        beta: the KL weight that training ended with.
        is_exact: the model is linear, so that the optimum is its own.
        optimum: in closed form.
        elbo: of the trained model.
        elbo_standard_error: over the points.
        decoder_entropy: of the trained model.
        decoder_variance: σ², its geometric mean where it depends on z or the dimension.
        entropy_drop: H_prior,h − H_enc,h, shape (H,).
    """

    eigenvalues: Array
    beta: float
    is_exact: bool
    optimum: LinearOptimum
    elbo: float
    elbo_standard_error: float
    decoder_entropy: float
    decoder_variance: float
    entropy_drop: Array

    @property
    def entropy_sum(self) -> float:
        """Of the trained model."""
        return float(-self.decoder_entropy - self.entropy_drop.sum())

    @property
    def order(self) -> Array:
        """The latents, that of the largest entropy drop first, shape (H,)."""
        return np.argsort(-self.entropy_drop, kind="stable")

    @property
    def encoder_variances(self) -> Array:
        """τ²_h/α²_h as exp(−2 · entropy drop), in the order of `order`, shape (H,)."""
        return np.asarray(np.exp(-2 * self.entropy_drop[self.order]))


def read_spectrum(source: Rebuilt) -> Spectrum:
    """Return the spectrum of the data and of a trained linear model.

    Raises:
        AnalysisError: no linear optimum exists to compare with, or the data have too many dimensions.
    """
    trained, run = source.trained, source.reading.run
    dimension = trained.data.dimension
    if dimension > _MOST_DIMENSIONS:
        raise AnalysisError(
            f"{run.path}: the data have {dimension:,} dimensions, and spectrum works out the eigenvalues of at most "
            f"{_MOST_DIMENSIONS:,}"
        )
    if not trained.family.gaussian:
        raise AnalysisError(
            f"{run.path}: got a model with a {trained.family.decoder} decoder and a {trained.family.prior} prior; "
            "expected three diagonal Gaussians, since spectrum compares with probabilistic PCA. "
            "`elboverse analyze stationarity` and `collapse` judge models of any family"
        )
    eigenvalues, statistics = _measured(trained)
    beta = float(run.series("beta", trained.seed - trained.config.seed)[-1]) if len(run.steps) else 1.0
    decoder_variance = float(np.exp(statistics.decoder_log_var.mean()))
    variances = trained.model.variance_parameters()
    is_fixed = variances.decoder is None and not variances.heads
    optimum = None
    if beta > 0:
        optimum = linear_optimum(eigenvalues, trained.latent_dim, beta, decoder_variance if is_fixed else None)
    if optimum is None:
        raise AnalysisError(
            f"{run.path}: no linear optimum exists to compare with: "
            + (f"the KL weight is {beta:g} at the end" if beta <= 0 else "the latents leave no residual variance")
        )
    return Spectrum(
        eigenvalues=eigenvalues,
        beta=beta,
        is_exact=is_linear(run.config),
        optimum=optimum,
        elbo=float(statistics.elbo.mean()),
        elbo_standard_error=float(statistics.elbo.std() / np.sqrt(max(1, len(statistics.elbo) - 1))),
        decoder_entropy=float(statistics.decoder_entropy.mean()),
        decoder_variance=decoder_variance,
        entropy_drop=np.asarray(identities.entropy_drop(statistics.encoder_entropy, statistics.prior_entropy).mean(0)),
    )


def _measured(trained: TrainedModel) -> tuple[Array, PointStatistics]:
    """Return the eigenvalues of the training points' covariance, falling, and the terms of each of them."""
    count, dimension = trained.count("train"), trained.data.dimension
    origin = trained.points("train", slice(1)).astype(np.float64)  # near the points, so that little cancels
    total, squares, parts = np.zeros(dimension), np.zeros((dimension, dimension)), []
    for number, start in enumerate(range(0, count, _POINTS_AT_ONCE)):
        points = trained.points("train", slice(start, start + _POINTS_AT_ONCE))
        parts.append(trained.statistics(points, "spectrum", number))
        shifted = points - origin
        total += shifted.sum(0)
        squares += shifted.T @ shifted
    mean = total / count
    eigenvalues = np.linalg.eigvalsh(squares / count - np.outer(mean, mean))[::-1].clip(min=0)
    fields = [field.name for field in attrs.fields(type(parts[0]))]
    columns = {name: [np.asarray(getattr(part, name)) for part in parts] for name in fields}
    joined = {name: np.concatenate(found) if found[0].ndim else found[0] for name, found in columns.items()}
    return eigenvalues, type(parts[0])(**joined)
