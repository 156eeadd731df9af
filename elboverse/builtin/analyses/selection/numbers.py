"""The models' estimates on the same batches, and which of them are read at the end of a regime."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import Array
from elboverse.builtin.analyses.selection.candidates import Candidate, candidates, require_same_batches
from elboverse.builtin.analyses.selection.regimes import Regime, Span, Timeline
from elboverse.theory.linear_optimum import linear_optimum

__all__ = ["ESTIMATES", "Selection", "is_complete", "read_selection", "spans_read", "steps_read"]

ESTIMATES: Final = {"elbo": "ELBO", "entropy_sum": "entropy sum"}
"""What stands in for the log-likelihood: the series and its name in words."""


@attrs.frozen(eq=False, kw_only=True)
class Selection:
    """The models' estimates on the same batches.

    Args:
        candidates: the models, M in number.
        batch_size: B.
        steps: those that all runs have recorded, shape (T,).
        timeline: the regimes.
        estimates: by name of the series, in nats per point, shape (M, T, R).
    """

    candidates: tuple[Candidate, ...]
    batch_size: int
    steps: Array
    timeline: Timeline
    estimates: dict[str, Array]

    @property
    def spans(self) -> list[Span]:
        """The stretches of the record, each in one regime."""
        return self.timeline.spans(self.steps)

    def bic(self, name: str) -> Array:
        """Return k ln B − 2B · (estimate per point) of every batch, shape (M, T, R)."""
        parameters = np.array([candidate.parameters for candidate in self.candidates])[:, None, None]
        criterion: Array = parameters * np.log(self.batch_size) - 2 * self.batch_size * self.estimates[name]
        return criterion

    def theory(self, model: int, regime: Regime) -> float | None:
        """Return ELBO = entropy sum of a linear model at its optimum for a regime; None where it is not known."""
        candidate = self.candidates[model]
        if not candidate.is_linear or regime.covariance_eigenvalues is None or candidate.beta <= 0:
            return None
        optimum = linear_optimum(np.array(regime.covariance_eigenvalues), candidate.latent_dim, candidate.beta)
        return None if optimum is None else optimum.elbo


def read_selection(pool: Pool) -> Selection:
    """Return the estimates of models on the batches that all of them recorded.

    Raises:
        AnalysisError: the runs were not trained on the same batches.
    """
    pool.require_rows("selection")
    batch_size = require_same_batches(pool.readings)
    steps = pool.steps
    values = {name: pool.series(name).astype(np.float64) for name in ESTIMATES}  # as many replicas of each run
    return Selection(
        candidates=candidates(pool.readings),
        batch_size=batch_size,
        steps=steps,
        timeline=Timeline.of(pool.readings[0].run, batch_size),
        estimates={
            name: series.reshape(len(steps), len(pool.readings), -1).swapaxes(0, 1) for name, series in values.items()
        },
    )


def spans_read(selection: Selection) -> list[Span]:
    """Return the span of each regime that is read: its last complete one, or the one that the record ends in."""
    read: dict[int, Span] = {}
    for span in selection.spans:
        if span.regime not in read or is_complete(selection, span):
            read[span.regime] = span
    return [read[regime] for regime in sorted(read)]


def is_complete(selection: Selection, span: Span) -> bool:
    """Return whether all batches of a span are recorded."""
    return span.end <= int(selection.steps[-1]) + 1


def steps_read(selection: Selection, span: Span, last: int) -> Array:
    """Return the last steps of a span."""
    steps = selection.steps
    end = int(steps[steps < span.end][-1]) + 1
    return np.asarray(steps[(steps >= max(span.first, end - last)) & (steps < end)])
