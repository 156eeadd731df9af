"""``latents``: where the encoder puts the points in latent space.

At a stationary point with a prior N(0, α²_h) the aggregate encoder has the prior's second moment, latent by latent:
⟨ν²_h⟩ + ⟨τ²_h⟩ = α²_h. In the plane of √⟨ν²_h⟩/α_h and √⟨τ²_h⟩/α_h every latent then lies on the unit arc: near
(0, 1) if it has collapsed, near (1, 0) if it tells the points well apart.

Source: Damm et al., AISTATS 2023, appendix (the second moment at stationary points).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from elboverse.analysis.groups import groups_of
from elboverse.analysis.reading import plural
from elboverse.analysis.trained_reading import OneReplicaOptions, Rebuilt, rebuilt
from elboverse.builtin.analyses.latents.numbers import Encoded
from elboverse.config.structuring import in_range
from elboverse.contracts import Result
from elboverse.theory import identities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["LatentsOptions", "build"]


@attrs.frozen(kw_only=True)
class LatentsOptions(OneReplicaOptions):
    """Options of `latents`.

    Args:
        points: how many points are encoded at most.
        drop_threshold: entropy drop in nats below which a latent is collapsed.
        colour: what points are coloured by, the name of the label or of a condition, or ``"none"``; by default the
            label, or else the first condition.
    """

    points: int = attrs.field(
        default=10_000,
        validator=in_range(minimum=2, maximum=1_000_000),
        metadata={"help": "How many points are encoded at most."},
    )
    drop_threshold: float = attrs.field(
        default=identities.DROP_THRESHOLD,
        validator=in_range(minimum=0),
        metadata={"help": "Entropy drop in nats below which a latent is collapsed."},
    )
    colour: str = attrs.field(
        default="",
        metadata={"help": "Name of the label or condition that points are coloured by, or none."},
    )


def build(options: LatentsOptions, run: Run) -> Result:
    """Return the moments of the encoder, latent by latent.

    The keys of `Result.data`: ``replica``; ``split`` and ``points`` encoded; ``drop_threshold`` in nats; ``colour``,
    what points are coloured by, null for nothing; and ``latents``, sorted by falling entropy drop, each with ``latent``
    (counted from 0), ``prior_variance`` (α²), ``mean`` and ``standard_deviation`` of ν over the points, ``mean_square``
    (⟨ν²⟩/α²), ``mean_variance`` (⟨τ²⟩/α²), ``second_moment`` (their sum), ``entropy_drop`` in nats and ``collapsed``.

    Args:
        options: points, threshold and replica.
        run: of any model; its trained model is rebuilt.

    Raises:
        AnalysisError: the trained model cannot be rebuilt.
    """
    source = rebuilt(run, options.replica)
    trained = source.trained
    means, variances = trained.posterior_moments(source.points(slice(options.points)))
    groups = groups_of(trained.data, source.split, slice(options.points), options.colour)
    encoded = Encoded(means, variances, trained.prior_variance, options.drop_threshold, groups)

    def draw() -> Figure:
        from elboverse.builtin.analyses.latents.figure import draw  # matplotlib, which only a figure needs

        return draw(encoded)

    table = _table(encoded)
    return Result(
        title=f"Latents over {source.counted(len(means))}: {source.described()}",
        columns=("latent", "mean of ν", "SD of ν", "⟨ν²⟩/α²", "⟨τ²⟩/α²", "their sum", "entropy drop", "state"),
        rows=[
            (
                latent["latent"],
                latent["mean"],
                latent["standard_deviation"],
                latent["mean_square"],
                latent["mean_variance"],
                latent["second_moment"],
                latent["entropy_drop"],
                "collapsed" if latent["collapsed"] else "active",
            )
            for latent in table
        ],
        notes=_notes(source, encoded),
        data={
            "replica": options.replica,
            "split": source.split,
            "points": len(means),
            "drop_threshold": options.drop_threshold,
            "colour": None if groups is None else groups.name,
            "latents": table,
        },
        draw=draw,
    )


def _table(encoded: Encoded) -> list[dict[str, Any]]:
    second_moment = encoded.mean_square + encoded.mean_variance
    return [
        {
            "latent": int(h),
            "prior_variance": float(encoded.prior_variance[h]),
            "mean": float(encoded.means[:, h].mean()),
            "standard_deviation": float(encoded.means[:, h].std()),
            "mean_square": float(encoded.mean_square[h]),
            "mean_variance": float(encoded.mean_variance[h]),
            "second_moment": float(second_moment[h]),
            "entropy_drop": float(encoded.entropy_drop[h]),
            "collapsed": bool(encoded.collapsed[h]),
        }
        for h in encoded.order
    ]


def _notes(source: Rebuilt, encoded: Encoded) -> list[str]:
    second_moment = encoded.mean_square + encoded.mean_variance
    farthest = int(np.abs(second_moment - 1).argmax())
    latents = len(second_moment)
    threshold, farthest_sum = encoded.drop_threshold, second_moment[farthest]
    active = int((~encoded.collapsed).sum())
    notes = [
        f"{active} of {plural(latents, 'latent')} active, by an entropy drop of at least {threshold:.4g} nats.",
        f"At a stationary point each sum is 1; that of latent {farthest} is farthest off, {farthest_sum:z.4f}.",
    ]
    return notes + source.caveats()
