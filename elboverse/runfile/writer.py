"""Writing a run file: the history of a run in memory, snapshots of it put in place as a whole.

At any moment the path holds a complete, closed, valid file, or none yet: a snapshot is written to a temporary file
beside it, flushed to the disk, and renamed over the last one. Whatever happens in between (a kill, a full disk, a
power cut), the last snapshot stays as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from elboverse._version import __version__
from elboverse.errors import RunFileError
from elboverse.runfile import documents as run_documents
from elboverse.runfile import schema
from elboverse.runfile.frames import SERIES, FrameHistory
from elboverse.runfile.history import EvaluationHistory, History, Values
from elboverse.runfile.image import Snapshot, build_image
from elboverse.runfile.lock import WriterLock
from elboverse.runfile.reader import Run
from elboverse.runfile.seal import seal

MINIMUM_INTERVAL: Final = 10.0
"""Seconds between two snapshots at least, if not told otherwise."""

_REST_PER_SNAPSHOT: Final = 50
"""A snapshot is due only after that many times the last one's duration, so that they take 2 % of a run's time."""


class RunWriter:
    """The one writer of a run file; a lock keeps every other process from being a second one.

    The training loop appends rows and evaluations as they come and asks for a snapshot whenever `snapshot_due`,
    when it is interrupted, and at the end. A snapshot that fails raises; the writer can still be used, and the next
    snapshot holds everything. The lock is on the file ``.run.h5.lock`` beside the run file, where it stays.

    Args:
        path: of the run file; its folder is made if need be.
        documents: what `Run` offers as config, environment, components and data, and any others: dicts and lists of
            JSON values.
        replicas: R.
        latent_dim: H.
        dtype: type in which trajectories are stored, ``"float32"`` or ``"float64"``; evaluations are float64.
        overwrite: whether a run file may be there already. It stays until the first snapshot takes its place.
        minimum_interval: seconds between two snapshots at least, for `snapshot_due`.
        units: units of series beyond those that every run has, by name.
        lock: the lock on this path, where it is held already.

    Raises:
        RunFileError: the file exists, another process writes to it, the folder cannot be written to, or a document is
            no JSON.

    Use it in a ``with`` block, in which `append_rows` and `snapshot` are called in turn; `elboverse.record` does that
    for a training loop of your own.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        documents: Mapping[str, Any],
        replicas: int,
        latent_dim: int,
        dtype: str = "float32",
        overwrite: bool = False,
        minimum_interval: float = MINIMUM_INTERVAL,
        units: Mapping[str, str] | None = None,
        lock: WriterLock | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.replicas = replicas
        self.latent_dim = latent_dim
        self.dtype = dtype
        if min(replicas, latent_dim) < 1 or dtype not in schema.TRAJECTORY_TYPES:
            raise RunFileError(
                f"{self.path}: got {replicas} replicas, {latent_dim} latents and {dtype!r}; "
                f"expected at least 1, at least 1 and {' or '.join(schema.TRAJECTORY_TYPES)}"
            )
        self._documents = dict(documents)
        self._encoded = run_documents.encoded(documents)
        self._units = dict(units or {})
        for name, unit in self._units.items():
            if not schema.is_text(unit):
                raise RunFileError(f"units of {name}: got {unit!r}; expected a short printable text")
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        self._trajectory = History(
            "trajectory", replicas, latent_dim, dtype, schema.TRAJECTORY_SCALARS, schema.TRAJECTORY_PER_LATENT
        )
        self._evaluations: dict[str, EvaluationHistory] = {}
        self._frames = FrameHistory(replicas, latent_dim)
        self._minimum_interval = minimum_interval
        self._next_snapshot = time.monotonic() + minimum_interval
        self._temporary = self.path.with_name(f".{self.path.name}.tmp-{os.getpid()}")
        self._lock = lock or WriterLock(self.path)
        try:
            self._check_free(overwrite)
            self._remove_stale()
        except BaseException:
            self.close()
            raise

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        documents: Mapping[str, Any] | None = None,
        minimum_interval: float = MINIMUM_INTERVAL,
        lock: WriterLock | None = None,
    ) -> RunWriter:
        """Return a writer that appends to an existing run file.

        Args:
            path: of the run file.
            documents: those that replace the stored ones; all others are kept.
            minimum_interval: as of the class.
            lock: as of the class; `resume` closes it if it raises.

        Raises:
            RunFileError: no such file exists, it is damaged, or another process writes to it.
        """
        path = Path(path).absolute()
        if not path.is_file():
            raise RunFileError(f"{path}: no such file, so nothing to resume; name the run.h5 of a run")
        lock = lock or WriterLock(path)  # from here on, no other process changes the file
        try:
            with Run.open(path) as run:
                writer = cls(
                    path,
                    documents={**run.documents, **(documents or {})},
                    replicas=run.replicas,
                    latent_dim=run.latent_dim,
                    dtype=run.dtype,
                    overwrite=True,
                    minimum_interval=minimum_interval,
                    lock=lock,
                )
                writer._restore(run)
        except BaseException:
            lock.close()
            raise
        return writer

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._trajectory.step.values)

    def append_rows(self, step: Values, scalars: Mapping[str, Values], per_latent: Mapping[str, Values]) -> None:
        """Add recorded steps; all of them or, where anything is wrong, none.

        Args:
            step: strictly increasing and above the last one, shape (t,), integers.
            scalars: series of shape (t, R) by name; those of `schema.TRAJECTORY_SCALARS` and any others.
            per_latent: series of shape (t, R, H) by name; those of `schema.TRAJECTORY_PER_LATENT` and any others.

        Raises:
            RunFileError: a series is missing, or new after the first call, or a shape or a step is wrong.
        """
        self._trajectory.append(np.asarray(step), scalars, per_latent)

    def append_evaluation(
        self,
        split: str,
        step: int,
        epoch: int,
        points: int,
        scalars: Mapping[str, Values],
        per_latent: Mapping[str, Values],
    ) -> None:
        """Add one evaluation.

        Args:
            split: which points were evaluated, ``"train"`` or ``"held_out"``.
            step: number of steps taken before it, above that of the split's last evaluation.
            epoch: number of epochs done before it.
            points: number of points evaluated, the same each time.
            scalars: series of shape (R,) by name; those of `schema.EVALUATION_SCALARS` and any others.
            per_latent: series of shape (R, H) by name; those of `schema.EVALUATION_PER_LATENT` and any others.

        Raises:
            RunFileError: a series is missing, or new after the split's first evaluation, or a shape or number is wrong.
        """
        evaluated = self._evaluations.get(split) or self._new_evaluations(split, points)
        if points != evaluated.points or points < 1 or epoch < 0:
            raise RunFileError(
                f"evaluation/{split}: got {points} points in epoch {epoch}; expected as many as before, "
                f"{evaluated.points}, and a positive number, in epoch 0 or later"
            )
        evaluated.history.append(
            np.array([step]),
            {name: np.asarray(values)[None] for name, values in scalars.items()},
            {name: np.asarray(values)[None] for name, values in per_latent.items()},
        )
        evaluated.epoch.append(np.array([epoch]))
        self._evaluations[split] = evaluated

    def append_frame(self, step: int, data: Values, series: Mapping[str, Values]) -> None:
        """Add one frame of an animation.

        Args:
            step: number of steps taken before it, above that of the last frame.
            data: the points that are shown in data space, shape (R, Q, D), the same each time.
            series: those of `frames.SERIES` by name, (R, M, H) or (R, Q, D).

        Raises:
            RunFileError: a series is missing or unknown, or a shape or number is wrong.
        """
        parts = {name: np.asarray(values)[None] for name, values in series.items()}
        self._frames.append(np.array([step]), np.asarray(data), parts)

    def truncate(self, step: int, evaluation_step: int | None = None) -> None:
        """Drop what is to be recorded anew, to go on from a checkpoint.

        Args:
            step: rows of later steps are dropped.
            evaluation_step: evaluations and frames after more steps are dropped; `step` by default.
        """
        self._frames.truncate(step if evaluation_step is None else evaluation_step)
        self._trajectory.truncate(step)
        for evaluated in self._evaluations.values():
            evaluated.truncate(step if evaluation_step is None else evaluation_step)
        self._evaluations = {split: kept for split, kept in self._evaluations.items() if len(kept.epoch.values)}

    def put_document(self, name: str, document: dict[str, Any] | list[Any]) -> None:
        """Add a document, or replace the one of that name; the next snapshot holds it.

        Raises:
            RunFileError: it is not JSON, or too large.
        """
        documents = {**self._documents, name: document}
        self._encoded, self._documents = run_documents.encoded(documents), documents

    def snapshot_due(self) -> bool:
        """Return whether the next snapshot may be taken without slowing the run down by more than about 2 %."""
        return time.monotonic() >= self._next_snapshot

    def snapshot(self, status: str, checkpoint: Mapping[str, Values], checkpoint_step: int) -> None:
        """Put a file with everything so far in place of the last one.

        Args:
            status: one of `schema.STATUSES`.
            checkpoint: arrays by path, such as ``"model/encoder.0.weight"``: float32, float64, int64, uint8 or bool.
            checkpoint_step: number of steps taken when they were.

        Raises:
            RunFileError: it cannot be written (a full disk, say) or the arguments are wrong. The last file is
                untouched, no temporary file is left, and the writer can be used on.
        """
        started = time.monotonic()
        content = self._content(status, checkpoint, checkpoint_step)
        try:
            self._replace(build_image(content))
        except OSError as error:
            raise RunFileError(
                f"{self.path}: cannot be saved: {error.strerror or error}; the last saved file is left as it was"
            ) from error
        finally:
            finished = time.monotonic()
            rest = max(self._minimum_interval, _REST_PER_SNAPSHOT * (finished - started))
            self._next_snapshot = finished + rest

    def close(self) -> None:
        """Release the lock; what no snapshot has saved is lost. May be called again."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _check_free(self, overwrite: bool) -> None:
        if self.path.is_dir():
            raise RunFileError(f"{self.path}: is a directory; choose another path for the run file")
        if not overwrite and os.path.lexists(self.path):
            raise RunFileError(
                f"{self.path}: already exists; give --overwrite to replace it, or another folder with --out"
            )

    def _remove_stale(self) -> None:
        """Remove what writers left that were killed amid a snapshot; the lock says that none is at work."""
        for stale in self.path.parent.glob(f".{self.path.name}.tmp-*"):
            try:
                stale.unlink(missing_ok=True)
            except OSError as error:
                raise RunFileError(f"{stale}: cannot be removed: {error.strerror}") from error

    def _new_evaluations(self, split: str, points: int) -> EvaluationHistory:
        if not schema.is_name(split):
            raise RunFileError(f"evaluation/{split}: no usable name of a split; use lower-case letters, digits and _")
        where = f"evaluation/{split}"
        scalars, per_latent = schema.EVALUATION_SCALARS, schema.EVALUATION_PER_LATENT
        history = History(where, self.replicas, self.latent_dim, "float64", scalars, per_latent)
        return EvaluationHistory(points, history)

    def _content(self, status: str, checkpoint: Mapping[str, Values], checkpoint_step: int) -> Snapshot:
        if status not in schema.STATUSES:
            raise RunFileError(f"status: got {status!r}; expected one of {', '.join(schema.STATUSES)}")
        if checkpoint_step < 0:
            raise RunFileError(f"checkpoint: got step {checkpoint_step}; expected 0 or more")
        arrays = {key: np.asarray(array) for key, array in checkpoint.items()}
        _check_checkpoint(arrays)
        return Snapshot(
            attributes={
                "format": schema.FORMAT,
                "elboverse_version": __version__,
                "created": self._created,
                "status": status,
            },
            documents=self._encoded,
            units=self._units,
            trajectory=self._trajectory,
            evaluations=self._evaluations,
            frames=self._frames,
            checkpoint=arrays,
            checkpoint_step=checkpoint_step,
        )

    def _replace(self, image: memoryview) -> None:
        try:
            with self._temporary.open("xb") as file:
                file.write(image)
                file.write(seal(image))
                file.flush()
                # Read-only, so that a program that opens it for writing is stopped: HDF5 would cut its seal off.
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o444)
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _restore(self, run: Run) -> None:
        self._created = run.created
        self._units = {name: run.units(name) for name in run.stored}
        self._trajectory.append(run.steps, *_by_rank({name: run.series(name) for name in run.stored}))
        for split in run.splits:
            names = run.evaluation_names(split, stored=True)
            self._units |= {name: run.evaluation_units(split, name) for name in names}
            evaluated = self._new_evaluations(split, run.evaluation_points(split))
            values = {name: run.evaluation(split, name) for name in names}
            evaluated.history.append(run.evaluation_steps(split), *_by_rank(values))
            evaluated.epoch.append(run.evaluation_epochs(split))
            self._evaluations[split] = evaluated
        if run.frames is not None:
            values = {name: run.frames.stored[name].read() for name in SERIES}
            self._frames.append(run.frames.step, run.frames.stored["data"].read(), values)


def _by_rank(series: Mapping[str, Values]) -> tuple[dict[str, Values], dict[str, Values]]:
    scalars = {name: values for name, values in series.items() if values.ndim == 2}
    return scalars, {name: values for name, values in series.items() if values.ndim == 3}


def _check_checkpoint(arrays: Mapping[str, Values]) -> None:
    for key, array in arrays.items():
        if not schema.is_checkpoint_key(key):
            raise RunFileError(
                f"checkpoint/{key}: no usable name; give a path of printable parts, such as model/weight"
            )
        if array.dtype not in [schema.little_endian(name) for name in schema.CHECKPOINT_TYPES]:
            allowed = ", ".join(schema.CHECKPOINT_TYPES)
            raise RunFileError(f"checkpoint/{key}: got {array.dtype}; expected {allowed}")
        parents = key.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if "/".join(parents[:depth]) in arrays:
                raise RunFileError(f"checkpoint/{key}: {'/'.join(parents[:depth])!r} is an array, so no folder")
