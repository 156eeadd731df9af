"""Reading a run file: `Run` checks all of it at once and reads the numbers when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from elboverse.errors import AnalysisError, RunFileError
from elboverse.faces import found_in
from elboverse.renamed import with_present_keys
from elboverse.runfile import documents, schema
from elboverse.runfile.frames import Frames
from elboverse.runfile.hdf5 import Container, Stored
from elboverse.runfile.labelled import html_of, pandas_of, xarray_of
from elboverse.runfile.tables import Evaluations, Table, counts
from elboverse.runfile.tables import required as required_in

Values = NDArray[Any]

_FOLDERS: Final = ("documents", "trajectory", "evaluation", "frames", "checkpoint")


def located(path: str | Path) -> Path:
    """Return the path of a run file that is given by itself or by the run's folder.

    Args:
        path: of either; whether there is a run file is not asked.
    """
    return Path(path, schema.RUN_FILE) if os.path.isdir(path) else Path(path)  # noqa: PTH112 - never raises


class Run:
    """A run as its file holds it: documents, trajectories, evaluations and the checkpoint.

    Made by `Run.open`. The file may be replaced meanwhile by a trainer at work: a run that is open keeps showing
    what it showed, and opening it again shows what is new. It is never locked. What it has open is closed with it, or
    at the end of a ``with`` block.

    Axes: T recorded steps, E evaluations, R replicas, H latents. Information quantities are in nats per data point.

    Attributes:
        path: of the file.
        status: ``"running"``, ``"interrupted"``, ``"finished"`` or ``"failed"``.
        format_version: of the file.
        elboverse_version: of the program that wrote it.
        created: when the run was started, in ISO 8601.
        documents: the JSON documents by name.
        replicas: R.
        latent_dim: H.
        dtype: type of the trajectories, ``"float32"`` or ``"float64"``.
        steps: the recorded steps, shape (T,).
        checkpoint_step: number of steps taken when the checkpoint was.
        frames: of an animation; None if none were recorded.
        data_source: the data that the run was trained on, in memory or a path, where they are not to be looked for
            where the config says; see `with_data`.

    Example:
        >>> import elboverse
        >>> config = {"dataset": {"name": "circle", "points": 200}, "training": {"epochs": 2, "batch_size": 50}}
        >>> elboverse.train(config, out="runs/read").close()
        >>> with Run.open("runs/read") as run:
        ...     run.status, run.series("kl", replica=0).shape
        ('finished', (4, 2))
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self.path = container.path
        self.data_source: Any = None
        self._read_attributes()
        by_folder = _grouped(container)
        self.documents = documents.parsed(container.path, by_folder["documents"])
        self._read_trajectory(by_folder["trajectory"])
        self._read_evaluations(by_folder["evaluation"])
        self._read_frames(by_folder["frames"])
        self._read_checkpoint(by_folder["checkpoint"])

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run in a file, all of it checked: seal, structure, types, shapes, steps and documents.

        Args:
            path: of the run file, or of the run's folder.

        Raises:
            RunFileError: the file cannot be read, is not a run file, is damaged, or is of a newer version. The message
                names the file and the object.
        """
        container = Container.open(located(path))
        try:
            return cls(container)
        except BaseException:
            container.close()
            raise

    def with_data(self, data: Any) -> Self:
        """Return the run itself, having been told where its data are, for whatever looks at them.

        Args:
            data: the data in memory, or the path that they have moved to; None leaves all as it is.
        """
        if data is not None:
            self.data_source = data
        return self

    def model(self, replica: int = 0, *, data: Any = None, device: str = "cpu") -> Any:
        """Return the `TrainedModel`: to encode, reconstruct, sample and score with. torch is imported now.

        Args:
            replica: which replica.
            data: the data that the run was trained on, where they were given in memory or have moved; new points need
                none of it.
            device: where it computes.

        Raises:
            AnalysisError: it cannot be rebuilt.
        """
        found = found_in("elboverse", {"TrainedModel": "elboverse.analysis.trained"}, "TrainedModel")
        return found.of(self, replica, data=data, device=device)

    def evaluate(self, replica: int = 0, **options: Any) -> Any:
        """Return a report on what the trained model is worth on its held-out points. torch is imported now.

        Args:
            replica: which replica.
            options: as of `elboverse.integrations.evaluating.evaluate_run`: points, samples, seed, gaps, dequantised,
                data, device, progress.

        Raises:
            AnalysisError: the model is not in the file.
        """
        evaluate = found_in("elboverse", {"evaluate_run": "elboverse.integrations.evaluating"}, "evaluate_run")
        return evaluate(self, replica, **options)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, its keys under their present names."""
        return with_present_keys(self.documents["config"])

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and machine."""
        document: dict[str, Any] = self.documents["environment"]
        return document

    @property
    def components(self) -> list[Any]:
        """The components that the run used, with their plugins' distributions and versions."""
        document: list[Any] = self.documents["components"]
        return document

    @property
    def data(self) -> dict[str, Any]:
        """What the data were."""
        document: dict[str, Any] = self.documents["data"]
        return document

    @property
    def training_seconds(self) -> float | None:
        """How long it was trained, all resumptions together; None if the file does not say."""
        timing = self.documents.get("timing")
        seconds = timing.get("training_seconds") if isinstance(timing, dict) else None
        return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else None

    @property
    def steps(self) -> Values:
        """The recorded steps, shape (T,)."""
        return self._trajectory.step

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `series` takes."""
        return self._trajectory.names

    @property
    def stored(self) -> tuple[str, ...]:
        """Those of them that are stored, not derived."""
        return tuple(self._trajectory.series)

    def series(
        self, name: str, replica: int | None = None, last: int | None = None, rows: slice | None = None
    ) -> Values:
        """Return a trajectory, shape (T, R) or, per latent, (T, R, H); without R for one replica.

        Stored series come in the run's type; those derived from them (entropy_sum, gap, decoder_residual,
        prior_residual, entropy_drop) are computed in float64.

        Args:
            name: one of `names`.
            replica: which replica; all of them by default.
            last: read only so many rows, from the end; all of them by default.
            rows: read only these, without a stride; a run of a million steps need not fit into memory.

        Raises:
            AnalysisError: no such series or replica exists.
        """
        return self._trajectory.read(name, self._checked_replica(replica), last, rows)

    def units(self, name: str) -> str:
        """Return the unit of a trajectory, such as ``"nat"``.

        Raises:
            AnalysisError: no such series exists.
        """
        return self._units(self._trajectory, name)

    @property
    def splits(self) -> tuple[str, ...]:
        """What was evaluated: ``"train"``, ``"held_out"``."""
        return tuple(self._evaluations)

    def evaluation(self, split: str, name: str, replica: int | None = None) -> Values:
        """Return an evaluated quantity, shape (E, R) or, per latent, (E, R, H); without R for one replica.

        Args:
            split: one of `splits`.
            name: one of `evaluation_names`.
            replica: which replica; all of them by default.

        Raises:
            AnalysisError: no such split, quantity or replica exists.
        """
        return self._evaluated(split).table.read(name, self._checked_replica(replica))

    def evaluation_names(self, split: str, *, stored: bool = False) -> tuple[str, ...]:
        """Return the names that `evaluation` takes, or only those that are stored, not derived."""
        table = self._evaluated(split).table
        return tuple(table.series) if stored else table.names

    def evaluation_units(self, split: str, name: str) -> str:
        """Return the unit of an evaluated quantity."""
        return self._units(self._evaluated(split).table, name)

    def evaluation_steps(self, split: str) -> Values:
        """Return the number of steps taken before each evaluation, shape (E,)."""
        return self._evaluated(split).table.step

    def evaluation_epochs(self, split: str) -> Values:
        """Return the number of epochs done before each evaluation, shape (E,)."""
        return self._evaluated(split).epoch

    def evaluation_points(self, split: str) -> int:
        """Return how many points were evaluated."""
        return self._evaluated(split).points

    def checkpoint(self, prefix: str = "") -> dict[str, Values]:
        """Return the arrays of the checkpoint by path.

        Args:
            prefix: a folder such as ``"model"``: only what is below it is returned, with paths that start there.
                Everything by default.

        Raises:
            RunFileError: a value cannot be read.
        """
        start = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        return {
            key.removeprefix(start): stored.read().reshape(shape)
            for key, (stored, shape) in self._checkpoint.items()
            if key.startswith(start)
        }

    def to_pandas(self, replica: int = 0) -> Any:
        """Return a replica's trajectory as a `pandas.DataFrame`, a row per recorded step."""
        return pandas_of(self, replica)

    def to_xarray(self) -> Any:
        """Return the trajectory as an `xarray.Dataset` with dimensions step, replica and latent, and units."""
        return xarray_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def close(self) -> None:
        """Close the file; what was not read cannot be read any more. May be called again."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Run {str(self.path)!r}: {self.status}, {len(self.steps):,} recorded steps>"

    def _read_attributes(self) -> None:
        form = self._container.text("/", "format")
        if form != schema.FORMAT:
            raise RunFileError(f"{self.path}: / @format: got {form!r}; expected {schema.FORMAT!r}")
        self.format_version = self._container.integer("/", "format_version")
        self.elboverse_version = self._container.text("/", "elboverse_version")
        if self.format_version > schema.FORMAT_VERSION:
            raise RunFileError(
                f"{self.path}: got format version {self.format_version}, written by elboverse "
                f"{self.elboverse_version}; this elboverse reads up to {schema.FORMAT_VERSION}: install a newer one"
            )
        if self.format_version < 1:
            raise RunFileError(f"{self.path}: / @format_version: got {self.format_version}; expected 1 or more")
        self.created = self._container.text("/", "created")
        self.status = self._container.text("/", "status")
        if self.status not in schema.STATUSES:
            raise RunFileError(
                f"{self.path}: / @status: got {self.status!r}; expected one of {', '.join(schema.STATUSES)}"
            )

    def _read_trajectory(self, stored: dict[str, Stored]) -> None:
        where = "/trajectory"
        kl = required_in(self.path, where, stored, "kl")
        if len(kl.shape) != 3 or min(kl.shape[1:]) < 1 or kl.dtype not in schema.TRAJECTORY_TYPES:
            raise kl.fault(f"got {kl.dtype} {kl.shape}; expected floating-point values (T, R, H)")
        _, self.replicas, self.latent_dim = kl.shape
        self.dtype = kl.dtype
        required = {**dict.fromkeys(schema.TRAJECTORY_SCALARS, 2), **dict.fromkeys(schema.TRAJECTORY_PER_LATENT, 3)}
        self._trajectory = self._table(where, stored, self.dtype, required)

    def _read_evaluations(self, stored: dict[str, Stored]) -> None:
        required = {**dict.fromkeys(schema.EVALUATION_SCALARS, 2), **dict.fromkeys(schema.EVALUATION_PER_LATENT, 3)}
        self._evaluations: dict[str, Evaluations] = {}
        for split, members in _by_first_part(stored).items():
            where = f"/evaluation/{split}"
            if not schema.is_name(split):
                raise RunFileError(f"{self.path}: {where}: no allowed name of a split")
            points = self._container.integer(where, "points")
            if points < 1:
                raise RunFileError(f"{self.path}: {where} @points: got {points}; expected 1 or more")
            epoch = required_in(self.path, where, members, "epoch")
            table = self._table(
                where, {name: one for name, one in members.items() if name != "epoch"}, "float64", required
            )
            epochs = counts(epoch)
            if epochs.shape != table.step.shape or bool(np.any(np.diff(epochs) < 0)):
                raise epoch.fault("expected one epoch for each step, never falling")
            self._evaluations[split] = Evaluations(table, epochs, points)

    def _read_frames(self, stored: dict[str, Stored]) -> None:
        self.frames: Frames | None = None
        if stored:
            steps = counts(required_in(self.path, "/frames", stored, "step"))
            self.frames = Frames.of(stored, steps, self.replicas, self.latent_dim)

    def _read_checkpoint(self, stored: dict[str, Stored]) -> None:
        self.checkpoint_step = self._container.integer("/checkpoint", "step")
        if self.checkpoint_step < 0:
            raise RunFileError(f"{self.path}: /checkpoint @step: got {self.checkpoint_step}; expected 0 or more")
        self._checkpoint = {}
        for key, one in stored.items():
            if not schema.is_checkpoint_key(key):
                raise one.fault("no allowed name in a checkpoint")
            self._checkpoint[key] = (one, self._container.shape_of(one))

    def _table(self, where: str, stored: dict[str, Stored], dtype: str, required: Mapping[str, int]) -> Table:
        step = required_in(self.path, where, stored, "step")
        steps = counts(step)
        if bool(np.any(np.diff(steps) <= 0)):
            raise step.fault("the steps do not increase strictly")
        series = {name: one for name, one in stored.items() if name != "step"}
        for name in required:
            required_in(self.path, where, series, name)
        for name, one in series.items():
            if not schema.is_name(name):
                raise one.fault("no allowed name of a series")
            allowed = [(len(steps), self.replicas), (len(steps), self.replicas, self.latent_dim)]
            if name in required:
                allowed = allowed[required[name] - 2 :][:1]
            if one.dtype != dtype or one.shape not in allowed:
                shapes = " or ".join(map(str, allowed))
                raise one.fault(f"got {one.dtype} {one.shape}; expected {dtype} {shapes}")
        return Table(f"{self.path}: {where}", steps, series)

    def _units(self, table: Table, name: str) -> str:
        if name in table.series:
            return self._container.text(table.series[name].name, "units")
        if name not in table.names:
            raise AnalysisError(f"{table.where}: no series {name!r}; known: {', '.join(table.names)}")
        return schema.NAT

    def _evaluated(self, split: str) -> Evaluations:
        if split not in self._evaluations:
            known = ", ".join(self.splits) or "none"
            raise AnalysisError(f"{self.path}: no evaluation of {split!r}; evaluated: {known}")
        return self._evaluations[split]

    def _checked_replica(self, replica: int | None) -> int | None:
        if replica is not None and not 0 <= replica < self.replicas:
            raise AnalysisError(f"{self.path}: got replica {replica}; expected 0 … {self.replicas - 1}")
        return replica


def _grouped(container: Container) -> dict[str, dict[str, Stored]]:
    """Return all datasets by folder of the root and path below it."""
    grouped: dict[str, dict[str, Stored]] = {folder: {} for folder in _FOLDERS}
    for name, stored in container.datasets().items():
        folder, _, below = name.removeprefix("/").partition("/")
        if folder not in grouped:
            raise stored.fault(f"unknown; expected datasets in {', '.join(_FOLDERS)}")
        grouped[folder][below] = stored
    return grouped


def _by_first_part(stored: Mapping[str, Stored]) -> dict[str, dict[str, Stored]]:
    parts: dict[str, dict[str, Stored]] = {}
    for key, one in stored.items():
        first, _, below = key.partition("/")
        parts.setdefault(first, {})[below] = one
    return parts
