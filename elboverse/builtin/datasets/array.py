"""The user's own points, from a file of any common kind. No plugin is needed for these."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from elboverse.config.structuring import in_range
from elboverse.contracts import Condition, Data, is_image
from elboverse.data import binarised, fingerprint, fit_scaling, require_finite, split_order
from elboverse.data.binarising import Binarise
from elboverse.data.conditions import split_conditions
from elboverse.data.outliers import outlier_notes
from elboverse.data.reading import RawPoints, ReadingOptions, read
from elboverse.errors import DataError
from elboverse.warning import warn

__all__ = ["ArrayOptions", "build_array", "data_of_points"]

_LARGE: Final = 1e3
"""How many standard deviations a mean may lie from zero, before float32 is too coarse for the difference."""


def _absolute(path: str | Path) -> Path:
    """Return a path from the root, so that a run finds its data from any folder; ``~`` is the home folder."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - Path.resolve would follow links


def _separators(_instance: Any, _attribute: Any, value: str | None) -> None:
    if value is not None and len(value) != 1 and value not in {"tab", "space", "\\t"}:
        raise ValueError(f"got {value!r}; expected one character, 'tab' or 'space'")


@attrs.frozen(kw_only=True)
class ArrayOptions:
    """Options of the array dataset.

    Args:
        path: the file: NumPy (``.npy``, ``.npz``), CSV and other text, packed or not, Parquet, Feather, Excel, HDF5,
            MATLAB or netCDF. The first axis counts the points; further axes are the shape of one point, such as the
            rows and columns of an image.
        key: the array's name inside an ``.npz``, MATLAB or netCDF file, its path inside an HDF5 file, or the sheet of
            an Excel file; needed if there are several.
        columns: the columns of a table that are dimensions, by name or by number from 0; or those to leave out, each
            with a ``!`` before it. By default all but index, labels and texts.
        label: the column of the labels, by name or number, which is not a dimension; an empty string for none; by
            default guessed from its name, and said.
        conditions: columns that a conditional model is given beside each point, by name or number; they are not
            dimensions. Texts become one column of 0 and 1 per level, numbers stay as they are.
        header: whether the first line of a text file holds names; ``"auto"`` judges it, and says so.
        separator: what separates the cells of a text file, a character, ``"tab"`` or ``"space"``; judged by default.
        decimal: the decimal mark of a text file, ``"."`` or ``","``; judged by default.
        missing: ``"error"`` refuses missing values, ``"drop-rows"`` leaves out the rows that lack some.
        missing_values: numbers or texts that mark a missing value, besides the usual ones.
        transpose: whether the array's axes are reversed, as where points are columns.
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        seed: fixes the split, while the run's seed varies the rest; the run's own seed by default.
        scaling: ``"min-max"`` maps the training range to [0, 1], ``"standard"`` to mean 0 and standard deviation 1,
            ``"none"`` leaves the values as they are.
        binarise: ``"static"`` makes grey values, bytes or numbers in [0, 1], 0 or 1 once for all, 1 with the grey value
            as probability; ``"per-epoch"`` draws training points anew each time that they are seen. There is then no
            scaling.
        scaling_per: ``"dimension"`` scales each dimension by itself, ``"array"`` all with one scale; ``"auto"`` takes
            one for images and spectra.
    """

    path: Path = attrs.field(converter=_absolute)
    key: str | None = None
    columns: tuple[str | int, ...] | None = None
    label: str | int | None = None
    conditions: tuple[str | int, ...] = ()
    header: Literal["auto"] | bool = "auto"
    separator: str | None = attrs.field(default=None, validator=_separators)
    decimal: Literal[".", ","] | None = None
    missing: Literal["error", "drop-rows"] = "error"
    missing_values: tuple[str | float, ...] = ()
    transpose: bool = False
    held_out: float = attrs.field(default=0.5, validator=in_range(minimum=0, below=1))
    seed: int | None = attrs.field(default=None, validator=in_range(minimum=0))
    scaling: Literal["min-max", "standard", "none"] = "min-max"
    binarise: Literal["no", "static", "per-epoch"] = "no"
    scaling_per: Literal["auto", "dimension", "array"] = "auto"

    def places(self) -> tuple[Path]:
        """Return the file."""
        return (self.path,)

    def reading(self) -> ReadingOptions:
        """Return what of this concerns the reader."""
        taken = [field.name for field in attrs.fields(ReadingOptions)]
        return ReadingOptions(**{name: getattr(self, name) for name in taken})


def build_array(options: ArrayOptions, seed: int) -> Data:
    """Return the points of the user's file.

    Raises:
        DataError: it is missing, damaged, of an unknown kind, or holds anything but finite real numbers.
    """
    return data_of_points(read(options.path, options.reading()), options, seed, str(options.path))


