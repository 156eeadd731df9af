"""The frames of an animation: what latent space and data space looked like at moments of the training.

    /frames/step              number of updates before each frame (F,), strictly increasing
    /frames/data              the points shown in data space, in data units (R, Q, D)
    /frames/latent_mean       of M points, of which the first Q are those of `data` (F, R, M, H)
    /frames/latent_variance   likewise
    /frames/reconstruction    of the first Q points, in data units (F, R, Q, D)
    /frames/sample_mean       of Q samples from the prior, always the same latents, in data units (F, R, Q, D)

All but the steps are float32. A run that was told to record none has no such group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from elboverse.errors import RunFileError
from elboverse.runfile import schema
from elboverse.runfile.hdf5 import Stored
from elboverse.runfile.history import Column

__all__ = ["SERIES", "FrameHistory", "Frames"]

Values = NDArray[Any]

SERIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "latent_mean": (schema.RATIO, ("step", "replica", "point", "latent")),
    "latent_variance": (schema.RATIO, ("step", "replica", "point", "latent")),
    "reconstruction": (schema.DATA_UNIT, ("step", "replica", "shown", "dimension")),
    "sample_mean": (schema.DATA_UNIT, ("step", "replica", "shown", "dimension")),
}
"""The series of every run that has frames: unit and axes."""

DATA: Final = (schema.DATA_UNIT, ("replica", "shown", "dimension"))
"""Unit and axes of the points that are shown."""


class FrameHistory:
    """The frames of a run so far, kept in memory.

    Args:
        replicas: R.
        latent_dim: H.
    """

    def __init__(self, replicas: int, latent_dim: int) -> None:
        self._replicas = replicas
        self._latent_dim = latent_dim
        self.step = Column((), "int64")
        self.data: Values = np.empty((replicas, 0, 0), schema.little_endian("float32"))
        self.series: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self.step.values)

    def append(self, step: Values, data: Values, series: Mapping[str, Values]) -> None:
        """Add frames; all of them or, where anything is wrong, none.

        Args:
            step: strictly increasing and above the last one, shape (f,).
            data: shape (R, Q, D), the same each time.
            series: the values of `SERIES` by name, (f, R, M, H) or (f, R, Q, D).

        Raises:
            RunFileError: a series is missing or unknown, or a shape or a step is wrong.
        """
        last = self.step.values[-1] if len(self) else -1
        if not bool(np.all(np.diff(step, prepend=last) > 0)):
            raise RunFileError(f"frames/step: steps must increase from above {last}, given {step[:5]} …")
        shapes = {"step": np.shape(step), "data": data.shape} | {name: np.shape(part) for name, part in series.items()}
        _check(
            shapes, self._replicas, self._latent_dim, lambda name, message: RunFileError(f"frames/{name}: {message}")
        )
        if not self.series:
            self.series = {name: Column(shapes[name][1:], "float32") for name in series}
            self.data = np.asarray(data, schema.little_endian("float32"))
        elif any(shapes[name][1:] != column.values.shape[1:] for name, column in self.series.items()):
            raise RunFileError("frames: other shapes given than before; expected the same points in every frame")
        self.step.append(step)
        for name, values in series.items():
            self.series[name].append(values)

    def truncate(self, step: int) -> None:
        """Drop the frames after more than `step` updates."""
        rows = int(np.searchsorted(self.step.values, step, side="right"))
        for column in (self.step, *self.series.values()):
            column.truncate(rows)


@attrs.frozen(eq=False)
class Frames:
    """The frames of a run file, read when they are asked for.

    Args:
        step: number of updates before each, shape (F,).
        stored: data and series by name.
    """

    step: Values
    stored: Mapping[str, Stored]

    @classmethod
    def of(cls, stored: Mapping[str, Stored], step: Values, replicas: int, latent_dim: int) -> Self:
        """Return the frames of a file, their names, types and shapes checked.

        Args:
            stored: what is in their folder, the steps included.
            step: the steps, read.
            replicas: R.
            latent_dim: H.

        Raises:
            RunFileError: something is missing, unknown, or of a wrong type or shape.
        """
        anything = stored["step"]

        def fault(name: str, message: str) -> RunFileError:
            return RunFileError(f"{anything.path}: /frames/{name}: {message}")

        _check({name: one.shape for name, one in stored.items()}, replicas, latent_dim, fault)
        for name, one in stored.items():
            if name != "step" and one.dtype != "float32":
                raise fault(name, f"got {one.dtype}; expected float32")
        if bool(np.any(np.diff(step) <= 0)):
            raise fault("step", "the steps do not increase strictly")
        return cls(step, {name: one for name, one in stored.items() if name != "step"})

    def data(self, replica: int) -> Values:
        """Return the points that are shown in data space, in data units, shape (Q, D).

        Raises:
            RunFileError: they cannot be read, or are not finite, as the points of a dataset are.
        """
        points = self.stored["data"].read(replica)
        if not np.isfinite(points).all():
            raise self.stored["data"].fault("got infinity or NaN; expected finite numbers")
        return points

    def read(self, name: str, replica: int) -> Values:
        """Return a series of one replica: (F, M, H) in latent space, (F, Q, D) in data units.

        Not all need be finite: a training that diverges ends so.

        Args:
            name: one of `SERIES`.
            replica: 0 … R − 1.

        Raises:
            RunFileError: the values cannot be read, or a variance is negative.
        """
        values = self.stored[name].read((slice(None), replica))
        if name == "latent_variance" and bool((values < 0).any()):
            raise self.stored[name].fault(f"got {values[values < 0][0]:g}; expected variances of 0 or more")
        return values


def _check(
    shapes: Mapping[str, tuple[int, ...]], replicas: int, latent_dim: int, fault: Callable[[str, str], RunFileError]
) -> None:
    """Check that all is there, nothing else is, and the shapes fit each other."""
    known = ("step", "data", *SERIES)
    for name in known:
        if name not in shapes:
            raise fault(name, "missing")
    for name in shapes:
        if name not in known:
            raise fault(name, f"unknown; expected {', '.join(known)}")
    count = shapes["step"][0] if len(shapes["step"]) == 1 else -1
    points = shapes["latent_mean"][2] if len(shapes["latent_mean"]) == 4 else -1
    shown, dimension = shapes["data"][1:] if len(shapes["data"]) == 3 else (-1, -1)
    latents, decoded = (count, replicas, points, latent_dim), (count, replicas, shown, dimension)
    allowed = {"step": (count,), "data": (replicas, shown, dimension)} | {
        name: latents if axes[-1] == "latent" else decoded for name, (_, axes) in SERIES.items()
    }
    for name, shape in shapes.items():
        if shape != allowed[name] or min(shape) < 1:
            raise fault(
                name,
                f"got shape {shape}; expected (F,) steps, (R, Q, D) data, (F, R, M, H) latents and (F, R, Q, D) "
                f"points with R = {replicas} and H = {latent_dim}",
            )
    if shown > points:
        raise fault("data", f"got {shown} points; expected at most the {points} of latent_mean")
