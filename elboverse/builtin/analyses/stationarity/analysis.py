"""``stationarity``: whether the variances of a trained model are where the ELBO is stationary.

    ELBO − H_sum = R_σ + Σ_h R_h,    R_σ = (D/2)(1 − s²/σ²),    R_h = ½(1 − m_h/α²_h)

holds at any parameters, with R_σ = −∂ELBO/∂ln σ² and R_h = −∂ELBO/∂ln α²_h. The gap is a signed sum, so it can vanish
while its terms do not; each is therefore judged by itself, with its standard error. The tolerance is a relative
mismatch of the variances, |1 − s²/σ²| and |1 − m_h/α²_h|, since training with mini-batches never ends at zero.

Source: Damm et al., AISTATS 2023, Theorems 1 to 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.family import decoder_symbol, family_of, varentropies
from elboverse.analysis.objective import objective_notes
from elboverse.analysis.reading import Reading, ReplicaOptions, at, plural
from elboverse.builtin.analyses.stationarity.by_dimension import (
    ByDimension,
    by_dimension,
    dimension_notes,
    dimension_table,
)
from elboverse.builtin.analyses.stationarity.gradient_norm import GradientNorm, gradient_norms, gradient_table
from elboverse.builtin.analyses.stationarity.numbers import SEVERITY, Residuals, Verdict, read_residuals, verdict
from elboverse.config.structuring import in_range
from elboverse.contracts import Result, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["StationarityOptions", "build"]


_EARLIER: Final = 3


@attrs.frozen(kw_only=True)
class StationarityOptions(ReplicaOptions):
    """Options of `stationarity`.

    Args:
        tolerance: relative mismatch of a variance, in units of that variance, that still counts as stationary.
        gradient: also estimate the gradient of the ELBO, which needs the trained model.
        dimensions: also judge the decoder dimension by dimension, which needs the trained model.
    """

    tolerance: float = attrs.field(
        default=0.02,
        validator=in_range(above=0, maximum=1),
        metadata={"help": "Relative mismatch of a variance that still counts as stationary."},
    )
    gradient: bool = attrs.field(
        default=False,
        metadata={"help": "Whether to estimate the gradient norm of the ELBO too, from the trained model."},
    )
    dimensions: bool = attrs.field(
        default=False,
        metadata={"help": "Whether to judge the decoder by dimension too (per gene), from the trained model."},
    )


def build(options: StationarityOptions, run: Run) -> Result:
    """Return the residuals of the variances, with standard errors and a verdict on each.

    The keys of `Result.data`: ``tolerance``, relative; ``split``; ``decoder_variance_is_fixed``; ``points`` evaluated;
    ``verdict``, the worst of the last evaluation; ``tolerances`` in nats, by quantity; ``evaluations``, each with
    ``step`` and ``replicas``, a list with ``replica`` and ``quantities``: each with ``name`` (``R_σ``, ``R_0`` …,
    ``gap``), ``value``, ``standard_error`` (null where one point was evaluated) and ``verdict``; and ``gradient``, null
    unless asked for, a list with ``replica``, ``norm``, ``noise`` (the norm that the noise alone would give) and
    ``parameters``, each with ``name``, ``norm`` and ``noise``; and ``dimensions``, null unless asked for, a list with
    ``replica``, ``is_certificate`` and ``dimensions``, each with ``name``, ``value``, ``standard_error``,
    ``varentropy``, ``mismatch``, ``costs``, ``verdict`` and, of a negative binomial, ``dispersion``.

    Args:
        options: tolerance, gradient, dimensions and replica.
        run: of any model.

    Raises:
        AnalysisError: the run has no evaluation, does not say its number of dimensions, or has no such replica.
    """
    reading = Reading(run, options.replica)
    residuals = read_residuals(reading, options.tolerance)

    def draw() -> Figure:
        from elboverse.builtin.analyses.stationarity.figure import draw  # matplotlib, which only a figure needs

        return draw(reading, residuals)

    shown = _earlier(len(residuals.steps))
    several = len(reading.replicas) > 1
    worst = [residuals.worst_replica(quantity) for quantity in range(len(residuals.names))]
    gradient = gradient_norms(reading) if options.gradient else []
    dimensions: list[ByDimension] = []
    if options.dimensions:
        dimensions = by_dimension(reading, lambda r, error, spread: verdict(r, error, options.tolerance * spread))
    return Result(
        title=f"Stationarity of the variances, in nats: {reading.described('worst')}, {_source(residuals, run)}",
        columns=(
            "quantity",
            *(f"step {residuals.steps[evaluation]:,}" for evaluation in (*shown, -1)),
            "± SE",
            "tolerance",
            "verdict",
            *(("replica",) if several else ()),
        ),
        rows=[
            (
                name,
                *(float(residuals.values[evaluation, worst[q], q]) for evaluation in (*shown, -1)),
                float(residuals.standard_errors[-1, worst[q], q]),
                float(residuals.tolerances[q]),
                residuals.verdict(-1, worst[q], q),
                *((reading.replicas[worst[q]],) if several else ()),
            )
            for q, name in enumerate(residuals.names)
        ],
        further=[
            *_calibration(reading, options.tolerance),
            *([dimension_table(dimensions)] if dimensions else []),
            *([gradient_table(gradient)] if gradient else []),
        ],
        notes=reading.verdict()
        + _notes(options, reading, residuals, worst)
        + dimension_notes(dimensions, family_of(run).decoder)
        + _gradient_notes(gradient),
        data={
            **_data(options, reading, residuals, worst),
            "gradient": [one.table() for one in gradient] if gradient else None,
            "dimensions": [one.table() for one in dimensions] if dimensions else None,
        },
        draw=draw,
    )


def _calibration(reading: Reading, tolerance: float) -> list[Table]:
    """Return whether the model fits held-out points as it is calibrated; nothing without an evaluation of them."""
    run = reading.run
    if not reading.evaluated("held_out") or run.evaluation_points("held_out") < 2:
        return []
    words = {"stationary": "calibrated", "not stationary": "not calibrated", "undecided": "undecided"}
    dimension = at(run.data, "dimension")
    decoder, prior = varentropies(run, "held_out", dimension)
    scales = np.array([decoder, *[prior] * run.latent_dim])
    values, errors = (
        np.concatenate(
            [
                reading.evaluation("held_out", f"decoder_residual{suffix}")[-1, :, None],
                reading.evaluation("held_out", f"prior_residual{suffix}")[-1],
            ],
            axis=-1,
        )
        for suffix in ("", "_standard_error")
    )
    if not scales.all():  # the decoder's varentropy is not known
        return []
    mismatch = values / scales
    worst = np.abs(mismatch).argmax(0)
    mismatch_of = f"mismatch of the {'variance' if family_of(run).is_gaussian else 'temperature'}"
    names = [decoder_symbol(run), *(f"R_{h}" for h in range(run.latent_dim))]
    rows = [
        (
            name,
            float(values[worst[q], q]),
            float(errors[worst[q], q]),
            f"{100 * mismatch[worst[q], q]:+z.2f} ± {100 * errors[worst[q], q] / scales[q]:z.2f} %",
            float(values[worst[q], q] ** 2 / (2 * scales[q])),
            words[verdict(float(values[worst[q], q]), float(errors[worst[q], q]), tolerance * float(scales[q]))],
        )
        for q, name in enumerate(names)
    ]
    return [
        Table(
            title=f"Calibration on {run.evaluation_points('held_out'):,} held-out points, with their sampling error",
            columns=("quantity", "nats", "± SE", mismatch_of, "costs (nats)", "verdict"),
            rows=rows,
        )
    ]


def _earlier(evaluations: int) -> list[int]:
    """Return which evaluations before the last one the table shows: evenly spaced, the first among them."""
    count = min(_EARLIER, evaluations - 1)
    return [round(i * (evaluations - 1) / count) for i in range(count)] if count else []


def _source(residuals: Residuals, run: Run) -> str:
    kind = "training points" if residuals.split == "train" else "held-out points"
    return f"{run.evaluation_points(residuals.split):,} {kind}"


def _piling(run: Run) -> list[str]:
    """Return that the decoder's density piles up on values that repeat, where its σ is below half their distance."""
    gap, dimensions = (at(run.data, "ties", key) for key in ("gap", "dimensions"))
    if not isinstance(gap, float) or not isinstance(dimensions, int) or dimensions < 1 or gap <= 0:
        return []
    deviation = float(np.exp(0.5 * np.min(run.series("decoder_log_var")[-1:], initial=np.inf)))
    if not deviation < gap / 2:
        return []
    text = (
        f"Warning: in {plural(dimensions, 'dimension')} values repeat, {gap:.3g} apart or more, and the decoder's σ is "
        f"{deviation:.3g}: its density piles up on them and the ELBO can rise without bound, stationary all the way. "
        "Take a discrete likelihood, or add noise of the width of the steps."
    )
    return [text]


