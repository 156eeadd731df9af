"""What `encode`, `reconstruct`, `sample` and `score` have in common: their options, the model, the points, the file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
import numpy as np
import numpy.typing as npt

from elboverse.cli.table_files import check_table_file, write_table
from elboverse.errors import AnalysisError
from elboverse.runfile import Run

if TYPE_CHECKING:
    from elboverse.analysis.trained import TrainedModel
    from elboverse.data.points import Points

__all__ = ["Rows", "finish", "opened", "points_of_file", "result_options"]

Array = npt.NDArray[Any]

_ROWS_AT_ONCE: Final = 4096


def result_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all of these commands have."""
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
        click.option("--overwrite", is_flag=True, help="Replace the file if it is there already."),
        click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, …"),
        click.option(
            "--replica",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Number of the replica whose model is used, counted from 0.",
        ),
        click.option(
            "-o",
            "--out",
            type=click.Path(path_type=Path),
            required=True,
            metavar="FILE.csv|.parquet|.npz|.npy",
            help="The file to write.",
        ),
    ):
        command = option(command)
    return command


@attrs.frozen(eq=False)
class Rows:
    """Points and the columns that go before the results in the table.

    Args:
        points: in data units.
        leading: such as the row's number and its split.
    """

    points: Points
    leading: Mapping[str, Array]

    def blocks(self, quiet: bool, label: str) -> Iterator[Points]:
        """Yield the points in blocks, with a progress bar where there are many and somebody is watching."""
        starts = range(0, len(self.points), _ROWS_AT_ONCE)
        shown = len(starts) > 1 and not quiet and sys.stderr.isatty()
        with click.progressbar(starts, label=label, file=sys.stderr, hidden=not shown) as bar:
            for first in bar:
                some = slice(first, first + _ROWS_AT_ONCE)
                beside = self.points.conditions
                yield attrs.evolve(
                    self.points,
                    values=self.points.values[some],
                    conditions=None if beside is None else beside[some],
                    index=None,
                    container="array",
                )


def opened(run: Path, out: Path, replica: int, device: str, data: Path | None, *, overwrite: bool) -> TrainedModel:
    """Return the trained model, after a check that its results can be written.

    Args:
        run: the run's folder or run.h5.
        out: the file to write.
        replica: which replica.
        device: where to compute.
        data: where the data that it was trained on are now; None for where the config says.
        overwrite: whether the file may be replaced.
    """
    check_table_file(out, overwrite=overwrite)
    from elboverse.analysis.trained import TrainedModel
    from elboverse.running.environment import resolve_device  # torch is needed from here on

    with Run.open(run) as found:
        return TrainedModel.of(found, replica, data=data, device=str(resolve_device(device)))


def points_of_file(model: TrainedModel, path: Path | None) -> Rows:
    """Return the points of a file that the model is to be used on, or the run's own in their original order.

    Raises:
        DataError: the file cannot be read or does not fit the model.
        AnalysisError: the run's own data cannot be read.
    """
    if path is None:
        points = model.own_points()
        leading = {"row": np.arange(len(points)), "split": model.own_splits()}
        data = model.data
        for name, values in ((data.index_name or "index", data.index), (data.label_name or "label", data.labels)):
            if values is not None and data.order is not None and len(values) == len(points):
                placed = np.asarray(values)[np.argsort(data.order, kind="stable")]
                if [str(value) for value in placed] != [str(row) for row in leading["row"]]:  # else it is said already
                    leading[name] = placed
        return Rows(points, leading)
    from elboverse.analysis.new_points import read_points  # torch is needed from here on

    points, leading = read_points(model, path)
    return Rows(points, {"row": np.arange(len(points)), **leading})


def finish(out: Path, rows: Rows | None, columns: Mapping[str, Array], what: str, *, quiet: bool) -> None:
    """Write the table and say so.

    Args:
        out: the file.
        rows: of which points; None for samples.
        columns: of the results.
        what: what they are, in words.
        quiet: whether to say nothing.
    """
    leading = {} if rows is None else rows.leading
    clash = sorted(set(leading) & set(columns))
    leading = {(f"{name}_" if name in clash else name): values for name, values in leading.items()}
    count = len(next(iter(columns.values()), ()))
    if count == 0:
        raise AnalysisError(f"{what}: there are no rows to write")
    write_table(out, {**leading, **columns})
    if not quiet:
        click.echo(f"Wrote {what} of {count:,} {'row' if count == 1 else 'rows'} into {out}", err=True)
