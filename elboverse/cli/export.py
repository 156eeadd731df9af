"""``elboverse export``: the numbers of a run for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
import numpy.typing as npt

from elboverse.components.registry import discover
from elboverse.contracts import RunDescription
from elboverse.errors import AnalysisError
from elboverse.files import replaced
from elboverse.runfile import Run

if TYPE_CHECKING:
    from elboverse.contracts.records import Record

__all__ = ["export"]

Array = npt.NDArray[Any]

_FORMATS: Final = ("csv", "parquet", "npz", "tensorboard", "torch-export")
_DERIVED: Final = ("entropy_sum", "gap")
"""What is exported beside the stored series, since almost everybody asks for it."""

_ROWS_AT_ONCE: Final = 10_000


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="csv",
    show_default=True,
    help="Tables as CSV or Parquet, arrays as one NumPy archive, event files for TensorBoard, or encoder and decoder "
    "as programs of torch.export.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder, or file for npz; beside the run file, named after it and the format, if not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
def export(run: Path, form: str, out: Path | None, *, overwrite: bool) -> None:
    """Write the trajectories, evaluations and documents of RUN.h5, or of the run in a folder, in another format.

    CSV and Parquet: one table for the trajectory and one per evaluated split, a row per step and replica; series of
    a latent are named like kl_0. NumPy: arrays with their axes as in the run file, named like trajectory.kl.
    TensorBoard: a folder per replica. torch-export: encoder.pt2 and decoder.pt2, which take and give points in data
    units and need no elboverse. Names and units are those of the run file, documents are JSON.
    """
    with Run.open(run) as opened:
        if out is None:
            out = opened.path.with_name(f"{opened.path.stem}.npz" if form == "npz" else f"{opened.path.stem}-{form}")
        writers: dict[str, Callable[[Run, Path, bool], Sequence[Path]]] = {
            "csv": _write_csv,
            "parquet": _write_parquet,
            "npz": _write_npz,
            "tensorboard": _write_tensorboard,
            "torch-export": _write_programs,
        }
        try:
            written = writers[form](opened, out, overwrite)
        except OSError as error:
            raise AnalysisError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    for path in written:
        click.echo(path)


def _splits(run: Run) -> list[str]:
    return ["trajectory", *run.splits]


def _series(run: Run, table: str) -> dict[str, Array]:
    """Return the series of the trajectory or of an evaluated split, (T, R) or (T, R, H)."""
    if table == "trajectory":
        return {name: run.series(name) for name in (*run.stored, *_DERIVED)}
    names = dict.fromkeys((*run.evaluation_names(table, stored=True), *_DERIVED))
    return {name: run.evaluation(table, name) for name in names}


def _index(run: Run, table: str) -> dict[str, Array]:
    """Return what the rows are of: the steps, and for evaluations the epochs, (T,)."""
    if table == "trajectory":
        return {"step": run.steps}
    return {"step": run.evaluation_steps(table), "epoch": run.evaluation_epochs(table)}


def _blocks(run: Run, table: str) -> Iterator[dict[str, Array]]:
    """Yield a table in blocks of rows, column name → values; at least one block, which may have no rows."""
    index, series = _index(run, table), _series(run, table)
    rows = len(index["step"])
    for replica in range(run.replicas):
        for start in range(0, max(1, rows), _ROWS_AT_ONCE):
            block = slice(start, min(rows, start + _ROWS_AT_ONCE))
            columns = {name: values[block] for name, values in index.items()}
            columns["replica"] = np.full(len(columns["step"]), replica)
            for name, values in series.items():
                found = values[block, replica]
                if found.ndim == 1:
                    columns[name] = found
                else:
                    columns |= {f"{name}_{h}": found[:, h] for h in range(found.shape[1])}
            yield columns


def _put(path: Path, write: Callable[[Path], None], *, overwrite: bool) -> Path:
    """Have a file written beside its place and put it there when it is complete.

    Raises:
        AnalysisError: it is there already, and is not to be replaced.
    """
    if path.exists() and not overwrite:
        raise AnalysisError(f"{path}: already exists; give --overwrite to replace it, or another place with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        write(temporary)
    return path


def _documents(run: Run) -> bytes:
    return json.dumps(run.documents, indent=2, ensure_ascii=False).encode()


def _write_tables(run: Run, out: Path, overwrite: bool, suffix: str, write: Callable[..., None]) -> list[Path]:
    def write_documents(path: Path) -> None:
        path.write_bytes(_documents(run))

    written = [
        _put(out / f"{table}{suffix}", lambda path, table=table: write(run, table, path), overwrite=overwrite)  # type: ignore[misc]
        for table in _splits(run)
    ]
    return [*written, _put(out / "documents.json", write_documents, overwrite=overwrite)]


def _write_csv(run: Run, out: Path, overwrite: bool) -> list[Path]:
    def write(run: Run, table: str, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            for number, columns in enumerate(_blocks(run, table)):
                if number == 0:
                    rows.writerow(columns)
                # As text, a number is as short as it can be to be read back as the same.
                rows.writerows(zip(*(values.astype(str) for values in columns.values()), strict=True))

    return _write_tables(run, out, overwrite, ".csv", write)


def _write_parquet(run: Run, out: Path, overwrite: bool) -> list[Path]:
    try:
        import pyarrow as pa  # optional
        from pyarrow import parquet
    except ImportError as error:
        raise AnalysisError(
            "--format parquet: needs pyarrow, which is not installed; pip install 'elboverse[parquet]'"
        ) from error

    def write(run: Run, table: str, path: Path) -> None:
        blocks = (pa.table(columns) for columns in _blocks(run, table))
        first = next(blocks)
        with parquet.ParquetWriter(path, first.schema) as writer:
            writer.write_table(first)
            for block in blocks:
                writer.write_table(block)

    return _write_tables(run, out, overwrite, ".parquet", write)


def _write_npz(run: Run, out: Path, overwrite: bool) -> list[Path]:
    arrays: dict[str, Array] = {"documents": np.frombuffer(_documents(run), np.uint8)}
    for table in _splits(run):
        arrays |= {f"{table}.{name}": values for name, values in (_index(run, table) | _series(run, table)).items()}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    return [_put(out, write, overwrite=overwrite)]


def _write_programs(run: Run, out: Path, overwrite: bool) -> Sequence[Path]:
    from elboverse.analysis.exporting import export_programs  # torch, which only this format needs

    if not overwrite and out.is_dir() and any(out.glob("*.pt2")):
        raise AnalysisError(f"{out}: already holds programs; give --overwrite to replace them, or another --out")
    return export_programs(run.model(), out)


def _write_tensorboard(run: Run, out: Path, overwrite: bool) -> list[Path]:
    registered = discover({"ELBOVERSE_LOAD_PLUGINS": ""}).find("sink", "tensorboard")
    options = registered.config_class()(folder=".")
    if not overwrite and out.is_dir() and any(out.rglob("events.out.tfevents.*")):
        raise AnalysisError(f"{out}: holds event files already; give --overwrite to replace them, or another --out")
    series = _series(run, "trajectory")
    evaluations = {split: _series(run, split) for split in run.splits}
    total_steps = int(run.steps[-1]) + 1 if len(run.steps) else 1
    folders = []
    for replica in range(run.replicas):
        folder = out / f"replica-{replica}" if run.replicas > 1 else out
        folder.mkdir(parents=True, exist_ok=True)
        sink = registered.build(options)
        sink.begin(
            RunDescription(
                folder=folder,
                name=str(run.config.get("name", "")),
                config=run.config,
                components=tuple(run.components),
                data=run.data,
                environment=run.environment,
                total_steps=total_steps,
                latent_dim=run.latent_dim,
                replicas=1,
            )
        )
        for record in _records(run, series, evaluations, replica):
            sink.receive(record)
        sink.end("finished")
        folders.append(folder)
    return folders


def _records(
    run: Run, series: Mapping[str, Array], evaluations: Mapping[str, Mapping[str, Array]], replica: int
) -> Iterator[Record]:
    """Yield what training yielded of a replica: its rows and evaluations."""
    from elboverse.contracts.records import Evaluation, Rows  # as above

    scalars, per_latent = _parted(series, np.s_[:, replica : replica + 1])
    yield Rows(run.steps, scalars, per_latent)
    for split, values in evaluations.items():
        steps, epochs = run.evaluation_steps(split), run.evaluation_epochs(split)
        for index, (step, epoch) in enumerate(zip(steps, epochs, strict=True)):
            parts = _parted(values, np.s_[index, replica : replica + 1])
            yield Evaluation(split, int(step), int(epoch), run.evaluation_points(split), *parts)


def _parted(series: Mapping[str, Array], selection: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the scalars (T, R) and the series of latents (T, R, H) of a selection."""
    return (
        {name: values[selection] for name, values in series.items() if values.ndim == 2},
        {name: values[selection] for name, values in series.items() if values.ndim == 3},
    )