def _overall(reading: Reading, residuals: Residuals, worst: list[int], tolerance: float) -> Verdict:
    certified = [attrs.evolve(one, tolerance=tolerance).verdict for one in reading.certificates()]
    if certified:
        return max(certified, key=lambda found: SEVERITY[found])
    return max((residuals.verdict(-1, r, q) for q, r in enumerate(worst)), key=lambda found: SEVERITY[found])


def _notes(options: StationarityOptions, reading: Reading, residuals: Residuals, worst: list[int]) -> list[str]:
    step = int(residuals.steps[-1])
    verdicts = [residuals.verdict(-1, r, q) for q, r in enumerate(worst)]
    judged = len(verdicts) - verdicts.count("not judged")
    found = _overall(reading, residuals, worst, options.tolerance)
    overall = (
        f"Verdict after {plural(step, 'step')}: {found}; {verdicts.count('stationary')} of {judged} judged quantities "
        f"are stationary within a relative mismatch of {options.tolerance:g}."
    )
    notes = [overall]
    family = family_of(reading.run)
    if not family.is_gaussian:
        notes.append(
            f"{family.described}: R_dec is judged by the varentropy V, relative mismatch R/V; setting the temperature "
            "right would gain R²/2V nats."
        )
    if residuals.decoder_is_fixed and family.decoder == "Gaussian":
        notes.append(
            "The decoder variance of this model is fixed: R_σ and with it the gap need not vanish at convergence, and "
            "the theorem ELBO = entropy sum does not apply."
        )
    notes += objective_notes(reading.run)
    notes += _piling(reading.run)
    if step == 0 and "judgement" not in reading.run.documents:
        notes.append("The only evaluation was made before training.")
    if residuals.split != "train":
        notes.append(
            "No evaluation on training points was recorded; on held-out points the residuals also hold the difference "
            "between training and held-out data."
        )
    notes += [
        "stationary: |R| + 2 SE ≤ tolerance; not stationary: |R| − 2 SE > tolerance; else undecided.",
        f"The gap {residuals.decoder_symbol} + Σ R_h is a signed sum; its terms can cancel, so it certifies nothing.",
        "Stationary variances are necessary for convergence, not sufficient.",
    ]
    return notes + reading.caveats()


