"""Several runs read side by side: all their replicas together, at the steps that every run has recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from elboverse.analysis.reading import Array, Reading, at, differ, plural
from elboverse.config import flattened
from elboverse.errors import AnalysisError
from elboverse.runfile import Run

__all__ = ["Pool"]


@attrs.frozen(eq=False)
class Pool:
    """A view of one or more runs: one replica of each, or all of them, R' in number together.

    Args:
        readings: of the runs, at least one.
    """

    readings: tuple[Reading, ...]

    @classmethod
    def of(cls, runs: Iterable[Run], replica: int | None = None) -> Pool:
        """Return a view of these runs.

        Raises:
            AnalysisError: a run has no such replica.
        """
        return cls(tuple(Reading(run, replica) for run in runs))

    @property
    def where(self) -> str:
        """What messages call it: the paths."""
        return ", ".join(str(reading.run.path) for reading in self.readings)

    @property
    def replicas(self) -> list[dict[str, Any]]:
        """The replicas read, each with the path of its ``run`` and its number in it, ``replica``."""
        return [
            {"run": str(reading.run.path), "replica": replica}
            for reading in self.readings
            for replica in reading.replicas
        ]

    def described(self) -> str:
        """Return what the runs are, for titles."""
        if len(self.readings) == 1:
            return self.readings[0].described()
        models = [at(reading.run.config, "model", "name") for reading in self.readings]
        model = "" if differ(models) else f", {models[0]}"
        return f"median of {len(self.replicas)} replicas in {len(self.readings)} runs{model}"

    def mixed_settings(self) -> list[str]:
        """Return the settings, by their path, in which the runs differ, other than name and seed."""
        flat = [flattened(reading.run.config) for reading in self.readings]
        keys = sorted(set().union(*flat) - {"name", "seed"})
        return [key for key in keys if differ([table.get(key) for table in flat])]

    @property
    def steps(self) -> Array:
        """The steps that all runs have recorded, shape (T,)."""
        return _common(reading.run.steps for reading in self.readings)

    def series(self, name: str) -> Array:
        """Return a trajectory at `steps`, shape (T, R') or (T, R', H), as precise as it was recorded."""
        if len(self.readings) == 1:
            return self.readings[0].series(name)
        steps = self.steps
        return np.concatenate(
            [reading.series(name)[np.searchsorted(reading.run.steps, steps)] for reading in self.readings], axis=1
        )

    def evaluated(self, split: str) -> bool:
        """Return whether every run has evaluations of that split, some of them after the same steps."""
        return all(reading.evaluated(split) for reading in self.readings) and len(self.evaluation_steps(split)) > 0

    def evaluation_steps(self, split: str) -> Array:
        """Return the number of steps before each evaluation that all runs have, shape (E,)."""
        return _common(reading.run.evaluation_steps(split) for reading in self.readings)

    def evaluation(self, split: str, name: str) -> Array:
        """Return an evaluated quantity at `evaluation_steps`, shape (E, R') or (E, R', H)."""
        steps = self.evaluation_steps(split)
        return np.concatenate(
            [
                reading.evaluation(split, name)[np.searchsorted(reading.run.evaluation_steps(split), steps)]
                for reading in self.readings
            ],
            axis=1,
        )

    @property
    def steps_per_epoch(self) -> int | None:
        """How many updates make an epoch; None if a run does not say or they differ."""
        found = {reading.steps_per_epoch for reading in self.readings}
        return found.pop() if len(found) == 1 else None

    def epoch(self, step: int) -> float | None:
        """Return the number of epochs after that many updates; None where `steps_per_epoch` is."""
        return None if self.steps_per_epoch is None else step / self.steps_per_epoch

    def ground_truth(self, split: str) -> float | None:
        """Return the generating log-likelihood in nats per point, averaged over the runs; None unless all know it."""
        known = [truth for reading in self.readings if (truth := reading.ground_truth(split)) is not None]
        return float(np.mean(known)) if len(known) == len(self.readings) else None

    def require_rows(self, analysis: str) -> None:
        """Check that steps were recorded.

        Raises:
            AnalysisError: a run has none, or they have none in common.
        """
        for reading in self.readings:
            reading.require_rows(analysis)
        if len(self.steps) == 0:
            raise AnalysisError(f"{self.where}: the runs have no recorded step in common, so they cannot be pooled")

    def caveats(self) -> list[str]:
        """Return notes on runs that are not finished, and on steps that only some of them have recorded."""
        notes = [
            note if len(self.readings) == 1 else f"{reading.run.path}: {note}"
            for reading in self.readings
            for note in reading.caveats()
        ]
        if any(len(reading.run.steps) != len(self.steps) for reading in self.readings):
            notes.append(f"Only the {plural(len(self.steps), 'step')} that all runs have recorded are used.")
        return notes


def _common(steps: Iterable[Array]) -> Array:
    first, *others = steps
    for other in others:
        if not np.array_equal(first, other):
            first = np.intersect1d(first, other, assume_unique=True)
    return first
