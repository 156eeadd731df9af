"""``elboverse choose-h``: how many latents the data need, from models with each number of them."""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
from rich.console import Console

from elboverse.analysis.making import analysed
from elboverse.cli.advice import AdvisedCommand
from elboverse.cli.figures import check_figure, write_figure
from elboverse.cli.tables import print_result
from elboverse.components.registry import discover
from elboverse.config import anchored, apply_override, from_table, read_table
from elboverse.config.own_data import is_data_file, table_of_data_file
from elboverse.errors import ConfigError
from elboverse.runfile import Run
from elboverse.running.sweep import train_sweep

if TYPE_CHECKING:
    from elboverse.contracts import Data

__all__ = ["choose_h"]

MOST_BY_DEFAULT: Final = 12
LINEAR: Final = "linear-vae"
ALIKE: Final = 10.0
"""Between the standard deviations of two dimensions, up to which they are taken for quantities of one kind."""

GROSS: Final = 30.0
"""Robust standard deviations from the median of its dimension from which on a value makes its row a gross outlier."""


@click.command(cls=AdvisedCommand)
@click.argument("source", metavar="DATA|CONFIG")
@click.option(
    "--range",
    "span",
    metavar="FIRST..LAST",
    help=f"Numbers of latents to try; by default from 1 to one less than the dimensions, {MOST_BY_DEFAULT} at most.",
)
@click.option("--seeds", type=click.IntRange(1, 100), help="Models of each number; by default 1 if linear, 3 if not.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one value; repeatable.")
@click.option("--jobs", type=click.IntRange(1), help="Models that are trained at the same time, each in a process.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs; runs/<name>-<time> if not given.")
@click.option("--figure", type=click.Path(path_type=Path), metavar="FILE.pdf|png|svg", help="Also draw a figure.")
@click.option("--overwrite", is_flag=True, help="Replace what is in the folder already.")
def choose_h(
    source: str,
    span: str | None,
    seeds: int | None,
    overrides: tuple[str, ...],
    jobs: int | None,
    out: Path | None,
    figure: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Train models with each number of latents on DATA, or as CONFIG says, and say how many are needed.

    All are compared on the same held-out points, in pairs; the smallest number that nothing tells from the best one is
    proposed, beside what probabilistic PCA's BIC and evidence say. Rows with a value far from all others are left out
    and named. `elboverse analyze dimension FOLDER` shows the same again.
    """
    console = Console(soft_wrap=True)
    if figure is not None:
        check_figure(figure, moving=False)
    wanted = None if span is None else _span(span)
    table = dict(read_table(source))
    if is_data_file(Path(source)):  # exact and quick for any number of points
        table = table_of_data_file(Path(source), linear=True)
    for override in overrides:
        apply_override(table, override)
    table = anchored(table, Path.cwd())
    linear = _name_of(table.get("model")) == LINEAR

    from elboverse.running.assembly import build_experiment  # torch is needed from here on
    from elboverse.running.runs import default_folder

    config = from_table(table)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of outliers, which are left out here; all else is told when models are trained
        data = build_experiment(config).data
    folder = default_folder(config) if out is None else out
    dimension = int(np.prod(data.train.shape[1:]))
    first, last = wanted or (1, max(2, min(MOST_BY_DEFAULT, dimension - 1)))
    gross = _gross_outliers(data) if _name_of(table.get("dataset")) == "array" else np.zeros(0, dtype=np.int64)
    if len(gross):
        place = data.place or (lambda row: f"row {row}")
        named = ", ".join(place(int(row)) for row in gross[:10]) + (", …" if len(gross) > 10 else "")
        console.print(
            f"Left out: {named}, {len(gross)} in all, with a value more than {GROSS:g} robust standard deviations from "
            "the median of its dimension; each could claim a latent of its own."
        )
        table["dataset"] = _without(data, gross, table["dataset"], folder)
    if is_data_file(Path(source)) and "scaling_per" not in table["dataset"] and _are_alike(data, gross):
        console.print(
            f"All dimensions spread alike, within a factor of {ALIKE:g}, so one scale is used for all of them: scaled "
            "each by itself, their noise would no longer be alike (--set dataset.scaling_per=dimension does that)."
        )
        table["dataset"] = {**table["dataset"], "scaling_per": "array"}
    seeds = seeds or (1 if linear else 3)
    table["sweep"] = {"model.latent_dim": list(range(first, last + 1))}
    table["training"] = {**table.get("training", {}), "replicas": seeds}
    console.print(
        f"Training {_name_of(table['model'])} with {first} to {last} latents"
        f"{f', {seeds} seeds each' if seeds > 1 else ''}, in {folder}"
    )
    files = train_sweep(
        table,
        out=folder,
        overwrite=overwrite,
        console=Console(quiet=True),
        announce=lambda name, _config: console.print(f"  {name}"),
        jobs=jobs,
    )
    registry = discover()
    registered = registry.find("analysis", "dimension")
    runs = tuple(Run.open(file) for file in files)
    result = analysed(registered, registered.config_class()(), runs)
    print_result(result, sys.stdout)
    if figure is not None and result.draw is not None:
        write_figure(result.draw, figure)
        console.print(f"Figure: {figure}")
    chosen = result.data["chosen"]
    console.print(f"\nSaved {len(files)} runs in {folder}. Next:")
    console.print(f"  elboverse analyze collapse {shlex.quote(str(folder / f'latent_dim={chosen}'))}")


def _name_of(selected: Any) -> str:
    return str(selected.get("name", "")) if isinstance(selected, dict) else str(selected or "")


def _span(span: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})\.\.(\d{1,6})", span.strip())
    first, last = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= first < last:
        raise ConfigError(f"--range: got {span!r}; expected a first and a larger last number, such as 1..8")
    return first, last


def _values(data: Data) -> tuple[Any, Any]:
    """Return all points in data units, shape (N + M, D), and the position of each in its file, shape (N + M,)."""
    parts = [data.scaling.undo(data.scaled(part).double()) for part in (data.train, data.held_out)]
    points = np.concatenate([np.asarray(part).reshape(len(part), -1) for part in parts])
    return points, np.arange(len(points)) if data.order is None else np.asarray(data.order)


def _gross_outliers(data: Data) -> Any:
    """Return the positions, in the file, of the rows with a value far from all others of its dimension."""
    points, positions = _values(data)
    median = np.median(points, axis=0)
    spread = 1.4826 * np.median(np.abs(points - median), axis=0)
    usable = spread > 0
    far = (np.abs(points - median)[:, usable] > GROSS * spread[usable]).any(1)
    return np.sort(positions[far])


def _are_alike(data: Data, gross: Any) -> bool:
    """Return whether the standard deviations of the dimensions that vary are within a factor of each other."""
    points, positions = _values(data)
    spread = points[~np.isin(positions, gross)].std(0)
    spread = spread[spread > 0]
    return len(spread) > 0 and bool(spread.max() <= ALIKE * spread.min())


def _without(data: Data, rows: Any, dataset: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the points without some rows beside the runs, in data units, and return the dataset that reads them."""
    points, positions = _values(data)
    kept = ~np.isin(positions, rows)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "without-outliers.npy"
    np.save(path, points[kept][np.argsort(positions[kept])])
    stays: dict[str, Any] = {
        key: dataset[key] for key in ("scaling", "scaling_per", "held_out", "seed") if key in dataset
    }
    return {"name": "array", "path": str(path.absolute()), **stays}
