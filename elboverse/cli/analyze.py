"""``elboverse analyze``: one command per analysis that a plugin offers, with the fields of its config as options."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from elboverse.cli.options import options_of, structured
from elboverse.cli.tables import print_result
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, PluginError
from elboverse.registry import Registered, Registry, discover
from elboverse.runfile import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["analyze"]

_SUFFIXES: Final = (".pdf", ".png", ".svg")
_OWN: Final = ("as_json", "figure", "help", "json", "run")
"""What no analysis may call an option of its own: the parameters that every command has."""


class AnalysisGroup(click.Group):
    """A group whose commands are the analyses that can be found when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the analyses."""
        return discover().names("analysis")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command of an analysis; it is imported now, and no other is.

        Raises:
            UnknownNameError: there is no such analysis.
            PluginError: it cannot be imported, or its options cannot be given on a command line.
        """
        registry = discover()
        return _command(registry, registry.find("analysis", cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of analyses without importing them."""
        found = discover().components["analysis"].values()
        with formatter.section("Analyses"):
            formatter.write_dl(sorted((registered.name, registered.component.summary) for registered in found))


@click.group(cls=AnalysisGroup, subcommand_metavar="ANALYSIS RUN.h5 [OPTIONS]")
def analyze() -> None:
    """Analyse a finished or running run from its run.h5: a table, a figure, JSON."""


def _command(registry: Registry, registered: Registered) -> click.Command:
    config = registered.config_class()
    owner = f"analysis {registered.name!r} of plugin {registered.plugin}"
    own = options_of(config, owner)
    clashes = sorted({str(option.name) for option in own} & set(_OWN))
    if clashes:
        raise PluginError(
            f"{owner}: an option may not be called {' or '.join(clashes)}; every analysis command has that itself"
        )

    def run_analysis(run: Path, figure: Path | None, as_json: bool, **values: Any) -> None:
        options = structured(registry, config, values)
        if figure is not None:
            _check_figure(figure)
        with Run.open(run) as opened:
            result = registered.build(options, opened)
            if not isinstance(result, Result):
                raise PluginError(f"{owner}: build must return a contracts.Result, not {result!r}")
            if figure is not None and result.draw is None:
                raise AnalysisError(f"--figure: the analysis {registered.name!r} has no figure; leave the option out")
            if as_json:
                click.echo(_as_json(registered, opened, result, owner))
            else:
                print_result(result, sys.stdout)
            if figure is not None and result.draw is not None:
                _write_figure(result.draw, figure)
                click.echo(f"Figure: {figure}", err=as_json)

    return click.Command(
        registered.name,
        callback=run_analysis,
        params=[
            click.Argument(["run"], type=click.Path(path_type=Path), metavar="RUN.h5"),
            *own,
            click.Option(
                ["--figure"],
                type=click.Path(path_type=Path),
                metavar="FILE.pdf|png|svg",
                help="Also draw a figure into this file; an existing file is replaced.",
            ),
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON in place of the table."),
        ],
        help=f"{registered.component.summary[:1].upper()}{registered.component.summary[1:]}.",
    )


def _check_figure(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise AnalysisError(f"--figure: {str(path)!r} given, allowed is a file that ends in {', '.join(_SUFFIXES)}")
    if path.is_dir():
        raise AnalysisError(f"--figure: {path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise AnalysisError(f"--figure: the folder {path.parent} does not exist; create it first")


def _write_figure(draw: Callable[[], Figure], path: Path) -> None:
    from elboverse.builtin.analyses.style import render  # matplotlib, which only a figure needs

    content = render(draw(), path.suffix.lower())
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AnalysisError(f"--figure: {path} cannot be written: {error.strerror}") from error


def _as_json(registered: Registered, run: Run, result: Result, owner: str) -> str:
    content = {
        "analysis": registered.name,
        "run": str(run.path),
        "status": run.status,
        "notes": list(result.notes),
        **result.data,
    }
    try:
        return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner}: its data is no JSON: {error}") from error


def _finite(value: Any) -> Any:
    """Return JSON values with every number that is not finite replaced by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