def data_of_points(raw: RawPoints, options: Any, seed: int, what: str) -> Data:
    """Return raw points as `contracts.Data`: split and scaled, with what stands out said in warnings.

    Args:
        raw: as a reader gives them.
        options: with ``held_out``, ``seed``, ``scaling`` and ``scaling_per`` as `ArrayOptions` has them.
        seed: the run's seed, which decides the split unless the options fix it.
        what: how messages call the data.

    Raises:
        DataError: there are no points, or some are not finite.
    """
    values, shape = raw.values, raw.values.shape[1:] or (1,)
    points = torch.from_numpy(values.reshape(len(values), math.prod(shape)))
    if points.is_floating_point() or 0 in points.shape:
        _require_finite(points, raw, what)
    whole = options.scaling_per == "array" or (options.scaling_per == "auto" and (is_image(shape) or raw.is_curve))
    train_rows, held_rows = split_order(len(points), options.held_out, seed if options.seed is None else options.seed)
    if len(train_rows) < 2:
        raise DataError(
            f"{what}: got {len(points)} point{'' if len(points) == 1 else 's'}, {len(train_rows)} for training; "
            "expected at least 2 for training (dataset.held_out is the share that is kept from it)"
        )
    train, held_out = points[train_rows], points[held_rows]
    order = torch.cat((train_rows, held_rows)).numpy()
    how: Binarise = getattr(options, "binarise", "no")
    if how != "no":
        return _with_rows(binarised(train, held_out, how, shape=shape, what=what), raw, order, what)
    if points.dtype == torch.float32 and options.scaling != "none" and _is_coarse(train):
        train, held_out = train.double(), held_out.double()
    scaling = fit_scaling(options.scaling, train, whole=whole)
    notes = [str(finding) for finding in raw.findings if not finding.doubtful]
    if whole and options.scaling != "none":
        why = (
            ""
            if options.scaling_per == "array"
            else ", as the points are " + ("images" if is_image(shape) else "curves")
        )
        notes.append(f"all dimensions share one scale{why} (dataset.scaling_per settles it)")
    doubts = [str(finding) for finding in raw.findings if finding.doubtful]
    doubts += outlier_notes(train, held_out, scaling, order, raw.names, raw.place, whole=whole)
    for doubt in doubts:
        warn(f"{what}: {doubt}")
    if train.is_floating_point():
        train = scaling.apply(train)
        held_out = scaling.apply(held_out)  # one after the other, so that at most three copies are in memory at a time
        if not bool(train.isfinite().all()) or not bool(held_out.isfinite().all()):
            raise DataError(f"{what}: scaled values are too large for {train.dtype}; divide them by a common unit")
    data = Data(
        train=train,
        held_out=held_out,
        shape=shape,
        scaling=scaling,
        fingerprint=fingerprint(train, held_out),
        notes=(*notes, *doubts),
    )
    return _with_rows(data, raw, order, what)


def _with_rows(data: Data, raw: RawPoints, order: NDArray[Any], what: str) -> Data:
    """Return the data with what the file says of its rows: names, index, labels and conditions."""
    conditions: torch.Tensor | None = None
    condition_columns: tuple[Condition, ...] = ()
    digest = data.fingerprint
    if raw.conditions:
        found, condition_columns = split_conditions(raw.conditions, what)
        conditions = found[torch.from_numpy(order)]
        digest = fingerprint(data.train, data.held_out, conditions)
    return attrs.evolve(
        data,
        fingerprint=digest,
        conditions=conditions,
        condition_columns=condition_columns,
        place=raw.place,
        names=raw.names,
        order=order,
        index=raw.index[order],
        index_name=raw.index_name,
        labels=None if raw.labels is None else raw.labels[order],
        label_name=raw.label_name,
    )


def _require_finite(points: torch.Tensor, raw: RawPoints, what: str) -> None:
    require_shape = points.ndim == 2 and 0 not in points.shape
    if require_shape and not bool(torch.isfinite(points.sum(dtype=torch.float64))):
        bad = (~torch.isfinite(points)).nonzero()
        if len(bad):
            row, column = (int(place) for place in bad[0])
            named = f" ({raw.names[column]})" if raw.names else ""
            raise DataError(
                f"{what}: {raw.place(row)}, column {column + 1}{named}: got {float(points[row, column]):g}; expected "
                f"finite numbers, and {len(bad):,} of {points.numel():,} are not"
            )
    require_finite(points, what)


def _is_coarse(train: torch.Tensor) -> bool:
    wide = train.double()
    mean, deviation = wide.mean(0), wide.std(0, correction=0)
    return bool((mean.abs() > _LARGE * deviation.clamp(min=1e-300)).any()) and bool(
        np.isfinite(float(mean.abs().max()))
    )
