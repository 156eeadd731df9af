"""``variance``: how much the ELBO and the entropy sum of a trained model scatter when few points estimate them.

Both are averages over points and equal in expectation at convergence, but at a stationary point the entropy sum
leaves out the terms that fluctuate from point to point, so that few points are enough. At a stationary point the
residuals have the mean 0, and ELBO − a · R with regression coefficients a scatters least
(`elboverse.theory.control_variates`).

Source: Damm et al., AISTATS 2023, §5 (estimates with little variance).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.reading import listed, plural
from elboverse.analysis.trained_reading import OneReplicaOptions, Rebuilt, rebuilt
from elboverse.builtin.analyses.variance.numbers import PAIRS, Estimates
from elboverse.config.structuring import in_range
from elboverse.contracts import Result, Table
from elboverse.errors import AnalysisError
from elboverse.theory.control_variates import ControlVariates, fit_control_variates, residual_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["VarianceOptions", "build"]

_SIZES: Final = (10, 100, 1000, 10_000)


_KEYS: Final = ("elbo", "entropy_sum", "minus_kl", "encoder_minus_prior", "log_likelihood", "minus_decoder_entropy")

_FITTED_TO: Final = 4000
"""How many points the coefficients of the control variates are fitted to, other draws than the estimates'."""


@attrs.frozen(kw_only=True)
class VarianceOptions(OneReplicaOptions):
    """Options of `variance`.

    Args:
        sizes: numbers of points to estimate from; those that the run has too few points for are left out.
        draws: estimates per size, each with points and Monte-Carlo samples of its own; points are drawn with
            replacement.
    """

    sizes: tuple[int, ...] = attrs.field(
        default=_SIZES,
        validator=attrs.validators.deep_iterable(in_range(minimum=1), attrs.validators.min_len(1)),
        metadata={"help": "Number of points to estimate from; repeatable."},
    )
    draws: int = attrs.field(
        default=10,
        validator=in_range(minimum=2, maximum=1000),
        metadata={"help": "Estimates per number of points, each from points of its own."},
    )


def build(options: VarianceOptions, run: Run) -> Result:
    """Return mean and standard deviation of the estimates of the ELBO, the entropy sum and their terms.

    The keys of `Result.data`: ``replica``; ``split`` and ``points`` there are; ``draws``; ``samples``, Monte-Carlo
    samples per point (null if the model needs none); and ``sizes``, a list with ``points`` and, for each of ``elbo``,
    ``entropy_sum``, ``minus_kl``, ``encoder_minus_prior``, ``log_likelihood`` and ``minus_decoder_entropy``, a table
    with ``mean``, ``standard_deviation`` and ``estimates``, in nats per point, and likewise ``control_variates`` (null
    away from stationary points); and ``control_variates`` with ``coefficients``, ``means``, ``standard_errors`` and
    ``is_stationary``.

    Args:
        options: sizes, draws and replica.
        run: of any model; its trained model is rebuilt.

    Raises:
        AnalysisError: the trained model cannot be rebuilt, or there are fewer points than any size.
    """
    source = rebuilt(run, options.replica)
    estimates = _estimate(options, source)

    def draw() -> Figure:
        from elboverse.builtin.analyses.variance.figure import draw  # matplotlib, which only a figure needs

        return draw(estimates)

    rows = [
        (
            int(size),
            elbo_name,
            float(means[2 * pair]),
            float(deviations[2 * pair]),
            entropy_name,
            float(means[2 * pair + 1]),
            float(deviations[2 * pair + 1]),
            _ratio(deviations[2 * pair], deviations[2 * pair + 1]),
        )
        for size, means, deviations in zip(estimates.sizes, estimates.means, estimates.deviations, strict=True)
        for pair, (elbo_name, entropy_name) in enumerate(PAIRS)
    ]
    return Result(
        title=f"{options.draws} estimates from few {source.source}, in nats per point: {source.described()}",
        columns=("points", "of the ELBO", "mean", "± SD", "of the entropies", "its mean", "its ± SD", "ratio of SDs"),
        rows=rows,
        further=_controlled(estimates),
        notes=[*_notes(options, source, estimates), *_about_control(estimates)],
        data=_data(options, source, estimates),
        draw=draw,
    )


def _estimate(options: VarianceOptions, source: Rebuilt) -> Estimates:
    available = source.available
    sizes = sorted({size for size in options.sizes if size <= available})
    if not sizes:
        raise AnalysisError(
            f"{source.reading.run.path}: got {source.counted(available)}, fewer than any of the "
            f"sizes {listed(sorted(set(options.sizes)))}; give a smaller one with --sizes"
        )
    values = np.empty((len(sizes), options.draws, len(_KEYS)))
    control = _control(source)
    controlled = np.empty(values.shape[:2])
    for index, size in enumerate(sizes):
        for draw in range(options.draws):
            chosen = source.trained.choose(available, size, "variance", "points", size, draw)
            found = source.trained.statistics(source.points(chosen), "variance", "noise", size, draw)
            values[index, draw] = [
                found.elbo.mean(),
                found.entropy_sum.mean(),
                -found.kl.sum(1).mean(),
                (found.encoder_entropy - found.prior_entropy).sum(1).mean(),
                found.log_likelihood.mean(),
                -found.decoder_entropy.mean(),
            ]
            if control is not None:
                controlled[index, draw] = control.estimate(found.elbo, found.residuals).mean()
    offered = control is not None and control.is_stationary
    return Estimates(np.array(sizes), values, control, controlled if offered else None)


