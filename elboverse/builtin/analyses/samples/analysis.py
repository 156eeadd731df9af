"""``samples``: data, their reconstructions, and samples from the trained model, in data units.

A reconstruction is the decoder's mean at the encoder's mean, μ(ν(x)). A sample is x ~ p(x|z) with z ~ p(z), the
decoder's noise included, since that is the density whose ELBO is trained; pictures show its mean μ(z), as is custom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.trained_reading import OneReplicaOptions, Rebuilt, rebuilt
from elboverse.builtin.analyses.samples.numbers import Samples
from elboverse.config.structuring import in_range
from elboverse.contracts import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["SamplesOptions", "build"]

_MOST_ROWS: Final = 12


@attrs.frozen(kw_only=True)
class SamplesOptions(OneReplicaOptions):
    """Options of `samples`.

    Args:
        count: how many points of each kind at most.
    """

    count: int = attrs.field(
        default=2000,
        validator=in_range(minimum=1, maximum=100_000),
        metadata={"help": "How many points of each kind at most."},
    )


def build(options: SamplesOptions, run: Run) -> Result:
    """Return mean and standard deviation of data, reconstructions and samples by dimension, in data units.

    The keys of `Result.data`: ``replica``; ``split``; ``count`` of points of each kind; ``unit``; and ``dimensions``,
    a list with ``name``, for each of ``data``, ``reconstructions`` and ``samples`` a table with ``mean`` and
    ``standard_deviation``, and ``root_mean_squared_error`` of the reconstructions.

    Args:
        options: count and replica.
        run: of any model; its trained model is rebuilt.

    Raises:
        AnalysisError: the trained model cannot be rebuilt.
    """
    source = rebuilt(run, options.replica)
    found = _read(options, source)

    def draw() -> Figure:
        from elboverse.builtin.analyses.samples.figure import draw  # matplotlib, which only a figure needs

        return draw(found, source.source)

    dimensions = _dimensions(found)
    shown = dimensions[:_MOST_ROWS]
    kinds = ("data", "reconstructions", "samples")
    in_unit = f" in {found.unit}" if found.unit else " in data units"
    return Result(
        title=f"Data, reconstructions and samples{in_unit}: {source.described()}",
        columns=(
            "dimension",
            *(head for kind in kinds for head in (kind, "± SD")),
            "RMS error of reconstructions",
        ),
        rows=[
            (
                dimension["name"],
                *(dimension[kind][key] for kind in kinds for key in ("mean", "standard_deviation")),
                dimension["root_mean_squared_error"],
            )
            for dimension in shown
        ],
        notes=_notes(source, found, len(shown)),
        data={
            "replica": options.replica,
            "split": source.split,
            "count": len(found.data),
            "unit": found.unit,
            "dimensions": dimensions,
        },
        draw=draw,
    )


def _read(options: SamplesOptions, source: Rebuilt) -> Samples:
    trained = source.trained
    points = source.points(slice(options.count))
    mean, _ = trained.posterior_moments(points)
    reconstructions, _ = trained.decoder_moments(mean, points)
    latents = trained.prior_samples(trained.noise((len(points), trained.latent_dim), "samples", "latents"))
    beside = trained.beside(len(points), "samples")
    sample_means, variances = trained.decoder_moments(latents, beside)
    if np.isfinite(variances).all():
        samples = sample_means + np.sqrt(variances) * trained.noise(sample_means.shape, "samples", "points")
    else:
        samples = trained.draw(latents, "samples", "points", points=beside)
    data = trained.observed(points)
    dimension = data.shape[1]
    return Samples(
        data=trained.unscaled(data),
        reconstructions=trained.unscaled(reconstructions),
        samples=trained.unscaled(samples),
        sample_means=trained.unscaled(sample_means),
        names=trained.data.names or tuple(f"x{d}" for d in range(dimension)),
        unit=trained.data.unit,
        image_shape=trained.image_shape,
    )


def _dimensions(found: Samples) -> list[dict[str, Any]]:
    kinds = {"data": found.data, "reconstructions": found.reconstructions, "samples": found.samples}
    moments = {kind: (values.mean(0), values.std(0)) for kind, values in kinds.items()}
    errors = np.sqrt(found.squared_error)
    return [
        {
            "name": name,
            **{
                kind: {"mean": float(mean[d]), "standard_deviation": float(deviation[d])}
                for kind, (mean, deviation) in moments.items()
            },
            "root_mean_squared_error": float(errors[d]),
        }
        for d, name in enumerate(found.names)
    ]


def _notes(source: Rebuilt, found: Samples, shown: int) -> list[str]:
    explained = 1 - found.squared_error.sum() / max(found.data.var(0).sum(), np.finfo(float).tiny)
    spread = found.samples.std(0).mean() / max(found.data.std(0).mean(), np.finfo(float).tiny)
    notes = []
    if found.data.std(0).any():
        notes = [
            f"The reconstructions explain {100 * explained:z.1f} % of the variance of the data.",
            f"The samples' standard deviation is {spread:z.3f} times that of the data, on average.",
        ]
    notes.append(
        f"From {source.counted(len(found.data))}; a sample includes the decoder's noise, a reconstruction does not."
    )
    dimensions = len(found.names)
    if shown < dimensions:
        notes.append(f"The first {shown} of {dimensions:,} dimensions are shown; --json has all of them.")
    return notes + source.caveats()
