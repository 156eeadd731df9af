"""``spectrum``: the data's eigenvalues against σ², and how far a trained model is from the exact linear optimum.

A linear VAE has an optimum in closed form, which the eigenvalues of the data's covariance decide alone: latent h is
active iff λ_h exceeds βσ². For any other VAE the same optimum is a guide: what a linear model would reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.linear import is_linear
from elboverse.analysis.reading import Array, plural
from elboverse.analysis.trained_reading import OneReplicaOptions, Rebuilt, rebuilt
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.theory import identities
from elboverse.theory.linear_optimum import LinearOptimum, linear_optimum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.analysis.trained import PointStatistics, TrainedModel
    from elboverse.runfile import Run

__all__ = ["Spectrum", "SpectrumOptions", "build"]

_MOST_DIMENSIONS: Final = 4096
_MOST_LATENT_ROWS: Final = 20
_POINTS_AT_ONCE: Final = 16_384


@attrs.frozen(kw_only=True)
class SpectrumOptions(OneReplicaOptions):
    """Options of `spectrum`."""


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


def build(options: SpectrumOptions, run: Run) -> Result:
    """Return the distance of the trained model from the optimum of the linear VAE.

    The keys of `Result.data`: ``replica``; ``points``, all training points; ``beta``; ``is_exact``, whether the
    optimum is this model's own or a guide; ``eigenvalues``, falling; ``active_predicted``, how many latents have
    λ > βσ² at the optimum; ``elbo_standard_error``; ``quantities``, a list with ``name``, ``trained`` and
    ``optimum`` for the ELBO, the entropy sum and the decoder entropy in nats per point and σ²; and ``latents``, by
    falling entropy drop, each with ``latent`` (counted from 0), ``trained`` and ``optimum``, both τ²/α².

    Args:
        options: replica.
        run: of any model; its trained model is rebuilt.

    Raises:
        AnalysisError: the trained model cannot be rebuilt, the data have more than 4,096 dimensions, or there is no
            optimum, since the data have no spread beyond what the latents explain.
    """
    source = rebuilt(run, options.replica)
    spectrum = _read(source)

    def draw() -> Figure:
        from elboverse.builtin.analyses.spectrum.figure import draw  # matplotlib, which only a figure needs

        return draw(spectrum)

    quantities = _quantities(spectrum)
    latents = [
        {"latent": int(latent), "trained": float(trained), "optimum": float(optimum)}
        for latent, trained, optimum in zip(
            spectrum.order, spectrum.encoder_variances, spectrum.optimum.encoder_variances, strict=True
        )
    ]
    rows = [(quantity["name"], quantity["trained"], quantity["optimum"]) for quantity in quantities]
    rows += [(f"τ²/α² of {row['latent']}", row["trained"], row["optimum"]) for row in latents[:_MOST_LATENT_ROWS]]
    return Result(
        title=f"Distance from the {'exact optimum' if spectrum.is_exact else 'linear optimum'}: {source.described()}",
        columns=("quantity", "trained", "optimum", "difference"),
        rows=[(*row, row[1] - row[2]) for row in rows],
        notes=_notes(source, spectrum),
        data={
            "replica": options.replica,
            "points": source.trained.count("train"),
            "beta": spectrum.beta,
            "is_exact": spectrum.is_exact,
            "eigenvalues": spectrum.eigenvalues.tolist(),
            "active_predicted": spectrum.optimum.active,
            "elbo_standard_error": spectrum.elbo_standard_error,
            "quantities": quantities,
            "latents": latents,
        },
        draw=draw,
    )


def _read(source: Rebuilt) -> Spectrum:
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
            + (f"the KL weight is {beta:g} at the end" if beta <= 0 else "the latents explain the data without a rest")
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


def _quantities(spectrum: Spectrum) -> list[dict[str, Any]]:
    optimum = spectrum.optimum
    return [
        {"name": name, "trained": trained, "optimum": best}
        for name, trained, best in (
            ("ELBO", spectrum.elbo, optimum.elbo),
            ("entropy sum", spectrum.entropy_sum, optimum.entropy_sum),
            ("decoder entropy", spectrum.decoder_entropy, optimum.decoder_entropy),
            ("σ²", spectrum.decoder_variance, optimum.decoder_variance),
        )
    ]


def _notes(source: Rebuilt, spectrum: Spectrum) -> list[str]:
    optimum, latents = spectrum.optimum, len(spectrum.entropy_drop)
    weighted = "σ²" if spectrum.beta == 1 else f"βσ² (β = {spectrum.beta:g})"
    short = optimum.elbo - spectrum.elbo
    distance = f"The ELBO is {abs(short):.4g} nats {'below' if short >= 0 else 'above'}"
    verdict = f"{distance} that of the exact optimum of this model."
    if not spectrum.is_exact:
        verdict = (
            f"{distance} the best of a linear VAE; this model is not linear or is constrained, so that is a guide, "
            f"not its optimum."
        )
    notes = [
        verdict,
        f"At the optimum {optimum.active} of {plural(latents, 'latent')} are active: the eigenvalues above {weighted}.",
        f"All {source.trained.count('train'):,} training points are used.",
    ]
    if not source.trained.is_sampling_free:
        notes[2] += f" The ELBO is sampled: ± {spectrum.elbo_standard_error:.4f} nats over points and samples."
    if latents > _MOST_LATENT_ROWS:
        notes.append(f"{_MOST_LATENT_ROWS} of {latents} latents are shown; --json has all of them.")
    return notes + source.caveats(wants_held_out=False)
