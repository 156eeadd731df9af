"""``collapse``: which latents are active and which have collapsed onto the prior.

A collapsed latent carries no information about the data: its encoder equals the prior. The paper calls a latent
collapsed if its encoder entropy reaches 1.0 nats; the entropy drop, H_prior,h − H_enc,h, asks the same without regard
to the latent's scale, and so also holds where the prior variance is learned.

Other criteria are set beside these two (`collapse_criteria`).

Sources: Damm et al., AISTATS 2023, for the encoder entropy; Burda et al., ICLR 2016, for active units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.family import family_of, gain_over_no_latents
from elboverse.analysis.final_latents import FinalLatents, final_latents
from elboverse.analysis.reading import Array, Reading, ReplicaOptions, listed
from elboverse.builtin.analyses.collapse.criteria import (
    ACTIVE_UNIT_VARIANCE,
    agreement_table,
    of_model,
    recorded,
    sweep_table,
)
from elboverse.config.structuring import in_range
from elboverse.contracts import Result
from elboverse.theory import identities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["CollapseOptions", "build"]

UNCONVERGED: Final = 0.1
"""Relative mismatch of a variance from which on criteria of collapse say nothing."""


@attrs.frozen(kw_only=True)
class CollapseOptions(ReplicaOptions):
    """Options of `collapse`.

    Args:
        threshold: encoder entropy in nats from which on a latent is collapsed (the paper's criterion).
        drop_threshold: entropy drop in nats below which a latent is collapsed; by default the equivalent of the
            paper's threshold for a standard normal prior.
        from_model: also judge by (ε, δ)-collapse and mutual information, which need the trained model.
        epsilon: ε in nats.
        delta: δ, the share of the points that a collapsed latent may tell apart.
    """

    threshold: float = attrs.field(
        default=identities.PAPER_THRESHOLD,
        metadata={"help": "Encoder entropy in nats from which on a latent is collapsed (the paper's criterion)."},
    )
    drop_threshold: float = attrs.field(
        default=identities.DROP_THRESHOLD,
        validator=in_range(minimum=0),
        metadata={"help": "Entropy drop in nats below which a latent is collapsed."},
    )
    from_model: bool = attrs.field(
        default=False,
        metadata={"help": "Whether to judge by (ε, δ)-collapse and mutual information too, from the trained model."},
    )
    epsilon: float = attrs.field(
        default=0.01,
        validator=in_range(above=0),
        metadata={"help": "ε of (ε, δ)-collapse in nats."},
    )
    delta: float = attrs.field(
        default=0.01,
        validator=in_range(minimum=0, maximum=1),
        metadata={"help": "δ of (ε, δ)-collapse, a share of the points."},
    )


def build(options: CollapseOptions, run: Run) -> Result:
    """Return the state of every latent of a trained model.

    The keys of `Result.data`: ``threshold``, ``drop_threshold`` and ``ceiling`` in nats; ``source`` with ``split``
    (``"held_out"``, ``"train"`` or ``"trajectory"``) and ``step``; ``latent_dim``; and ``replicas``, a list with, per
    replica, ``replica``, ``active_by_threshold``, ``active_by_drop``, ``active_units`` (null without an evaluation)
    and ``latents``, sorted by falling entropy drop, each with ``latent`` (counted from 0), ``encoder_entropy``,
    ``prior_entropy``, ``entropy_drop``, ``kl``, ``mean_variance``, ``collapsed_by_threshold``, ``collapsed_by_drop``;
    and ``criteria``, each with ``criterion`` (``encoder_entropy``, ``entropy_drop``, ``kl``, ``active_units``, and with
    `from_model` ``epsilon_delta`` and ``mutual_information``), ``threshold``, by replica the number ``active``, its
    ``values`` by latent and their ``standard_errors`` (null where nothing is sampled), and ``sweep``: a list with other
    values of ``threshold`` and the number ``active`` then.

    Args:
        options: thresholds and replica.
        run: of any model.

    Raises:
        AnalysisError: the run holds neither an evaluation nor a recorded step, has no such replica, or its trained
            model is needed and cannot be rebuilt.
    """
    reading = Reading(run, options.replica)
    final = final_latents(reading)
    by_threshold = final.encoder_entropy >= options.threshold
    by_drop = final.entropy_drop < options.drop_threshold
    criteria = recorded(final, options.threshold, options.drop_threshold)
    if options.from_model:
        criteria += of_model(reading, options.drop_threshold, options.epsilon, options.delta)

    def draw() -> Figure:
        from elboverse.builtin.analyses.collapse.figure import draw  # matplotlib, which only a figure needs

        return draw(reading, final, options.threshold, options.drop_threshold)

    single = len(reading.replicas) == 1
    columns, rows = _latent_table(final, by_threshold, by_drop) if single else _rank_table(final, by_threshold, by_drop)
    return Result(
        title=f"Posterior collapse, in nats: {reading.described()}; {final.source}",
        columns=columns,
        rows=rows,
        further=[agreement_table(criteria), sweep_table(criteria)],
        notes=_verdict(reading) + _notes(options, reading, final, by_threshold, by_drop),
        data={
            **_data(options, reading, final, by_threshold, by_drop),
            "criteria": [criterion.table() for criterion in criteria],
        },
        draw=draw,
    )


def _verdict(reading: Reading) -> list[str]:
    """Return the verdict on convergence, and that the criteria mean nothing yet where there is none."""
    found = reading.certificates()
    if not found:
        return []
    notes = reading.verdict()
    if any(one.verdict == "not stationary" and not one.saddle for one in found):
        far = max(abs(one.largest.mismatch) for one in found)
        if far > UNCONVERGED:
            notes.insert(1, "Until it is, the criteria below mean nothing: they hold for a converged model.")
    return notes


def _state(collapsed: Any) -> str:
    return "collapsed" if collapsed else "active"


def _latent_table(
    final: FinalLatents, by_threshold: Array, by_drop: Array
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    columns = (
        "latent",
        "encoder entropy",
        "prior entropy",
        "entropy drop",
        "KL",
        "variance of mean",
        "by threshold",
        "by drop",
    )
    rows = [
        (
            int(h),
            float(final.encoder_entropy[0, h]),
            float(final.prior_entropy[0, h]),
            float(final.entropy_drop[0, h]),
            float(final.kl[0, h]),
            None if final.mean_variance is None else float(final.mean_variance[0, h]),
            _state(by_threshold[0, h]),
            _state(by_drop[0, h]),
        )
        for h in final.order[0]
    ]
    return columns, rows


def _rank_table(
    final: FinalLatents, by_threshold: Array, by_drop: Array
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    columns = (
        "rank",
        "encoder entropy",
        "entropy drop",
        "lower quartile",
        "upper quartile",
        "KL",
        "active by threshold",
        "active by drop",
    )
    ranked = {
        name: np.take_along_axis(values, final.order, axis=1)
        for name, values in {
            "encoder": final.encoder_entropy,
            "drop": final.entropy_drop,
            "kl": final.kl,
            "by_threshold": by_threshold,
            "by_drop": by_drop,
        }.items()
    }
    replicas, latents = final.order.shape
    lower, upper = np.quantile(ranked["drop"], (0.25, 0.75), axis=0)
    rows = [
        (
            rank + 1,
            float(np.median(ranked["encoder"][:, rank])),
            float(np.median(ranked["drop"][:, rank])),
            float(lower[rank]),
            float(upper[rank]),
            float(np.median(ranked["kl"][:, rank])),
            f"{int((~ranked['by_threshold'][:, rank]).sum())} of {replicas}",
            f"{int((~ranked['by_drop'][:, rank]).sum())} of {replicas}",
        )
        for rank in range(latents)
    ]
    return columns, rows


def _notes(
    options: CollapseOptions, reading: Reading, final: FinalLatents, by_threshold: Array, by_drop: Array
) -> list[str]:
    latents = final.kl.shape[1]
    criteria = [
        (f"encoder entropy < {options.threshold:.4g} (the paper's criterion)", (~by_threshold).sum(1)),
        (f"entropy drop ≥ {options.drop_threshold:.4g}", (~by_drop).sum(1)),
    ]
    if final.mean_variance is not None:
        units = (final.mean_variance > ACTIVE_UNIT_VARIANCE).sum(1)
        criteria.append((f"variance of the mean > {ACTIVE_UNIT_VARIANCE} (active units)", units))
    several = len(reading.replicas) > 1
    notes = []
    for criterion, counts in criteria:
        each = f"; by replica: {', '.join(str(count) for count in counts)}" if several else ""
        notes.append(f"Active by {criterion}: {'median ' if several else ''}{np.median(counts):g} of {latents}{each}.")
    disagreeing = by_threshold != by_drop
    if disagreeing.any():
        if several:
            notes.append(f"The first two disagree on {int(disagreeing.sum())} of {disagreeing.size} latents.")
        else:
            which = np.flatnonzero(disagreeing[0])
            notes.append(f"The first two disagree on latent{'s' if len(which) > 1 else ''} {listed(which)}.")
    for split in ("held_out", "train"):
        gain = gain_over_no_latents(reading.run, split, reading.replica)
        if gain is not None:
            kind = "held out" if split == "held_out" else "training points"
            notes.append(
                f"Gain over the best model without latents ({family_of(reading.run).decoder}): {gain:z.4f} nats, "
                f"{kind}; it is 0 at full collapse."
            )
            break
    ceiling = identities.STANDARD_NORMAL_ENTROPY
    low, high = float(final.prior_entropy.min()), float(final.prior_entropy.max())
    if max(abs(low - ceiling), abs(high - ceiling)) > 1e-3:
        notes.append(
            f"Warning: the prior variances are not 1 (prior entropies from {low:z.4f} to {high:z.4f} nats, not "
            f"{ceiling:z.4f}), so the threshold on the encoder entropy misleads; go by the entropy drop."
        )
    else:
        notes.append(f"A fully collapsed latent has the encoder entropy of the prior, ½ ln 2πe = {ceiling:z.4f} nats.")
    return notes + reading.caveats()


def _data(
    options: CollapseOptions, reading: Reading, final: FinalLatents, by_threshold: Array, by_drop: Array
) -> dict[str, Any]:
    variance = final.mean_variance
    return {
        "threshold": options.threshold,
        "drop_threshold": options.drop_threshold,
        "ceiling": identities.STANDARD_NORMAL_ENTROPY,
        "source": {"split": final.split, "step": final.step},
        "latent_dim": reading.run.latent_dim,
        "replicas": [
            {
                "replica": replica,
                "active_by_threshold": int((~by_threshold[r]).sum()),
                "active_by_drop": int((~by_drop[r]).sum()),
                "active_units": None if variance is None else int((variance[r] > ACTIVE_UNIT_VARIANCE).sum()),
                "latents": [
                    {
                        "latent": int(h),
                        "encoder_entropy": float(final.encoder_entropy[r, h]),
                        "prior_entropy": float(final.prior_entropy[r, h]),
                        "entropy_drop": float(final.entropy_drop[r, h]),
                        "kl": float(final.kl[r, h]),
                        "mean_variance": None if variance is None else float(variance[r, h]),
                        "collapsed_by_threshold": bool(by_threshold[r, h]),
                        "collapsed_by_drop": bool(by_drop[r, h]),
                    }
                    for h in final.order[r]
                ],
            }
            for r, replica in enumerate(reading.replicas)
        ],
    }
