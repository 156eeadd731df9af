"""``elboverse analyze``: one command per analysis that a plugin offers, with the fields of its config as options."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from elboverse.analysis.making import analysed, numbers, owner, takes_several
from elboverse.cli.figures import check_figure, is_animation, write_animation, write_figure
from elboverse.cli.options import data_option, options_of, structured
from elboverse.cli.tables import print_result
from elboverse.components.registry import Registered, Registry, discover
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, PluginError
from elboverse.runfile import Run
from elboverse.running.sweep import begun_run_files, run_files

__all__ = ["analyze"]

_OWN: Final = ("as_json", "data", "figure", "help", "json", "paths")
"""What no analysis may call an option of its own: the parameters that every command has."""

_MOST_NAMED: Final = 6


class AnalysisGroup(click.Group):
    """A group whose commands are the analyses that can be found when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the analyses."""
        return discover().names("analysis")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command of an analysis; it is imported now, and no other is.

        Raises:
            UnknownNameError: no such analysis exists.
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
    """Analyse a finished or running run from its run.h5, or its folder: a table, a figure, JSON.

    Some analyses take several runs, or the folder of a sweep.
    """


def _command(registry: Registry, registered: Registered) -> click.Command:
    config = registered.config_class()
    own = options_of(config, owner(registered))
    clashes = sorted({str(option.name) for option in own} & set(_OWN))
    if clashes:
        raise PluginError(
            f"{owner(registered)}: an option may not be called {' or '.join(clashes)}; every analysis command has that "
            "itself"
        )

    several = takes_several(registered)
    animated = bool(getattr(config, "animated", False))

    def run_analysis(
        paths: Path | tuple[Path, ...], figure: Path | None, as_json: bool, data: Path | None, **values: Any
    ) -> None:
        options = structured(registry, config, values)
        if figure is not None:
            check_figure(figure, moving=animated)
        with ExitStack() as stack:
            files = (
                [file for path in paths for file in begun_run_files(path)]
                if isinstance(paths, tuple)
                else [_one(paths)]
            )
            runs = tuple(stack.enter_context(Run.open(file)).with_data(data) for file in files)
            result = analysed(registered, options, runs)
            write = None if figure is None else _writer(registered, result, figure)
            try:
                if write is not None:
                    write()  # before the table, which a pipe may end
            finally:
                if as_json:
                    click.echo(_as_json(registered, runs, result))
                else:
                    print_result(result, sys.stdout)
            if write is not None:
                click.echo(f"Figure: {figure}", err=as_json)

    return click.Command(
        registered.name,
        callback=run_analysis,
        params=[
            click.Argument(
                ["paths"],
                type=click.Path(path_type=Path),
                nargs=-1 if several else 1,
                required=True,
                metavar="RUN.h5 ..." if several else "RUN.h5",
            ),
            *own,
            click.Option(
                ["--figure"],
                type=click.Path(path_type=Path),
                metavar=f"FILE.pdf|png|svg{'|gif|mp4' if animated else ''}",
                help="Also draw a figure into this file; an existing file is replaced.",
            ),
            data_option(),
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON in place of the table."),
        ],
        help=f"{registered.component.summary[:1].upper()}{registered.component.summary[1:]}.",
    )


def _one(path: Path) -> Path:
    """Return the path of one run.

    Raises:
        AnalysisError: it is the folder of a sweep, which has several.
    """
    files = run_files(path)
    if files == [path]:
        return path
    names = [str(file.parent) for file in files]
    shown = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
    raise AnalysisError(f"{path} is the folder of a sweep, and this analysis reads one run; give one of {shown}")


def _writer(registered: Registered, result: Result, figure: Path) -> Callable[[], None]:
    """Return what writes the figure of a result, or its animation.

    Raises:
        AnalysisError: it has none.
        PluginError: it has no animation, although it says so.
    """
    if is_animation(figure):
        if result.animate is None:
            raise PluginError(f"{owner(registered)}: it says that it is animated, but its result has no animation")
        return functools.partial(write_animation, result.animate, figure)
    if result.draw is None:
        raise AnalysisError(f"--figure: the analysis {registered.name!r} has no figure; leave the option out")
    return functools.partial(write_figure, result.draw, figure)


def _as_json(registered: Registered, runs: tuple[Run, ...], result: Result) -> str:
    described = [{"run": str(run.path), "status": run.status} for run in runs]
    content = {
        "analysis": registered.name,
        **({"runs": described} if takes_several(registered) else described[0]),
        "notes": list(result.notes),
        **numbers(registered, result),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