def _gradient_notes(gradient: list[GradientNorm]) -> list[str]:
    if not gradient:
        return []
    worst = max(gradient, key=lambda one: one.norm)
    return [
        f"The gradient of the ELBO has a norm of {worst.norm:.4g}, and noise alone would give {worst.noise:.4g}.",
        "It is the gradient of the unweighted ELBO: annealing and a weight constraint are left out of it.",
    ]


def _data(options: StationarityOptions, reading: Reading, residuals: Residuals, worst: list[int]) -> dict[str, Any]:
    names = residuals.names
    return {
        "tolerance": options.tolerance,
        "split": residuals.split,
        "points": reading.run.evaluation_points(residuals.split),
        "decoder_variance_is_fixed": residuals.decoder_is_fixed,
        "verdict": _overall(reading, residuals, worst, options.tolerance),
        "certificates": [attrs.evolve(one, tolerance=options.tolerance).table() for one in reading.certificates()],
        "tolerances": dict(zip(names, residuals.tolerances.tolist(), strict=True)),
        "evaluations": [
            {
                "step": int(step),
                "replicas": [
                    {
                        "replica": replica,
                        "quantities": [
                            {
                                "name": name,
                                "value": float(residuals.values[e, r, q]),
                                "standard_error": float(residuals.standard_errors[e, r, q]),
                                "verdict": residuals.verdict(e, r, q),
                            }
                            for q, name in enumerate(names)
                        ],
                    }
                    for r, replica in enumerate(reading.replicas)
                ],
            }
            for e, step in enumerate(residuals.steps)
        ],
    }
