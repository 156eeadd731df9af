"""The trained model as the analyses that need it see it: rebuilt with torch, and points to look at it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from elboverse.analysis.reading import Array, Reading, plural
from elboverse.config.structuring import in_range

if TYPE_CHECKING:
    from elboverse.analysis.trained import TrainedModel
    from elboverse.runfile import Run

__all__ = ["OneReplicaOptions", "Rebuilt", "rebuilt"]


@attrs.frozen(kw_only=True)
class OneReplicaOptions:
    """The option of every analysis of one trained model.

    Args:
        replica: the replica to analyse, 0 … R−1.
    """

    replica: int = attrs.field(
        default=0,
        validator=in_range(minimum=0),
        metadata={"help": "Number of the replica to analyse, counted from 0."},
    )


@attrs.frozen(eq=False)
class Rebuilt:
    """A trained model and points to look at it with: the held-out ones, or those of training where none are held out.

    Args:
        reading: the run and its replica.
        trained: the model.
        split: ``"held_out"`` or ``"train"``.
    """

    reading: Reading
    trained: TrainedModel
    split: str

    @property
    def available(self) -> int:
        """How many points there are."""
        return self.trained.count(self.split)

    def points(self, rows: slice | Array) -> Array:
        """Return some of the points, scaled, shape (M, D)."""
        return self.trained.points(self.split, rows)

    @property
    def source(self) -> str:
        """What the points are, in words."""
        return f"{self.point} points"

    @property
    def point(self) -> str:
        """What kind of point each of them is: ``held-out`` or ``training``."""
        return "held-out" if self.split == "held_out" else "training"

    def counted(self, count: int) -> str:
        """Return a count of the points, as in ``1 held-out point``."""
        return plural(count, f"{self.point} point")

    def described(self) -> str:
        """Return what the run is, for titles, with the number of steps that it was trained."""
        return f"{self.reading.described()}, after {plural(self.reading.run.checkpoint_step, 'step')}"

    def caveats(self, *, wants_held_out: bool = True) -> list[str]:
        """Return notes on an unfinished or untrained run, and on the points, where the run holds none out.

        Args:
            wants_held_out: whether the analysis would rather use held-out points.
        """
        notes = []
        if wants_held_out and self.split != "held_out":
            notes.append("The run holds out no points, so training points are used.")
        if self.reading.run.checkpoint_step == 0:
            notes.append("The model is as it was initialised: no step is saved.")
        return notes + self.reading.caveats()


def rebuilt(run: Run, replica: int) -> Rebuilt:
    """Return the trained model of a replica; torch is imported now.

    Raises:
        AnalysisError: it cannot be rebuilt, or its data cannot.
    """
    from elboverse.analysis.trained import TrainedModel  # torch, which only analyses of the trained model need

    described = None if run.replicas == 1 else replica
    reading = Reading(run, described)
    trained = TrainedModel.of(run, replica)
    split = "held_out" if trained.count("held_out") else "train"
    return Rebuilt(reading, trained, split)
