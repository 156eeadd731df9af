"""Small runs of the training loop without sinks, for tests."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.config import ExperimentConfig
from elboverse.contracts.records import Evaluation, Record, Rows
from elboverse.running.assembly import Experiment, build_experiment

Array = npt.NDArray[Any]


@attrs.frozen(eq=False)
class Trained:
    """An experiment and the records that its loop has yielded."""

    experiment: Experiment
    records: list[Record]

    @property
    def rows(self) -> list[Rows]:
        """The recorded rows, chunk by chunk."""
        return [record for record in self.records if isinstance(record, Rows)]

    @property
    def steps(self) -> Array:
        """The recorded steps, shape (T,)."""
        return np.concatenate([rows.step for rows in self.rows])

    def series(self) -> dict[str, Array]:
        """Return every recorded series, (T, R) or (T, R, H)."""
        names = [*self.rows[0].scalars, *self.rows[0].per_latent]
        return {name: np.concatenate([(rows.scalars | rows.per_latent)[name] for rows in self.rows]) for name in names}  # type: ignore[operator]

    def evaluations(self, split: str) -> list[Evaluation]:
        """Return the evaluations of a split in order."""
        return [record for record in self.records if isinstance(record, Evaluation) and record.split == split]


def train_to_the_end(config: ExperimentConfig) -> Trained:
    """Return a run of the whole plan."""
    experiment = build_experiment(config)
    return Trained(experiment, [record for records in experiment.loop.rounds() for record in records])