def _control(source: Rebuilt) -> ControlVariates | None:
    """Return the residuals as control variates, fitted to other draws of the points that are estimated from.

    Of these, not of the training points: on held-out points the residuals of an overfitted model are not 0.
    """
    chosen = source.trained.choose(source.available, _FITTED_TO, "variance", "control variates")
    found = source.trained.statistics(source.points(chosen), "variance", "control variates")
    if not np.isfinite(found.residuals).all() or len(found.residuals) <= 10 * found.residuals.shape[1]:
        return None
    return fit_control_variates(found.elbo, found.residuals, source.points(slice(0, 1)).shape[1])


def _controlled(estimates: Estimates) -> list[Table]:
    if estimates.controlled is None:
        return []
    deviations = estimates.controlled_deviations
    return [
        Table(
            title="ELBO − a · R, the residuals as control variates, in nats per point",
            columns=("points", "mean", "± SD", "SD of the ELBO", "SD of the entropy sum", "variance ratio to the ELBO"),
            rows=[
                (
                    int(size),
                    float(estimates.controlled[index].mean()),
                    float(deviations[index]),
                    *map(float, estimates.deviations[index, :2]),
                    _ratio(estimates.deviations[index, 0] ** 2, deviations[index] ** 2),
                )
                for index, size in enumerate(estimates.sizes)
            ],
        )
    ]


def _about_control(estimates: Estimates) -> list[str]:
    control = estimates.control
    if control is None:
        return ["Too few points, or terms that are not known, for control variates."]
    if not control.is_stationary:
        names = residual_names(control.moving)
        told = ", ".join(
            f"{name} = {control.means[number]:+z.4f} ± {control.standard_errors[number]:z.4f}"
            for name, number in list(zip(names, control.moving, strict=True))[:5]
        )
        told = f"ELBO − a · R is offered at stationary points only, and this is none ({told})"
        return [f"{told}: its mean would not be the ELBO."]
    told = (
        "ELBO − a · R has the mean of the ELBO because every residual is 0 here, within its tolerance: a stationary "
        f"point. What they are off by moves it by {control.shift:+z.4f} nats. The coefficients, fitted to other draws, "
        f"explain {100 * control.correlation:z.1f} % of the variance of the ELBO of a point."
    )
    return [told]


def _ratio(numerator: float, denominator: float) -> float | None:
    return None if denominator == 0 else float(numerator / denominator)


def _notes(options: VarianceOptions, source: Rebuilt, estimates: Estimates) -> list[str]:
    size, deviations = int(estimates.sizes[0]), estimates.deviations[0]
    ratio = _ratio(deviations[0], deviations[1])
    if ratio is None:
        verdict = (
            "The entropy sum does not scatter at all: no entropy of this model depends on the point, so any number of "
            f"points gives {estimates.means[0, 1]:z.4f} nats."
        )
    else:
        verdict = (
            f"From {plural(size, 'point')} the ELBO scatters by {deviations[0]:z.4f} nats and the entropy sum by "
            f"{deviations[1]:z.4f}, {ratio:z.1f} times less: it needs about {ratio**2:z,.0f} times fewer points."
            if ratio > 1
            else f"From {plural(size, 'point')} the ELBO scatters by {deviations[0]:z.4f} nats and the entropy sum by "
            f"{deviations[1]:z.4f}: it does not do better here."
        )
    difference = estimates.means[-1, 0] - estimates.means[-1, 1]
    at_last = (
        f"From {plural(int(estimates.sizes[-1]), 'point')} the two differ by {difference:+z.4f} nats; "
        f"`elboverse analyze stationarity` shows where that comes from."
    )
    notes = [verdict, at_last]
    left_out = sorted({size for size in options.sizes if size > source.available})
    if left_out:
        notes.append(f"Left out: {listed(left_out)} points; there are {source.available:,} {source.source}.")
    return notes + source.caveats()


def _data(options: VarianceOptions, source: Rebuilt, estimates: Estimates) -> dict[str, Any]:
    trained = source.trained
    return {
        "replica": options.replica,
        "split": source.split,
        "points": source.available,
        "draws": options.draws,
        "control_variates": None
        if estimates.control is None
        else {
            "coefficients": estimates.control.coefficients.tolist(),
            "means": estimates.control.means.tolist(),
            "standard_errors": estimates.control.standard_errors.tolist(),
            "is_stationary": estimates.control.is_stationary,
        },
        "samples": None if trained.is_sampling_free else trained.config.training.samples,
        "sizes": [
            {
                "points": int(size),
                **{
                    key: {
                        "mean": float(estimates.means[index, column]),
                        "standard_deviation": float(estimates.deviations[index, column]),
                        "estimates": estimates.values[index, :, column].tolist(),
                    }
                    for column, key in enumerate(_KEYS)
                },
                "control_variates": None
                if estimates.controlled is None
                else {
                    "mean": float(estimates.controlled[index].mean()),
                    "standard_deviation": float(estimates.controlled_deviations[index]),
                    "estimates": estimates.controlled[index].tolist(),
                },
            }
            for index, size in enumerate(estimates.sizes)
        ],
    }
