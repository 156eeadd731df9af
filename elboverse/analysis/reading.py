"""A run as an analysis reads it: some of its replicas, always with a replica axis, and what it lacks said in words."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.analysis.family import family_of
from elboverse.config.structuring import in_range
from elboverse.errors import AnalysisError
from elboverse.runfile import Run
from elboverse.theory.certificate import Certificate, certificates, told

__all__ = ["Array", "Reading", "ReplicaOptions", "at", "differ", "labels_of", "listed", "plural"]

Array = npt.NDArray[Any]


@attrs.frozen(kw_only=True)
class ReplicaOptions:
    """The option that every analysis has.

    Args:
        replica: the replica to analyse, 0 … R−1; None takes all of them together.
    """

    replica: int | None = attrs.field(
        default=None,
        validator=in_range(minimum=0),
        metadata={"help": "Number of the replica to analyse, counted from 0; all of them together if not given."},
    )


@attrs.frozen(eq=False)
class Reading:
    """A view of a run: one replica or all of them, R' in number.

    Args:
        run: the run.
        replica: which one; None for all.

    Raises:
        AnalysisError: the run has no such replica.
    """

    run: Run
    replica: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.replica is not None and self.replica >= self.run.replicas:
            raise AnalysisError(
                f"{self.run.path}: got replica {self.replica}; expected 0 … {self.run.replicas - 1}, "
                f"since the run has {plural(self.run.replicas, 'replica')}"
            )

    @property
    def replicas(self) -> list[int]:
        """The numbers of the replicas read."""
        return list(range(self.run.replicas)) if self.replica is None else [self.replica]

    def described(self, several: str = "median") -> str:
        """Return what the run is, for titles: its name, its model and which replicas are read.

        Args:
            several: which of several replicas are shown.
        """
        parts = [at(self.run.config, "name"), at(self.run.config, "model", "name")]
        if self.replica is not None:
            parts.append(f"replica {self.replica}")
        elif self.run.replicas > 1:
            parts.append(f"{several} of {self.run.replicas} replicas")
        return ", ".join(part for part in parts if isinstance(part, str) and part) or self.run.path.name

    def series(self, name: str, last: int | None = None, rows: slice | None = None) -> Array:
        """Return a trajectory, or only some rows, shape (T, R') or (T, R', H), as precise as it was recorded."""
        values = np.asarray(self.run.series(name, self.replica, last, rows))
        return values if self.replica is None else values[:, None]

    def evaluation(self, split: str, name: str) -> Array:
        """Return an evaluated quantity, shape (E, R') or (E, R', H)."""
        values = np.asarray(self.run.evaluation(split, name, self.replica), dtype=np.float64)
        return values if self.replica is None else values[:, None]

    def evaluated(self, split: str) -> bool:
        """Return whether there is an evaluation of that split."""
        return split in self.run.splits and len(self.run.evaluation_steps(split)) > 0

    @property
    def steps_per_epoch(self) -> int | None:
        """How many updates make an epoch; None if the run does not say."""
        points, batch = at(self.run.data, "train_points"), at(self.run.config, "training", "batch_size")
        if not (isinstance(points, int) and isinstance(batch, int) and 0 < batch <= points):
            return None
        return points // batch

    def epoch(self, step: int) -> float | None:
        """Return the number of epochs after that many updates; None if the run does not say."""
        return None if self.steps_per_epoch is None else step / self.steps_per_epoch

    def ground_truth(self, split: str) -> float | None:
        """Return the generating log-likelihood in nats per point of that split; None where it is not known."""
        value = at(self.run.data, f"{split}_log_likelihood")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def require_rows(self, analysis: str) -> None:
        """Check that steps were recorded.

        Raises:
            AnalysisError: there are none.
        """
        if len(self.run.steps) == 0:
            raise AnalysisError(
                f"{self.run.path}: no training step is recorded (status: {self.run.status}), "
                f"and {analysis} is drawn from recorded steps; let the run train longer"
            )

    def certificates(self) -> list[Certificate]:
        """Return the certificates of the replicas read; none where the run keeps none of its checkpoint."""
        found = certificates(self.run.documents, self.run.checkpoint_step)
        return [found[replica] for replica in self.replicas] if len(found) == self.run.replicas else []

    def verdict(self) -> list[str]:
        """Return whether training has ended at a stationary point and what to do next, in sentences; or none."""
        found = self.certificates()
        return told(found, shlex.quote(str(self.run.path))) if found else []

    def caveats(self) -> list[str]:
        """Return notes if the run is not finished, or if no theorem holds for its model."""
        theory = [sentence] if (sentence := family_of(self.run).no_certificate) else []
        if self.run.status == "finished":
            return theory
        done = int(self.run.steps[-1]) + 1 if len(self.run.steps) else 0
        return [*theory, f"The run is not finished (status: {self.run.status}, {plural(done, 'step')} recorded)."]


def at(table: Any, *keys: str) -> Any:
    """Return what a document holds below `keys`; None where it holds nothing there."""
    for key in keys:
        if not isinstance(table, Mapping):
            return None
        table = table.get(key)
    return table


def differ(values: Sequence[Any]) -> bool:
    """Return whether not all the values, which documents hold and thus may be of any type, are the same."""
    return any(value != values[0] for value in values)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, as in ``1 step`` and ``1,200 steps``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(items: Iterable[Any]) -> str:
    """Return items as in ``0, 3 and 7``."""
    words = [str(item) for item in items]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return what tells the paths apart, as short as it can be: without the parts that all have in common."""
    parts = [path.parts for path in paths]
    while len({each[0] for each in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [each[1:] for each in parts]
    while len({each[-1] for each in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [each[:-1] for each in parts]
    labels = [str(Path(*each)) for each in parts]
    if len(set(labels)) < len(labels):
        labels = [f"{number}: {label}" for number, label in enumerate(labels, start=1)]
    return labels
