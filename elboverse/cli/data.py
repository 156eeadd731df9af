"""``elboverse data``: what data there is, where it is looked for, what it looks like, and what its caches take."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from elboverse.cli.figures import check_figure, write_figure
from elboverse.components.registry import Registered, Registry, Selection, discover
from elboverse.config import apply_override
from elboverse.config.own_data import is_data_file
from elboverse.config.structuring import Faults, build_converter, structure_selection
from elboverse.contracts import Fetchable, FromFiles
from elboverse.data.cache import PREPARED, cache_folder
from elboverse.errors import ConfigError, DataError, ElboverseError

if TYPE_CHECKING:
    from torch import Tensor

    from elboverse.contracts import Data, Stream

__all__ = ["availability", "data"]

_SHOWN_NAMES: Final = 20

_overrides = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set an option of the dataset; repeatable."
)
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, help="The run's seed.  [default: 0]")


@click.group()
def data() -> None:
    """List, describe, fetch and preview data, and clean its caches."""


@data.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List the datasets, what each needs, and where its files are looked for."""
    registry = discover()
    rows = [_listed(registry, registered) for _, registered in sorted(registry.components["dataset"].items())]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        click.echo(f"{row['name']:16} {row['state']:28} {row['summary']}")
        for place in row["places"] if row["state"] != "ready" else ():
            click.echo(f"{'':16} looked for: {place}")


@data.command()
@click.argument("name")
@_overrides
@_seed
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(name: str, overrides: tuple[str, ...], seed: int, *, as_json: bool) -> None:
    """Describe the dataset NAME, or a data file: size, shape, range, ground truth, what was taken for what.

    Nothing is downloaded.
    """
    described = _described(_built(_selected(name, overrides), seed))
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    notes = described.pop("notes", []) + described.pop("checks", [])
    for key, value in described.items():
        click.echo(f"{key.replace('_', ' '):28} {_shown(value)}")
    for note in notes:
        click.echo(f"– {note}")


@data.command()
@click.argument("name")
@_overrides
def fetch(name: str, overrides: tuple[str, ...]) -> None:
    """Download the files of the dataset NAME into the user's cache, unless they are there."""
    selection = _selected(name, overrides)
    if isinstance(selection.options, Fetchable):
        click.echo(selection.options.fetch())
    elif isinstance(selection.options, FromFiles):
        raise DataError(f"{selection.name}: it reads files of your own; there is nothing to fetch")
    else:
        raise DataError(f"{selection.name}: it is generated; there is nothing to fetch")


@data.command()
@click.argument("name")
@click.option(
    "--figure",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.pdf|png|svg",
    help="Draw into this file; an existing file is replaced.",
)
@_overrides
@_seed
def preview(name: str, figure: Path, overrides: tuple[str, ...], seed: int) -> None:
    """Draw the dataset NAME: points in the plane or in space, a grid of images, or histograms."""
    check_figure(figure)
    selection = _selected(name, overrides)
    built = _built(selection, seed)

    from elboverse.cli.preview import draw_preview  # matplotlib and torch

    title = f"{selection.name}: the first of {len(built.train):,} training points, in data units"
    write_figure(lambda: draw_preview(built, title), figure)
    click.echo(f"Figure: {figure}")


