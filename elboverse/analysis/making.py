"""How an analysis is made of runs, and its numbers as JSON values: the same for every command that shows some."""

from __future__ import annotations

import contextlib
import json
import math
import numbers as numbers_
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from elboverse.components.discovery import listed
from elboverse.components.local import LocalPlugin
from elboverse.components.registry import Registered, Registry, discover
from elboverse.config import build_converter, structure
from elboverse.contracts import Result, Table
from elboverse.errors import AnalysisError, ElboverseError, PluginError, out_of_memory
from elboverse.runfile import Run, located

__all__ = ["analysed", "analyze", "numbers", "owner", "takes_several"]


def analyze(
    runs: Run | str | Path | Sequence[Run | str | Path],
    name: str,
    *,
    plugins: Iterable[LocalPlugin] = (),
    registry: Registry | None = None,
    **options: Any,
) -> Result:
    """Return what an analysis says of a run, or of several: what `elboverse analyze NAME RUN` prints, as an object.

    In a notebook the result shows its tables; `result.figure()` draws, and `result.to_pandas()` is the first table.

    Args:
        runs: a run, its file or folder; a sequence of them for an analysis that takes several.
        name: of the analysis, such as ``"collapse"``.
        plugins: plugins without packaging: files, modules, or `Component` records that name their kind.
        registry: the components; those of all installed plugins by default.
        options: of the analysis; those of ``elboverse analyze NAME --help``, with ``_`` for ``-``.

    Raises:
        AnalysisError: the runs lack what it needs.
        ConfigError: an option is unknown or has a value that is not allowed.
        RunFileError: a run file cannot be read.
        UnknownNameError: no such analysis exists.

    Example:
        >>> import elboverse
        >>> config = {"dataset": {"name": "circle", "points": 200}, "training": {"epochs": 2, "batch_size": 50}}
        >>> run = elboverse.train(config, out="runs/analysed")
        >>> elboverse.analyze(run, "collapse", threshold=0.9).columns[:2]
        ('latent', 'encoder entropy')
    """
    registry = (discover() if registry is None else registry).joined(plugins)
    registered = registry.find("analysis", name)
    given = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    if not given or (len(given) > 1 and not takes_several(registered)):
        raise AnalysisError(
            f"analysis {name!r}: got {len(given)} runs; expected {'one or more' if not given else 'one'}"
        )
    structured = structure(build_converter(registry), options, registered.config_class())
    # Nobody closes them: a figure reads on when it is drawn, and a run's file goes with the last who has the run.
    opened = tuple(one if isinstance(one, Run) else Run.open(located(Path(one))) for one in given)
    return analysed(registered, structured, opened)


MOST_FRAMES: Final = 6


def analysed(registered: Registered, options: Any, runs: tuple[Run, ...]) -> Result:
    """Return what an analysis says of runs; one that takes a single run is given the first.

    Raises:
        AnalysisError: the runs lack what it needs.
        PluginError: it fails, or returns something else than a result with tables that can be shown. A function of
            the result that draws raises the same where it fails.
    """
    with _blaming(registered):
        result = registered.build(options, runs if takes_several(registered) else runs[0])
    if not isinstance(result, Result):
        raise PluginError(f"{owner(registered)}: build must return a contracts.Result, not {result!r}")
    _require_tables(registered, result)
    draw, animate = result.draw, result.animate
    return attrs.evolve(
        result,
        draw=None if draw is None else _guarded(registered, draw),
        animate=None if animate is None else _guarded_animation(registered, animate),
    )


@contextmanager
def _blaming(registered: Registered) -> Iterator[None]:
    """Turn what an analysis raises into an error that names it, and send what it prints to the error stream."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ElboverseError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        if short := out_of_memory(error):
            raise short from error
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        trace = listed(frame for frame in frames[-MOST_FRAMES:] if "components/registry" not in frame.filename)
        raise PluginError(f"{owner(registered)} failed: {type(error).__name__}: {error}\n{trace}".rstrip()) from error


def _guarded(registered: Registered, draw: Callable[[], Any]) -> Callable[[], Any]:
    def drawn() -> Any:
        from matplotlib import rc_context  # kept out of start-up, as is all of matplotlib
        from matplotlib.figure import Figure

        with _blaming(registered), rc_context():
            figure = draw()
        if not isinstance(figure, Figure):
            raise PluginError(
                f"{owner(registered)}: draw() returns a {type(figure).__name__}; expected a matplotlib.figure.Figure"
            )
        return figure

    return drawn


def _guarded_animation(registered: Registered, animate: Callable[[], Any]) -> Callable[[], Any]:
    def animated() -> Any:
        with _blaming(registered):
            return animate()

    return animated


def _require_tables(registered: Registered, result: Result) -> None:
    """Check that the tables are tables, before anything is printed of them."""
    who = owner(registered)
    for table in (result, *result.further):
        if not isinstance(table, Result | Table):
            raise PluginError(f"{who}: further holds a {type(table).__name__}; expected a contracts.Table")
        if not isinstance(table.title, str):
            raise PluginError(f"{who}: a title is {table.title!r}; expected a line of text")
        if isinstance(table.columns, str) or not all(isinstance(name, str) for name in table.columns):
            raise PluginError(f"{who}: the columns of {table.title!r} are {table.columns!r}; expected a list of names")
        for number, row in enumerate(table.rows):
            if isinstance(row, str) or not isinstance(row, Sequence) or len(row) != len(table.columns):
                raise PluginError(
                    f"{who}: row {number} of {table.title!r} is {row!r}; expected {len(table.columns)} cells, one "
                    "for each column"
                )
            for cell in row:
                if not (cell is None or isinstance(cell, str | numbers_.Real)):
                    raise PluginError(
                        f"{who}: row {number} of {table.title!r} holds {cell!r} ({type(cell).__name__}); expected "
                        "text, a number, a boolean or None"
                    )
    if isinstance(result.notes, str) or not all(isinstance(note, str) for note in result.notes):
        raise PluginError(f"{who}: notes are {result.notes!r}; expected a list of sentences")
    if not isinstance(result.data, Mapping):
        raise PluginError(f"{who}: data is a {type(result.data).__name__}; expected a dict")


def takes_several(registered: Registered) -> bool:
    """Return whether an analysis takes several runs at once."""
    return bool(getattr(registered.config_class(), "several_runs", False))


def owner(registered: Registered) -> str:
    """Return whose an analysis is, for messages."""
    return f"analysis {registered.name!r} of plugin {registered.plugin}"


def numbers(registered: Registered, result: Result) -> dict[str, Any]:
    """Return the data of a result as JSON values; what is not finite becomes None.

    Raises:
        PluginError: they are no JSON values.
    """
    found = _finite(result.data)
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner(registered)}: its data is not JSON: {error}") from error
    return dict(found)


def _finite(value: Any) -> Any:
    """Return JSON values with every number that is not finite replaced by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
