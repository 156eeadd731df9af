"""The run file of a recording: opened or continued, made when it is known what is recorded, saved in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from elboverse.components.registry import Selection
from elboverse.contracts import Ending, Evaluation, RunDescription, Sink
from elboverse.errors import RunFileError
from elboverse.integrations.findings import findings
from elboverse.integrations.rows import LOSS, SCALARS, unpacked
from elboverse.runfile import Run, RunWriter, WriterLock
from elboverse.running.environment import describe
from elboverse.running.sinks.chosen import chosen_sinks

__all__ = ["Keeper", "Status"]

Status = Literal["running", "interrupted", "finished", "failed"]

_ROWS_REMEMBERED: Final = 100_000
_UNITS: Final = {LOSS: "unstated", "log_reference": "nat"}


class Keeper:
    """Writes what a recording yields.

    Args:
        path: of the run file.
        name: what analyses call the run.
        resume: continue the file if there is one.
        step: number of updates that are kept of it; all by default.
        overwrite: replace it.
        interval: the least seconds between two saves.
        sinks: further receivers.

    Raises:
        RunFileError: the file exists and is neither continued nor replaced, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        resume: bool,
        step: int | None,
        overwrite: bool,
        interval: float,
        sinks: Sequence[Sink | str | Mapping[str, Any]],
    ) -> None:
        self.path = path
        self.dimension: int | None = None
        self.latent_dim: int | None = None
        self.learns: bool | None = None
        self.with_loss = False
        self.first_step = step or 0
        self._name, self._interval, self._overwrite = name, interval, overwrite
        named = [sink for sink in sinks if isinstance(sink, str | Mapping)]
        self._sinks = chosen_sinks(_selected(named), [sink for sink in sinks if not isinstance(sink, str | Mapping)])
        self._ending: Ending = "interrupted"
        self._told = False
        self._with_reference: bool | None = None
        self._remembered: list[npt.NDArray[Any]] = []
        self._writer: RunWriter | None = None
        self._saved = False
        exists = path.is_file()
        if exists and not (resume or overwrite):
            raise RunFileError(
                f"{path}: already exists; pass resume=True to continue it, or overwrite=True to replace it"
            )
        self._lock = WriterLock(path)
        if exists and resume:
            try:
                self._continue(step)
            except BaseException:
                self._lock.close()
                raise

    def append_rows(self, first: int, values: npt.NDArray[Any]) -> None:
        """Add steps first, first + 1, ….

        Args:
            first: number of updates before them.
            values: vectors of `rows.packed`, shape (t, 6 + 4H).
        """
        if self._with_reference is None:
            self._with_reference = bool(values[:, SCALARS.index("log_reference")].any())
        self._remembered.append(values)
        if len(self._remembered) > 64:
            self._remembered = [np.concatenate(self._remembered)[-_ROWS_REMEMBERED:]]
        steps = np.arange(first, first + len(values))
        rows = unpacked(steps, values, with_loss=self.with_loss, with_reference=self._with_reference)
        self._ready(str(values.dtype)).append_rows(rows.step, rows.scalars, rows.per_latent)
        self._sinks.receive(rows)

    def append_evaluation(self, evaluation: Evaluation, dtype: str) -> None:
        """Add an evaluation.

        Args:
            evaluation: of one replica.
            dtype: of the run file, where this is the first thing in it.
        """
        self._ready(dtype).append_evaluation(
            evaluation.split,
            evaluation.step,
            evaluation.epoch,
            evaluation.points,
            evaluation.scalars,
            evaluation.per_latent,
        )
        self._sinks.receive(evaluation)

    def put_document(self, name: str, document: dict[str, Any] | list[Any]) -> None:
        """Add a document to the file, once there is one."""
        if self._writer is not None:
            self._writer.put_document(name, document)

    def save_if_due(self, step: int) -> None:
        """Save at once if nothing is on the disk yet, then on the writer's clock."""
        if self._writer is not None and (not self._saved or self._writer.snapshot_due()):
            self.save("running", step)

    def save(self, status: Status, step: int) -> None:
        """Save everything so far.

        Args:
            status: of the run.
            step: number of updates done.
        """
        if self._writer is None:
            return
        self._writer.put_document("model", {"learns_decoder_variance": self.learns is not False})
        self._writer.snapshot(status, {}, step)
        self._saved = True
        self._ending = status if status != "running" else self._ending
        self._sinks.saved(step)

    def findings(self) -> list[str]:
        """Return what the recorded rows say about the loss, and keep it in the file."""
        if self._writer is None or not self._remembered:
            return []
        values = np.concatenate(self._remembered)
        column = {name: values[:, index] for index, name in enumerate(SCALARS)}
        kl = values[:, len(SCALARS) : len(SCALARS) + (self.latent_dim or 0)].sum(1)
        loss = column[LOSS] if self.with_loss else None
        found = findings(column["beta"], column["log_likelihood"], kl, loss, self.dimension)
        self._writer.put_document("findings", found)
        return found

    def close(self) -> None:
        """Release the file. What was not saved is lost."""
        if self._writer is not None:
            self._writer.close()
        self._lock.close()
        self._sinks.end(self._ending)

    def _continue(self, step: int | None) -> None:
        with Run.open(self.path) as run:
            self.first_step = run.checkpoint_step if step is None else step
            self.with_loss, self._with_reference = LOSS in run.stored, "log_reference" in run.stored
            if len(run.steps) == 0:
                self._with_reference = None
            dimension, model = run.data.get("dimension"), run.documents.get("model")
            self.dimension = dimension if isinstance(dimension, int) else None
            self.latent_dim = run.latent_dim
            self.learns = model.get("learns_decoder_variance") if isinstance(model, dict) else None
        self._writer = RunWriter.resume(self.path, minimum_interval=self._interval, lock=self._lock)
        self._writer.truncate(self.first_step - 1, self.first_step)
        self._saved = True

    def _ready(self, dtype: str) -> RunWriter:
        """Return the writer, made when it is known what is recorded; sinks are told then."""
        if not self._told:
            self._told = True
            self._sinks.begin(self._described())
        if self._writer is None:
            self._writer = RunWriter(
                self.path,
                documents={
                    "config": {"name": self._name, "model": {"name": "recorded", "latent_dim": self.latent_dim}},
                    "environment": describe(torch.device("cpu")),
                    "components": [],
                    "data": {"dimension": self.dimension or 1},
                    "model": {"learns_decoder_variance": self.learns is not False},
                },
                replicas=1,
                latent_dim=self.latent_dim or 1,
                dtype=dtype,
                overwrite=self._overwrite,
                minimum_interval=self._interval,
                units=_UNITS,
                lock=self._lock,
            )
        return self._writer

    def _described(self) -> RunDescription:
        return RunDescription(
            folder=self.path.parent,
            name=self._name,
            config={},
            components=(),
            data={"dimension": self.dimension or 1},
            environment=describe(torch.device("cpu")),
            total_steps=0,
            latent_dim=self.latent_dim or 1,
            replicas=1,
            done=self.first_step,
        )


def _selected(sinks: Sequence[str | Mapping[str, Any]]) -> list[Selection]:
    """Return sinks that a caller names, as a config would: installed plugins are looked for only then."""
    if not sinks:
        return []
    from elboverse.components.registry import discover  # plugins are imported, for those alone who name a sink
    from elboverse.config.structuring import build_converter, structure_selection

    registry = discover()
    return [structure_selection(build_converter(registry), registry, "sink", sink) for sink in sinks]
