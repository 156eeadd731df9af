"""Control variates of a stream: ELBO − a · R of each batch, a fitted to the first half of the steps that are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import Array, at
from elboverse.builtin.analyses.selection.candidates import Candidate
from elboverse.contracts import Table
from elboverse.theory.control_variates import ControlVariates, fit_control_variates, residual_names

__all__ = ["Controlled", "controlled_notes", "controlled_table", "fit_regime"]


@attrs.frozen(eq=False)
class Controlled:
    """The batches of a regime by one model.

    Args:
        control: fitted to the first half of its steps.
        estimates: ELBO − a · R of the batches of the second half, shape (T', R).
        elbo: of the same batches, shape (T', R).
    """

    control: ControlVariates
    estimates: Array
    elbo: Array

    def data(self, candidate: Candidate, batch_size: int) -> dict[str, Any] | None:
        """Return what JSON says of it; None away from a stationary point."""
        if not self.control.is_stationary:
            return None
        values, penalty = self.estimates, candidate.parameters * np.log(batch_size)
        variance = float(values.var())
        # What rounding leaves of float32 rows is not a variance.
        known = variance > (1e-6 * abs(float(values.mean()))) ** 2
        return {
            "mean": float(values.mean()),
            "standard_deviation": float(values.std()),
            "bic": float(penalty - 2 * batch_size * values.mean()),
            "variance_ratio": float(self.elbo.var() / variance) if known else None,
            "coefficients": self.control.coefficients.tolist(),
        }


def fit_regime(pool: Pool, candidates: Sequence[Candidate], steps: Array) -> list[Controlled | None]:
    """Return the control variates of each model over some steps; None where there are too few of them.

    Args:
        pool: of the runs, in the order of the candidates.
        candidates: the models.
        steps: those that are read, increasing.
    """
    found: list[Controlled | None] = []
    for reading, _ in zip(pool.readings, candidates, strict=True):
        rows = np.searchsorted(reading.run.steps, steps)
        likelihood, entropy = (reading.series(name)[rows].astype(np.float64) for name in _DECODER)
        kl, encoder, prior = (reading.series(name)[rows].astype(np.float64) for name in _LATENTS)
        reference = reading.series("log_reference")[rows] if "log_reference" in reading.run.stored else 0.0
        elbo = likelihood - kl.sum(-1)
        residuals = np.concatenate([(likelihood - reference + entropy)[..., None], prior - encoder - kl], axis=-1)
        half = len(steps) // 2
        width = residuals.shape[-1]
        sample, rest = residuals[:half].reshape(-1, width), residuals[half:]
        if len(sample) <= 10 * width or not np.isfinite(residuals).all():
            found.append(None)
            continue
        dimension = at(reading.run.data, "dimension")
        control = fit_control_variates(
            elbo[:half].ravel(), sample, dimension if isinstance(dimension, int) and dimension > 0 else 1
        )
        found.append(Controlled(control, control.estimate(elbo[half:], rest), elbo[half:]))
    return found


_DECODER = ("log_likelihood", "decoder_entropy")
_LATENTS = ("kl", "encoder_entropy", "prior_entropy")


def controlled_table(regimes: Sequence[dict[str, Any]]) -> list[Table]:
    """Return the table of what is offered; none where no model is at a stationary point.

    Args:
        regimes: of `Result.data`.
    """
    rows = []
    for regime in regimes:
        known = [(model["label"], model["control_variates"]) for model in regime["models"]]
        lowest = min((one["bic"] for _, one in known if one), default=None)
        rows += [
            (
                regime["name"],
                label,
                one["mean"],
                one["standard_deviation"],
                one["variance_ratio"],
                round(one["bic"], 1),
                one["bic"] == lowest,
            )
            for label, one in known
            if one
        ]
    if not rows:
        return []
    return [
        Table(
            title="ELBO − a · R, the residuals as control variates: the second half of the steps read, nats per point",
            columns=("regime", "model", "mean", "± SD", "variance ratio to the ELBO", "BIC", "lowest"),
            rows=rows,
        )
    ]


def controlled_notes(regimes: Sequence[dict[str, Any]], fits: Sequence[Sequence[Controlled | None]]) -> list[str]:
    """Return for which models nothing is offered, and why."""
    moving, few = [], False
    for regime, of_regime in zip(regimes, fits, strict=True):
        for model, fit in zip(regime["models"], of_regime, strict=True):
            few = few or fit is None
            if fit is not None and not fit.control.is_stationary:
                names = residual_names(fit.control.moving)
                moving.append(f"{model['label']} in {regime['name']} ({', '.join(names[:4])})")
    notes = []
    if moving:
        notes.append(
            "ELBO − a · R is offered at stationary points only, where every residual has the mean 0; not for "
            f"{'; '.join(moving[:6])}{' and others' if len(moving) > 6 else ''}."
        )
    if few:
        notes.append("Where a regime has too few steps for its residuals, ELBO − a · R is left out.")
    return notes
