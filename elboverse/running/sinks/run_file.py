"""The sink that keeps a run: trajectories, evaluations and the checkpoint in one `run.h5`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from elboverse.contracts.records import Evaluation, Frame, Record, Rows
from elboverse.errors import RunFileError
from elboverse.runfile import RunWriter
from elboverse.warning import warn

__all__ = ["RunFileSink"]


class RunFileSink:
    """Collects records and saves a complete file whenever one is due.

    A save that fails while training goes on is reported once and tried again at each later one; the file of the last
    successful save stays as it was.

    Args:
        writer: of the run's file.
        saved: after how many updates the file was saved that is there already; None if there is none of this run.
        seconds: how long the run was trained before.
    """

    def __init__(self, writer: RunWriter, saved: int | None = None, seconds: float = 0.0) -> None:
        self._writer = writer
        self._started = time.monotonic() - seconds
        self._failing = False
        self._saved = saved

    def receive(self, record: Record) -> None:
        """Take one record; pictures are not kept."""
        if isinstance(record, Rows):
            self._writer.append_rows(record.step, record.scalars, record.per_latent)
        elif isinstance(record, Evaluation):
            self._writer.append_evaluation(
                record.split, record.step, record.epoch, record.points, record.scalars, record.per_latent
            )
        elif isinstance(record, Frame):
            self._writer.append_frame(record.step, record.data, record.series)

    @property
    def due(self) -> bool:
        """Whether it is time for a snapshot: at once where there is none of this run yet, then on a clock."""
        return self._writer.snapshot_due() or (self._saved is None and not self._failing)

    def save_on_the_way(self, state: Mapping[str, npt.NDArray[Any]], done: int) -> bool:
        """Save a snapshot, and return whether it is there; a failure is a warning, the first time."""
        try:
            self._snapshot("running", state, done)
        except RunFileError as error:
            if not self._failing:
                warn(f"{error}. Training goes on, and saving is tried again.")
            self._failing = True
        else:
            self._failing, self._saved = False, done
        return not self._failing

    def save_at_the_end(self, status: str, state: Mapping[str, npt.NDArray[Any]], done: int) -> None:
        """Save the last snapshot of this process.

        Args:
            status: ``"finished"``, ``"interrupted"`` or ``"failed"``.
            state: of the loop.
            done: number of updates done.

        Raises:
            RunFileError: it could not be saved. The message says what is on the disk and what is lost.
        """
        try:
            self._snapshot(status, state, done)
        except RunFileError as error:
            if self._saved is None or not self._writer.path.is_file():
                raise RunFileError(
                    f"{error}. Nothing of this run is on the disk; its {done:,} steps are lost"
                ) from error
            command = shlex.join(["elboverse", "train", "--resume", str(self._writer.path)])
            raise RunFileError(
                f"{error}. On the disk are the first {self._saved:,} steps; the {done - self._saved:,} after them are "
                f"lost. Once the file can be written, repeat them:\n  {command}"
            ) from error
        self._saved = done

    def put_document(self, name: str, document: dict[str, Any]) -> None:
        """Keep a document beside the numbers from the next snapshot on."""
        self._writer.put_document(name, document)

    def _snapshot(self, status: str, state: Mapping[str, npt.NDArray[Any]], done: int) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        self._writer.put_document("timing", {"training_seconds": seconds})
        self._writer.snapshot(status, state, done)

    def close(self) -> None:
        """Release the run's lock."""
        self._writer.close()