@data.command()
@click.argument("name", required=False)
@click.option("--downloads", is_flag=True, help="Also delete what was downloaded or put there.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def clean(name: str | None, *, downloads: bool, yes: bool) -> None:
    """Delete what was prepared from files, of all datasets or of NAME alone, and say what that frees.

    What is prepared is made again when it is needed. What was downloaded stays, unless --downloads is given.
    """
    root = cache_folder()
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if name is not None:
        known = [folder.name for folder in folders]
        if name not in known:
            raise DataError(f"{name}: nothing of it in {root}; there is {', '.join(known) or 'nothing at all'}")
        folders = [root / name]
    found = [folder if downloads else folder / PREPARED for folder in folders]
    sizes = {folder: size for folder in found if (size := _size(folder))}
    for folder, size in sizes.items():
        click.echo(f"{_megabytes(size):>12}  {folder}")
    if not sizes:
        click.echo(f"Nothing to delete in {root}.")
        return
    if not yes:
        click.confirm(f"Delete these files and free {_megabytes(sum(sizes.values()))}?", abort=True)
    for folder in sizes:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be deleted: {error.strerror or error}") from error
    click.echo(f"Freed {_megabytes(sum(sizes.values()))}.")


def _listed(registry: Registry, registered: Registered) -> dict[str, Any]:
    """Return name, plugin, summary, state and places of a dataset."""
    row: dict[str, Any] = {
        "name": registered.name,
        "plugin": registered.plugin.name,
        "summary": registered.component.summary,
        "places": [],
    }
    try:
        fields = attrs.fields(registered.config_class())
        needed = [
            field.alias or field.name
            for field in fields
            if field.init and field.default is attrs.NOTHING and field.metadata.get("elboverse.default") is None
        ]
        if needed:
            return row | {"state": f"needs {', '.join(f'dataset.{key}' for key in needed)}"}
        state, places = availability(_select(registry, {"name": registered.name}).options)
    except ElboverseError as error:
        return row | {"state": f"broken: {str(error).partition(chr(10))[0]}"}
    return row | {"state": state, "places": list(map(str, places))}


def availability(options: Any) -> tuple[str, list[Path]]:
    """Return whether the data of a dataset with these options are here, in words, and where they are looked for."""
    places = [Path(place) for place in options.places()] if isinstance(options, FromFiles) else []
    if not places or any(place.exists() for place in places):
        return "ready", places
    return "not here; see data fetch" if isinstance(options, Fetchable) else "not here", places


def _selected(name: str, overrides: Iterable[str]) -> Selection:
    """Return a dataset with the options that were set, by its name.

    Raises:
        UnknownNameError: there is none of that name.
        ConfigError: with every fault of its options.
    """
    registry = discover()
    table: dict[str, Any] = {"name": name}
    if is_data_file(Path(name)) or Path(name).is_file():
        table = {"name": "array", "path": name}
    else:
        registry.find("dataset", name)
    for text in overrides:
        apply_override(table, text.removeprefix("dataset."))  # as messages and configs call it
    return _select(registry, table)


def _select(registry: Registry, table: dict[str, Any]) -> Selection:
    try:
        return structure_selection(build_converter(registry), registry, "dataset", table)
    except Faults as faults:
        raise ConfigError(faults.below("dataset")) from None


def _built(selection: Selection, seed: int) -> Data:
    """Return the data, without downloading any."""
    from elboverse.components.conformance import require_data  # torch

    options = selection.options
    if "download" in attrs.fields_dict(type(options)):
        options = attrs.evolve(options, download=False)
    return require_data(selection.registered.build(options, seed), f"dataset {selection.name!r}")


def _described(built: Data) -> dict[str, Any]:
    low, high = (getattr(built.train, bound)(0) for bound in ("amin", "amax"))
    size = sum(part.numel() * part.element_size() for part in (built.train, built.held_out))
    return {
        "train_points": len(built.train),
        "held_out_points": len(built.held_out),
        "shape": list(built.shape),
        "dimensions": built.dimension,
        "names": list(built.names),
        "unit": built.unit,
        "label": built.label_name,
        "labels": [] if built.labels is None else sorted({str(label) for label in built.labels})[:_SHOWN_NAMES],
        "index": built.index_name,
        "conditions": list(built.condition_names),
        "range": list(built.value_range()),
        "range_as_trained": [float(built.scaled(low).min()), float(built.scaled(high).max())],
        "range_held_out_as_trained": _scaled_range(built, built.held_out),
        "scaling": built.scaling.kind,
        "scaled_by": "one scale"
        if bool((built.scaling.scale == built.scaling.scale[0]).all())
        else "one per dimension",
        "stored_as": str(built.train.dtype).removeprefix("torch."),
        "megabytes": round(size / 1e6, 1),
        "augmented": built.augment is not None,
        "train_log_likelihood": built.train_log_likelihood,
        "held_out_log_likelihood": built.held_out_log_likelihood,
        "fingerprint": built.fingerprint,
        **({} if built.stream is None else _described_stream(built.stream)),
        **({"notes": list(built.notes)} if built.notes else {}),
        **({"checks": checks} if (checks := _checks(built)) else {}),
    }


def _checks(built: Data) -> list[str]:
    """Return what the values mean for a likelihood, and which one would fit."""
    from elboverse.data.check import findings  # torch, as above

    return [finding.text for finding in findings(built)]


def _scaled_range(built: Data, points: Tensor) -> list[float]:
    if not len(points):
        return []
    low, high = (built.scaled(getattr(points, bound)(0)) for bound in ("amin", "amax"))
    return [float(low.min()), float(high.max())]


def _described_stream(stream: Stream) -> dict[str, Any]:
    return {
        "points_per_pass": stream.points_per_pass,
        "regimes": [f"{regime.name} from point {regime.first_point:,}" for regime in stream.regimes],
    }


def _shown(value: Any) -> str:
    if value is None or value in ([], ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list):
        more = f" and {len(value) - _SHOWN_NAMES} more" if len(value) > _SHOWN_NAMES else ""
        joint = " … " if len(value) == 2 and all(isinstance(item, float) for item in value) else ", "
        return joint.join(map(_shown, value[:_SHOWN_NAMES])) + more
    return str(value)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{math.ceil(size / 1e3):,} kB"
