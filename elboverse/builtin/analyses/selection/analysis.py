"""``selection``: which of several models BIC picks on the same batches, from the ELBO and from the entropy sum.

On a stream whose distribution changes, model selection has to follow with few points at a time. The paper's criterion
of a batch of B points is

    BIC = k ln B − 2 · (sum over the batch),    k = HD + 1 for the linear VAE,

with either the ELBO or the entropy sum in place of the log-likelihood; both bound it from below alike once training
has converged, but the entropy sum scatters far less. The textbook's criterion of all N points of a regime, with
k = DH + 1 + D − H(H − 1)/2 (mean and rotations counted), is given beside it.

Sources: Damm et al., AISTATS 2023; Schwarz 1978; Tipping and Bishop 1999 (number of parameters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import Array, ReplicaOptions, at, differ, listed, plural
from elboverse.builtin.analyses.selection.candidates import Candidate
from elboverse.builtin.analyses.selection.controlled import controlled_notes, controlled_table, fit_regime
from elboverse.builtin.analyses.selection.numbers import (
    ESTIMATES,
    Selection,
    is_complete,
    read_selection,
    spans_read,
    steps_read,
)
from elboverse.builtin.analyses.selection.regimes import Regime, Span
from elboverse.config.structuring import in_range
from elboverse.contracts import Result, Table
from elboverse.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["SelectionOptions", "build"]

_AGREEMENT: Final = 0.05
_AGREEMENT_NATS: Final = 0.2
"""How far ELBO and entropy sum may be apart, as a share of the ELBO or in nats per point, before a note says so."""


@attrs.frozen(kw_only=True)
class SelectionOptions(ReplicaOptions):
    """Options of `selection`.

    Args:
        last: over how many steps at the end of each regime numbers are taken.
    """

    several_runs: ClassVar[bool] = True

    last: int = attrs.field(
        default=2000,
        validator=in_range(minimum=1),
        metadata={"help": "Over how many steps at the end of each regime numbers are taken."},
    )


def build(options: SelectionOptions, runs: tuple[Run, ...]) -> Result:
    """Return BIC from both estimates at the end of each regime of a stream, and which model each of them picks.

    Of several passes through the stream, the last complete one is read. Values are in nats, those of batches averaged
    over the last steps of a regime and over the replicas. The keys of `Result.data`: ``last`` in steps;
    ``batch_size``; ``models``, a list with, per run, ``run``, the path, ``label``, ``latent_dim``, ``parameters`` and
    ``textbook_parameters``, the two counts, and ``counted``, ``"linear formula"``, ``"recorded roles"`` or
    ``"checkpoint"``; and ``regimes``, a list with ``name``, ``points`` (N),
    ``latents``, ``log_likelihood``, ``first_step``, ``last_step``, ``batches``,
    ``is_complete``, and ``models``, in the order above: ``label``; ``theory``, per point; ``variance_ratio``,
    Var[ELBO]/Var[entropy sum]; and for both ``elbo`` and ``entropy_sum`` a table with ``mean`` and
    ``standard_deviation`` per point, ``bic`` of a batch, ``lowest_share`` (in how many of the batches this model has
    the lowest BIC, 0 … 1), ``is_picked`` (the mean BIC is the lowest), ``textbook_bic`` of the regime and
    ``is_picked_by_textbook``; and ``control_variates``, null away from stationary points, with ``mean``,
    ``standard_deviation``, ``bic``, ``variance_ratio`` and ``coefficients`` of ELBO − a · R. What is not known is null.

    Args:
        options: last and replica.
        runs: two or more, of any models, on the same batches.

    Raises:
        AnalysisError: there is only one run, they were not trained on the same batches, or they have no recorded step
            in common; or the parameters of a model cannot be counted.
    """
    pool = _pooled(options, runs)
    selection = read_selection(pool)
    read = spans_read(selection)
    regimes = [_regime_data(selection, selection.timeline.regimes[span.regime], span, options.last) for span in read]
    fits = [fit_regime(pool, selection.candidates, steps_read(selection, span, options.last)) for span in read]
    for regime, of_regime in zip(regimes, fits, strict=True):
        for model, candidate, fit in zip(regime["models"], selection.candidates, of_regime, strict=True):
            model["control_variates"] = None if fit is None else fit.data(candidate, selection.batch_size)

    def draw() -> Figure:
        from elboverse.builtin.analyses.selection.figure import draw  # matplotlib, which only a figure needs

        return draw(selection)

    return Result(
        title=(
            f"Model selection among {len(runs)} models, batches of {selection.batch_size:,} points: "
            f"the last {plural(options.last, 'step')} of each regime, nats per point"
        ),
        columns=(
            *("regime", "model", "k", "ELBO", "± SD", "entropy sum", "± SD", "theory", "variance ratio"),
            *("BIC, ELBO", "BIC, entropy sum", "lowest %, ELBO", "lowest %, entropy sum"),
        ),
        rows=[
            _row(regime, candidate, model)
            for regime in regimes
            for candidate, model in zip(selection.candidates, regime["models"], strict=True)
        ],
        further=[_textbook(selection, regimes), *controlled_table(regimes)],
        notes=[*_notes(selection, regimes, pool), *controlled_notes(regimes, fits)],
        data={
            "last": options.last,
            "batch_size": selection.batch_size,
            "models": [candidate.described() for candidate in selection.candidates],
            "regimes": regimes,
        },
        draw=draw,
    )


def _pooled(options: SelectionOptions, runs: tuple[Run, ...]) -> Pool:
    if len(runs) < 2:
        raise AnalysisError(
            f"{runs[0].path}: selection needs at least two runs; give the files of all models one after another"
        )
    return Pool.of(runs, options.replica)


def _regime_data(selection: Selection, regime: Regime, span: Span, last: int) -> dict[str, Any]:
    read = steps_read(selection, span, last)
    rows = np.isin(selection.steps, read)
    estimates = {name: values[:, rows] for name, values in selection.estimates.items()}
    tables = {
        name: _estimate_data(selection, values, selection.bic(name)[:, rows], regime.points)
        for name, values in estimates.items()
    }
    return {
        "name": regime.name,
        "points": regime.points,
        "latents": regime.latents,
        "log_likelihood": regime.log_likelihood,
        "first_step": span.first,
        "last_step": int(read[-1]),
        "batches": int(rows.sum()),
        "is_complete": is_complete(selection, span),
        "models": [
            {
                "label": candidate.label,
                "theory": selection.theory(model, regime),
                "variance_ratio": _ratio(*(values[model].var() for values in estimates.values())),
                **{name: table[model] for name, table in tables.items()},
            }
            for model, candidate in enumerate(selection.candidates)
        ],
    }


def _estimate_data(selection: Selection, values: Array, bic: Array, points: int) -> list[dict[str, Any]]:
    """Return what there is to say of each model by one estimate, values and BIC of which have shape (M, T', R)."""
    means, mean_bics = values.mean((1, 2)), bic.mean((1, 2))
    parameters = np.array([candidate.textbook_parameters for candidate in selection.candidates])
    textbook_bics = parameters * np.log(points) - 2 * points * means
    lowest = bic.argmin(0)
    return [
        {
            "mean": float(means[model]),
            "standard_deviation": float(values[model].std()),
            "bic": float(mean_bics[model]),
            "lowest_share": float((lowest == model).mean()),
            "is_picked": bool(model == mean_bics.argmin()),
            "textbook_bic": float(textbook_bics[model]),
            "is_picked_by_textbook": bool(model == textbook_bics.argmin()),
        }
        for model in range(len(values))
    ]


def _ratio(elbo: float, entropy_sum: float) -> float | None:
    return float(elbo / entropy_sum) if entropy_sum > 0 else None


def _row(regime: dict[str, Any], candidate: Candidate, model: dict[str, Any]) -> tuple[Any, ...]:
    elbo, entropy_sum = model["elbo"], model["entropy_sum"]
    return (
        *(regime["name"], candidate.label, candidate.parameters),
        *(elbo["mean"], elbo["standard_deviation"], entropy_sum["mean"], entropy_sum["standard_deviation"]),
        *(model["theory"], None if model["variance_ratio"] is None else round(model["variance_ratio"], 1)),
        *(round(estimate["bic"], 1) for estimate in (elbo, entropy_sum)),
        *(round(100 * estimate["lowest_share"], 2) for estimate in (elbo, entropy_sum)),
    )


def _textbook(selection: Selection, regimes: list[dict[str, Any]]) -> Table:
    return Table(
        title="The textbook's BIC of all N points of a regime, k ln N − 2N · (mean of the estimate)",
        columns=("regime", "model", "N", "k", "BIC, ELBO", "lowest", "BIC, entropy sum", "lowest"),
        rows=[
            (
                *(regime["name"], candidate.label, regime["points"], candidate.textbook_parameters),
                *(
                    cell
                    for name in ESTIMATES
                    for cell in (round(model[name]["textbook_bic"], 1), model[name]["is_picked_by_textbook"])
                ),
            )
            for regime in regimes
            for candidate, model in zip(selection.candidates, regime["models"], strict=True)
        ],
    )


def _notes(selection: Selection, regimes: list[dict[str, Any]], pool: Pool) -> list[str]:
    notes = [_verdict(regime) for regime in regimes]
    notes += [
        f"{regime['name']}: ELBO and entropy sum differ ({listed(unsettled)}), so these models had not converged there "
        "and BIC says little."
        for regime in regimes
        if (unsettled := _unsettled(regime))
    ]
    if any(at(reading.run.config, "training", "variances") == "optimal" for reading in pool.readings):
        notes.append(
            "Variances are the closed form of each batch, so ELBO and entropy sum of a batch are too high by up to "
            f"(1 + H)/(2B) nats, B = {selection.batch_size:,}."
        )
    ratios = [ratio for regime in regimes for model in regime["models"] if (ratio := model["variance_ratio"])]
    if ratios:
        notes.append(
            f"Over these batches, the variance of the ELBO is {min(ratios):,.4g} to {max(ratios):,.4g} times that of "
            f"the entropy sum."
        )
    notes.append(
        f"BIC of a batch is k ln B − 2 · (sum of the estimate over the batch), B = {selection.batch_size:,}, averaged."
    )
    most = max(regime["points"] for regime in regimes)
    notes.append(
        f"The textbook's BIC multiplies the error of a mean by 2N: 0.001 nats per point move it by {0.002 * most:,.4g}."
    )
    linear = [candidate.label for candidate in selection.candidates if candidate.is_linear]
    counted = [candidate.label for candidate in selection.candidates if not candidate.is_linear]
    if linear:
        notes.append(f"k = HD + 1, in the textbook's form DH + 1 + D − H(H − 1)/2: {listed(linear)}.")
    if counted:
        notes.append(f"k is the number of trained parameters outside the encoder: {listed(counted)}.")
    notes += [
        f"The record ends within {regime['name']}, after {plural(regime['batches'], 'step')} that are used."
        for regime in regimes
        if not regime["is_complete"]
    ]
    reached = {span.regime for span in selection.spans}
    missing = [regime.name for number, regime in enumerate(selection.timeline.regimes) if number not in reached]
    if missing:
        notes.append(f"No step is recorded in {listed(missing)}.")
    if differ([at(reading.run.config, "seed") for reading in pool.readings]):
        notes.append("The runs have different seeds, so the same step may have seen other points in each of them.")
    return notes + pool.caveats()


def _verdict(regime: dict[str, Any]) -> str:
    picks = []
    for name, words in ESTIMATES.items():
        (picked,) = [model for model in regime["models"] if model[name]["is_picked"]]
        share = 100 * picked[name]["lowest_share"]
        picks.append(f"{picked['label']} by {words} (lowest in {share:z.1f} % of the batches)")
    return f"{regime['name']}: the lowest mean BIC is that of {picks[0]} and of {picks[1]}."


def _unsettled(regime: dict[str, Any]) -> list[str]:
    """Return the models whose ELBO and entropy sum do not agree, so that neither stands for a log-likelihood."""
    found = []
    for model in regime["models"]:
        elbo, entropy_sum = (model[name]["mean"] for name in ESTIMATES)
        if abs(elbo - entropy_sum) > max(_AGREEMENT * abs(elbo), _AGREEMENT_NATS):
            found.append(f"{model['label']} by {elbo - entropy_sum:+.3g} nats")
    return found
