"""What is said of an assessment: tables, notes, numbers and a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis import style
from elboverse.contracts import Result, Table
from elboverse.integrations.assessing import Assessment
from elboverse.theory import importance
from elboverse.theory.identities import STANDARD_NORMAL_ENTROPY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["document_of", "result_of", "result_of_document"]

TOLERANCE: Final = 0.02
"""Relative mismatch of a variance that still counts as stationary, as in the analysis `stationarity`."""

_LOG_2: Final = math.log(2)


def result_of(found: Assessment, name: str) -> Result:
    """Return tables, notes, numbers and figure, as an analysis does.

    Args:
        found: the numbers.
        name: of the model.
    """
    residuals = _residuals(found)
    data = _data(found, residuals)
    return Result(
        title=f"Residuals of {name} on {len(found.table.kl):,} {found.points_are} points, in nats per point",
        columns=("quantity", "value", "± SE", "tolerance", "verdict"),
        rows=residuals,
        further=[*_bounds(found), *_gaps(found), _latents(found)],
        notes=_notes(found),
        data=data,
        draw=None if found.log_weights is None else lambda: _draw(data, name),
    )


def document_of(result: Result) -> dict[str, Any]:
    """Return what a run file keeps of a result, so that it can be shown again."""
    tables = [
        {"title": table.title, "columns": list(table.columns), "rows": [list(map(_plain, row)) for row in table.rows]}
        for table in (Table(title=result.title, columns=result.columns, rows=result.rows), *result.further)
    ]
    return {"tables": tables, "notes": list(result.notes), "data": _without_nan(dict(result.data))}


def result_of_document(document: dict[str, Any], name: str) -> Result:
    """Return the result that a document was made of.

    Args:
        document: of `document_of`.
        name: of the model.
    """
    tables = [
        Table(title=table["title"], columns=tuple(table["columns"]), rows=[tuple(row) for row in table["rows"]])
        for table in document["tables"]
    ]
    data = dict(document["data"])
    return Result(
        title=tables[0].title,
        columns=tables[0].columns,
        rows=tables[0].rows,
        further=tables[1:],
        notes=list(document["notes"]),
        data=data,
        draw=(lambda: _draw(data, name)) if data.get("bounds") else None,
    )


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.generic):
        cell = cell.item()
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _residuals(found: Assessment) -> list[tuple[Any, ...]]:
    table = found.table
    rows = []
    if found.log_weights is not None:
        mean = importance.mean_of(table.decoder_residual)
        tolerance = 0.5 * TOLERANCE * found.dimension
        judged = table.profiled_log_var is None
        rows.append(
            ("R_dec", mean.value, mean.standard_error, tolerance, _verdict(mean, tolerance) if judged else "not judged")
        )
    for latent in range(table.kl.shape[1]):
        mean = importance.mean_of(table.prior_residual[:, latent])
        tolerance = 0.5 * TOLERANCE * _positions(found, latent)
        rows.append((f"R_{latent}", mean.value, mean.standard_error, tolerance, _verdict(mean, tolerance)))
    return rows


def _positions(found: Assessment, latent: int) -> int:
    """Return how many positions a channel has, from the entropy of a standard normal; 1 where the prior is another."""
    table = found.table
    if table.prior_log_var[latent] != 0:
        return 1
    return max(1, round(float(table.prior_entropy[latent]) / STANDARD_NORMAL_ENTROPY))


def _verdict(mean: importance.Mean, tolerance: float) -> str:
    if not math.isfinite(mean.value):
        return "not judged"
    if abs(mean.value) + 2 * mean.standard_error <= tolerance:
        return "stationary"
    return "not stationary" if abs(mean.value) - 2 * mean.standard_error > tolerance else "undecided"


def _bounds(found: Assessment) -> list[Table]:
    if found.log_weights is None:
        return []
    weights = found.log_weights
    share = importance.effective_sample_size(weights).mean() / weights.shape[1]
    rows: list[tuple[Any, ...]] = [
        (f"L_{k}" if k > 1 else "L_1 (ELBO)", found.bound(k).value, found.bound(k).standard_error) for k in found.sizes
    ]
    tables = [
        Table(
            title=f"Lower bounds on ln p(x) of {len(weights):,} points; ESS/k {share:.3f}",
            columns=("bound", "nats", "± SE"),
            rows=rows,
        )
    ]
    if found.bracket is not None:
        lower, upper = importance.mean_of(found.bracket.lower), importance.mean_of(found.bracket.upper)
        tables.append(
            Table(
                title=f"Bracket of ln p(x) on {len(found.bracket.lower):,} points that the model made",
                columns=("bound", "nats", "± SE"),
                rows=[("lower", lower.value, lower.standard_error), ("upper", upper.value, upper.standard_error)],
            )
        )
        scores = found.bracket.calibration
        tables.append(
            Table(
                title="Calibration of the encoder: 0 and 1 for the exact posterior",
                columns=("latent", "mean of (z − ν)/τ", "± SE", "mean of (z − ν)²/τ²", "± SE"),
                rows=[
                    (h, *map(float, values))
                    for h, values in enumerate(
                        zip(
                            scores.mean,
                            scores.mean_standard_error,
                            scores.square,
                            scores.square_standard_error,
                            strict=True,
                        )
                    )
                ],
            )
        )
    return tables


def _gaps(found: Assessment) -> list[Table]:
    if found.gaps is None:
        return []
    gaps = found.gaps
    return [
        Table(
            title=f"Gap between ln p(x) and the ELBO at {gaps.points:,} points, in nats",
            columns=("part", "nats", "± SE"),
            rows=[
                ("approximation: L_k − ELBO of each point's best q", *attrs.astuple(gaps.approximation)),
                ("amortisation: that ELBO − the encoder's", *attrs.astuple(gaps.amortisation)),
            ],
        )
    ]


def _latents(found: Assessment) -> Table:
    table = found.table
    drop = table.prior_entropy - table.encoder_entropy.mean(0)
    rows = [
        (
            h,
            float(table.kl[:, h].mean()),
            float(drop[h]),
            float(table.mean[:, h].var()),
            float(table.second_moment[:, h].mean()),
        )
        for h in np.argsort(-drop)
    ]
    columns = ("latent", "KL", "entropy drop", "variance of mean", "second moment")
    return Table(title="Latents", columns=columns, rows=rows)


def _notes(found: Assessment) -> list[str]:
    table = found.table
    notes = []
    if found.log_weights is not None:
        k = found.log_weights.shape[1]
        best = found.bound(k)
        shapes, limit = importance.pareto_shape(found.log_weights), importance.pareto_limit(k)
        known = np.isfinite(shapes) | np.isneginf(shapes)
        heavy = float((shapes[known] > limit).mean()) if known.any() else math.nan
        bias = float(importance.monte_carlo_variance(found.log_weights).mean()) / 2 if k > 1 else math.nan
        notes.append(
            f"−ln p(x) ≤ {-best.value:.4f} ± {best.standard_error:.4f} (importance-weighted bound, k = {k:,}, "
            f"{len(found.log_weights):,} points; estimated remaining bias {bias:.4f}; "
            f"k̂ > {limit:.2f} at {heavy:.0%} of points)."
        )
        elbo = importance.mean_of(table.elbo)
        rate = importance.mean_of(table.kl.sum(1))
        notes.append(f"ELBO {elbo} of all points; rate (KL) {rate}, distortion {-table.log_likelihood.mean():.4f}.")
        notes += _in_other_units(found, best)
        if found.information is not None:
            rate_left = rate.value - found.information.value
            notes.append(
                f"Mutual information of x and z {found.information} (of the rate, {rate_left:.4f} is KL(q̄ ‖ p), the "
                f"distance of the aggregate posterior from the prior); no more than ln {found.information_points:,} "
                "can be seen."
            )
        if found.without_latents is not None:
            notes.append(f"Gain over the best model without latents: {elbo.value - found.without_latents:.4f} nats.")
    else:
        notes.append("Without a likelihood, the encoder alone is judged: at convergence R_h = 0 under any other loss.")
        far = [h for h in range(table.kl.shape[1]) if abs(table.second_moment[:, h].mean() - 1) > TOLERANCE]
        if far:
            std = math.sqrt(float(table.second_moment.mean()))
            notes.append(
                f"The second moment of {len(far)} of {table.kl.shape[1]} latents is not 1: the KL term is far from "
                "stationary. "
                f"A scaling factor of {1 / std:.5f} gives the latents a unit second moment."
            )
    if table.profiled_log_var is not None:
        notes.append(
            f"The decoder gives a mean alone: σ² = s² = {math.exp(table.profiled_log_var):.4g}, its squared error, "
            "is used, so R_dec is 0 by construction and not judged."
        )
    if table.replicated:
        notes.append("The decoder's entropy has no closed form: it is estimated from draws of the decoder.")
    return notes + found.remarks


def _in_other_units(found: Assessment, best: importance.Mean) -> list[str]:
    """Return the bound in data units and in bits per dimension, where these are defined."""
    notes = []
    k = found.sizes[-1]
    if found.log_volume:
        notes.append(
            f"In data units −ln p(x) ≤ {found.log_volume - best.value:.4f} ± {best.standard_error:.4f} (k = {k:,}): "
            f"the model sees points scaled, {found.log_volume:+.4f} nats."
        )
    if found.is_discrete:
        bits = (found.log_volume - best.value) / (found.dimension * _LOG_2)
        error = best.standard_error / (found.dimension * _LOG_2)
        notes.append(f"At most {bits:.4f} ± {error:.4f} bits per dimension (k = {k:,}).")
    else:
        notes.append(
            "No bits per dimension: they are defined for discrete data, or integers with uniform noise added "
            "(dequantised=True, --dequantised)."
        )
    return notes


def _data(found: Assessment, residuals: list[tuple[Any, ...]]) -> dict[str, Any]:
    table = found.table
    data: dict[str, Any] = {
        "points": len(table.kl),
        "dimension": found.dimension,
        "residuals": [
            {"name": name, "value": value, "standard_error": error, "verdict": verdict}
            for name, value, error, _, verdict in residuals
        ],
        "latents": [
            {"latent": h, "kl": float(table.kl[:, h].mean()), "second_moment": float(table.second_moment[:, h].mean())}
            for h in range(table.kl.shape[1])
        ],
    }
    if found.log_weights is not None:
        elbo, best = importance.mean_of(table.elbo), found.bound(found.sizes[-1])
        shapes = importance.pareto_shape(found.log_weights)
        limit = importance.pareto_limit(found.log_weights.shape[1])
        data |= {
            "elbo": attrs.asdict(elbo),
            "rate": float(table.kl.sum(1).mean()),
            "distortion": float(-table.log_likelihood.mean()),
            "mutual_information": None if found.information is None else attrs.asdict(found.information),
            "data_units": {"log_volume": found.log_volume, "bound": best.value - found.log_volume},
            "bits_per_dimension": (found.log_volume - best.value) / (found.dimension * _LOG_2)
            if found.is_discrete
            else None,
            "gaps": None if found.gaps is None else attrs.asdict(found.gaps),
            "bound_points": len(found.log_weights),
            "bounds": [{"samples": k, **attrs.asdict(found.bound(k))} for k in found.sizes],
            "effective_sample_size": float(importance.effective_sample_size(found.log_weights).mean()),
            "remaining_bias": float(importance.monte_carlo_variance(found.log_weights).mean()) / 2
            if found.log_weights.shape[1] > 1
            else None,
            "share_with_heavy_tails": float((shapes > limit).mean()),
            "gain_over_no_latents": None if found.without_latents is None else elbo.value - found.without_latents,
        }
    if found.bracket is not None:
        scores = found.bracket.calibration
        data["simulated"] = {
            "lower": attrs.asdict(importance.mean_of(found.bracket.lower)),
            "upper": attrs.asdict(importance.mean_of(found.bracket.upper)),
            "calibration_mean": scores.mean.tolist(),
            "calibration_mean_standard_error": scores.mean_standard_error.tolist(),
            "calibration_square": scores.square.tolist(),
            "calibration_square_standard_error": scores.square_standard_error.tolist(),
        }
    return data


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(data: dict[str, Any], name: str) -> Figure:
    with style.applied():
        figure = style.new_figure(height=2.9)
        axes = figure.add_subplot()
        bounds = data["bounds"]
        sizes, values = [one["samples"] for one in bounds], np.array([one["value"] for one in bounds])
        errors = 2 * np.array([one["standard_error"] or 0.0 for one in bounds])
        axes.errorbar(sizes, values, errors, marker="o", markersize=4, elinewidth=1.0, color=style.ACTIVE)
        for size, value in zip(sizes, values, strict=True):
            axes.annotate(
                f"{value:.2f}".replace("-", "−"), (size, value), xytext=(5, -9), textcoords="offset points", fontsize=7
            )
        axes.set(xscale="log", xlabel="samples k", ylabel="lower bound on ln p(x),\nnats per point", title=name)
        axes.set_xlim(0.7, sizes[-1] * 2)
        axes.annotate(
            f"± 2 SE over {data['bound_points']:,} points, the same at every k",
            (0.98, 0.05),
            xycoords="axes fraction",
            ha="right",
            fontsize=7,
            color=style.GREY,
        )
    return figure
