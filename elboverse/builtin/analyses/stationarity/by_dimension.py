"""The decoder's residual dimension by dimension, per gene of counts: which ones hide behind the sum.

    R_d = mean_n E_q r_d(x_n, z),    Σ_d R_d = R_dec

Where each dimension has a temperature of its own, such as its row of a linear last layer of logits or its own
dispersion, each R_d vanishes at a stationary point; elsewhere only their sum does, and R_d says how well that dimension
is calibrated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.family import varentropy_bound
from elboverse.analysis.reading import Array, Reading, at
from elboverse.contracts import Table

if TYPE_CHECKING:
    from elboverse.analysis.trained import TrainedModel

__all__ = ["ByDimension", "by_dimension", "dimension_notes", "dimension_table"]

_POINTS: Final = 2000
_SHOWN: Final = 12
_MOST_DISPERSION: Final = 14.99


@attrs.frozen(eq=False)
class ByDimension:
    """The residual of each dimension of one replica, in nats per point; Q dimensions, or groups of them.

    Args:
        replica: which.
        names: of the dimensions.
        values: R_d, shape (Q,).
        standard_errors: over points, shape (Q,).
        varentropies: V_d, shape (Q,).
        dispersions: θ_d of a negative binomial, shape (Q,); None of any other.
        is_certificate: whether theory says that each vanishes at a stationary point.
        verdicts: on each.
    """

    replica: int
    names: tuple[str, ...]
    values: Array
    standard_errors: Array
    varentropies: Array
    dispersions: Array | None
    is_certificate: bool
    verdicts: tuple[str, ...]

    @property
    def mismatch(self) -> Array:
        """R_d/V_d, 0 where V_d is."""
        known = self.varentropies > 0
        return np.where(known, self.values / np.where(known, self.varentropies, 1.0), 0.0)

    @property
    def costs(self) -> Array:
        """R_d²/2V_d in nats: what setting the temperature of that dimension right would gain."""
        return np.asarray(0.5 * self.mismatch * self.values)

    def table(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "replica": self.replica,
            "is_certificate": self.is_certificate,
            "dimensions": [
                {
                    "name": name,
                    "value": float(self.values[d]),
                    "standard_error": float(self.standard_errors[d]),
                    "varentropy": float(self.varentropies[d]),
                    "mismatch": float(self.mismatch[d]),
                    "costs": float(self.costs[d]),
                    "verdict": self.verdicts[d],
                    **({} if self.dispersions is None else {"dispersion": float(self.dispersions[d])}),
                }
                for d, name in enumerate(self.names)
            ],
        }


def by_dimension(reading: Reading, judged: Any) -> list[ByDimension]:
    """Return the residuals of each replica read, from up to 2,000 training points; torch is imported now.

    Args:
        reading: the run.
        judged: (R, SE, V) → the verdict.

    Raises:
        AnalysisError: the trained model cannot be rebuilt, or its decoder gives no residual per dimension.
    """
    from elboverse.analysis.trained import TrainedModel  # torch, which only this needs

    found = []
    for replica in reading.replicas:
        trained = TrainedModel.of(reading.run, replica)
        residuals, spreads = trained.decoder_residuals(trained.points("train", slice(_POINTS)), "stationarity")
        values, error = residuals.mean(0), residuals.std(0) / np.sqrt(max(1, len(residuals) - 1))
        spread = spreads.mean(0)
        count = len(values)
        found.append(
            ByDimension(
                replica,
                _names(trained, count),
                values,
                error,
                spread,
                _dispersions(trained, count),
                bool(at(reading.run.documents, "family", "by_dimension")),
                tuple(judged(float(values[d]), float(error[d]), float(spread[d])) for d in range(count)),
            )
        )
    return found


def dimension_table(found: list[ByDimension]) -> Table:
    """Return the dimensions whose temperature costs most, of several replicas those of the one that loses most."""
    worst = max(found, key=lambda one: float(one.costs.sum()))
    order = np.argsort(-worst.costs, kind="stable")[:_SHOWN]
    what = "certificate" if worst.is_certificate else "calibration, no certificate: only their sum must vanish"
    of = f" of replica {worst.replica}" if len(found) > 1 else ""
    shown = f", the {len(order)} that cost most of {len(worst.values)}" if len(order) < len(worst.values) else ""
    return Table(
        title=f"The decoder's residual by dimension{of}{shown}; {what}",
        columns=(
            "dimension",
            "nats",
            "± SE",
            "mismatch R/V",
            "costs (nats)",
            *(("dispersion θ",) if worst.dispersions is not None else ()),
            "verdict",
        ),
        rows=[
            (
                worst.names[d],
                float(worst.values[d]),
                float(worst.standard_errors[d]),
                f"{100 * worst.mismatch[d]:+z.2f} %",
                float(worst.costs[d]),
                *((float(worst.dispersions[d]),) if worst.dispersions is not None else ()),
                worst.verdicts[d],
            )
            for d in order
        ],
    )


def dimension_notes(found: list[ByDimension], decoder: str) -> list[str]:
    """Return how many dimensions are stationary, and what else is to be said of them."""
    if not found:
        return []
    worst = max(found, key=lambda one: float(one.costs.sum()))
    counts = [worst.verdicts.count(verdict) for verdict in ("stationary", "not stationary")]
    gain = float(worst.costs.sum())
    said = f"By dimension, of {len(worst.values)}: {counts[0]} stationary, {counts[1]} not; "
    notes = [f"{said}setting all their temperatures right would gain {gain:z.4f} nats."]
    if worst.dispersions is not None:
        at_cap = int((np.log(worst.dispersions) >= _MOST_DISPERSION).sum())
        if at_cap:
            notes.append(f"{at_cap} of {len(worst.values)} dispersions are at their cap: these genes are Poisson.")
    bound = varentropy_bound(decoder)
    return notes + ([bound] if bound else [])


def _names(trained: TrainedModel, count: int) -> tuple[str, ...]:
    if count == len(trained.column_names):
        return trained.column_names
    return tuple(f"group {group}" for group in range(count))


def _dispersions(trained: TrainedModel, count: int) -> Array | None:
    parameter = getattr(getattr(trained.module, "likelihood", None), "log_dispersion", None)
    if parameter is None:
        return None
    return np.broadcast_to(np.exp(parameter.detach().double().cpu().numpy().clip(None, 15.0)), (count,))
