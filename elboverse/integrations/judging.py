"""``elboverse.judge``: an already trained model, three callables and data, and what is to be said of it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.contracts import Result, Table
from elboverse.integrations.assessing import Assessment, assess
from elboverse.integrations.keeping import Keeper
from elboverse.integrations.points import Callables, as_points, evaluation_of
from elboverse.runfile import RUN_FILE
from elboverse.theory import importance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report", "judge", "report_of"]

TOLERANCE: Final = 0.02
"""Relative mismatch of a variance that still counts as stationary, as in the analysis `stationarity`."""


@attrs.frozen(eq=False)
class Report:
    """What was found, to print, to draw and to save.

    Args:
        assessment: the numbers.
        name: of the model.
    """

    assessment: Assessment
    name: str

    def __str__(self) -> str:
        from rich.console import Console  # only to print

        text = io.StringIO()
        console = Console(file=text, width=100, no_color=True, highlight=False, markup=False)
        result = self.result()
        tables: tuple[Result | Table, ...] = (result, *result.further)
        for table in tables:
            console.print(f"{table.title}\n{'  '.join(table.columns)}")
            for row in table.rows:
                console.print("  ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
        for note in result.notes:
            console.print(note)
        return text.getvalue()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run file that every analysis reads, and return its path.

        Args:
            path: a folder, or a path that ends in ``.h5``.
            overwrite: replace what is there.

        Raises:
            RunFileError: it exists, or cannot be written.
        """
        path = Path(path)
        file = (path if path.suffix == ".h5" else path / RUN_FILE).absolute()
        keeper = Keeper(file, name=self.name, resume=False, step=None, overwrite=overwrite, interval=0.0, sinks=())
        try:
            table = self.assessment.table
            keeper.dimension, keeper.latent_dim = self.assessment.dimension, table.kl.shape[1]
            keeper.learns = table.profiled_log_var is None
            keeper.append_evaluation(evaluation_of(table, "held_out", 0), "float64")
            keeper.put_document("judgement", _without_nan(dict(self.result().data)))
            keeper.save("finished", 0)
        finally:
            keeper.close()
        return file

    def result(self) -> Result:
        """Return tables, notes, numbers and figure, as an analysis does."""
        found = self.assessment
        residuals = _residuals(found)
        further = [*_bounds(found), _latents(found)]
        return Result(
            title=f"Residuals of {self.name} on {len(found.table.kl):,} held-out points, in nats per point",
            columns=("quantity", "value", "± SE", "tolerance", "verdict"),
            rows=residuals,
            further=further,
            notes=_notes(found),
            data=_data(found, residuals),
            draw=None if found.log_weights is None else lambda: _draw(found, self.name),
        )


def judge(
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any] | None,
    data: Any,
    *,
    prior: Any = None,
    points: int = 1000,
    samples: int = 1000,
    seed: int = 0,
    name: str = "model",
    progress: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Return what is to be said of a trained model.

    Args:
        encode: points → q(z|x): a torch distribution, a `DiagonalGaussian` or (mean, log_var).
        decode: latents (n, H) → p(x|z), of the same kinds; or a mean alone, whose variance is then its mean squared
            error; None for a model without a likelihood, whose encoder alone is judged, per channel.
        data: held-out points: a tensor or an array (N, …), or a loader.
        prior: p(z), or a function that returns it; a standard normal by default.
        points: of how many points the importance-weighted bounds are taken.
        samples: k of the largest bound.
        seed: of all draws.
        name: what the model is called.
        progress: told what is being done.

    Raises:
        DataError: data or what a callable returns cannot be used; the message says which, and what to pass.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 1) * 2**0.5  # z ~ N(0, 1), x ~ N(z, 1)
        >>> report = judge(lambda x: Normal(x / 2, 0.5**0.5), lambda z: Normal(z, 1.0), x, samples=20)
        >>> type(report).__name__
        'Report'
    """
    model = Callables(encode, decode, prior)
    return Report(assess(model, as_points(data), points=points, samples=samples, seed=seed, progress=progress), name)


def report_of(assessment: Assessment, name: str) -> Report:
    """Return the report of an assessment."""
    return Report(assessment, name)


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
        rows.append((f"R_{latent}", mean.value, mean.standard_error, 0.5 * TOLERANCE, _verdict(mean, 0.5 * TOLERANCE)))
    return rows


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
        elbo = importance.mean_of(table.elbo)
        shapes = importance.pareto_shape(found.log_weights)
        limit = importance.pareto_limit(found.log_weights.shape[1])
        data |= {
            "elbo": attrs.asdict(elbo),
            "rate": float(table.kl.sum(1).mean()),
            "distortion": float(-table.log_likelihood.mean()),
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


def _draw(found: Assessment, name: str) -> Figure:
    from matplotlib.figure import Figure as Drawn  # only a figure needs it

    figure = Drawn(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    means = [found.bound(k) for k in found.sizes]
    axes.errorbar(
        found.sizes, [one.value for one in means], [2 * one.standard_error for one in means], marker="o", capsize=3
    )
    axes.set(xscale="log", xlabel="samples k", ylabel="lower bound on ln p(x), nats", title=name)
    return figure
