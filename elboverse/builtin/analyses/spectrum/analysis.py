"""``spectrum``: the data's eigenvalues against σ², and how far a trained model is from the exact linear optimum.

A linear VAE has an optimum in closed form, which the eigenvalues of the data's covariance decide alone: latent h is
active iff λ_h exceeds βσ². For any other VAE the same optimum is a guide: what a linear model would reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from elboverse.analysis.reading import plural
from elboverse.analysis.trained_reading import OneReplicaOptions, Rebuilt, rebuilt
from elboverse.builtin.analyses.spectrum.numbers import Spectrum, read_spectrum
from elboverse.contracts import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["SpectrumOptions", "build"]

_MOST_LATENT_ROWS: Final = 20


@attrs.frozen(kw_only=True)
class SpectrumOptions(OneReplicaOptions):
    """Options of `spectrum`."""


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
    spectrum = read_spectrum(source)

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
        notes[2] += f" The ELBO is sampled: ± {spectrum.elbo_standard_error:z.4f} nats over points and samples."
    if latents > _MOST_LATENT_ROWS:
        notes.append(f"{_MOST_LATENT_ROWS} of {latents} latents are shown; --json has all of them.")
    return notes + source.caveats(wants_held_out=False)
