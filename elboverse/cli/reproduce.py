"""``elboverse reproduce``: an experiment of the paper, its figure, and its numbers, expected and measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from elboverse.cli.data import availability
from elboverse.cli.figures import write_figure
from elboverse.cli.tables import print_result
from elboverse.components.registry import FOUND_IN, Registry, discover, normalised
from elboverse.config import read_table
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, ConfigError
from elboverse.reproduction import (
    Checked,
    Experiment,
    departures,
    experiments,
    find_experiment,
    require_same_experiment,
    train_runs,
)
from elboverse.runfile import Run
from elboverse.running.sweep import begun_run_files

__all__ = ["reproduce"]

_UNMET: Final = 3
"""The exit code where an expectation is not met."""

_FIGURES: Final = (".png", ".pdf")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--from",
    "finished",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN.h5",
    help="Take a finished run, or the folder of a sweep, in place of training; repeatable.",
)
@click.option("--quick", is_flag=True, help="Scale the experiment down to less than two minutes on two cores.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run and the figure; runs/<name>-<time> if not given, or that of the first finished run.",
)
@click.option("--overwrite", is_flag=True, help="Replace a run.h5 that is in that folder already.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override one value of the config, such as training.replicas=2; repeatable.",
)
@click.option("--list", "listing", is_flag=True, help="List the experiments, their data and how long they take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the tables.")
def reproduce(
    name: str | None,
    finished: tuple[Path, ...],
    out: Path | None,
    overrides: tuple[str, ...],
    *,
    quick: bool,
    overwrite: bool,
    listing: bool,
    as_json: bool,
) -> None:
    """Reproduce the experiment NAME of the paper, draw its figure, and check its numbers.

    Each number that is expected is shown beside the one that was measured, with PASS or FAIL. The exit code is 3 if
    any fails. Without NAME, list the experiments.
    """
    registry = discover()
    if name is None or listing:
        _print_list(registry, as_json=as_json)
        return
    if finished and (overrides or overwrite):
        raise click.UsageError("--from takes runs as they are; leave out --set and --overwrite.")
    experiment = find_experiment(name, registry)
    given = tuple(file for path in finished for file in begun_run_files(path))
    if given:
        folder, paths = out or (finished[0] if finished[0].is_dir() else finished[0].parent), given
    else:
        folder, paths = _trained(experiment, out, overrides, quick=quick, overwrite=overwrite, quiet=as_json)
    with ExitStack() as stack:
        runs = [stack.enter_context(Run.open(path)) for path in paths]
        if given:
            require_same_experiment(experiment, runs)
        checked = experiment.check(runs, quick=quick)
        figures = _drawn(experiment, runs, folder)
        changed = departures(experiment.configs(), runs)
        if as_json:
            content = _as_json(experiment, runs, checked, changed, figures, quick=quick)
            click.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
        else:
            print_result(_table(experiment, runs, checked, changed, figures, quick=quick), sys.stdout)
    if not all(row.is_met for row in checked):
        sys.exit(_UNMET)


def _trained(
    experiment: Experiment,
    out: Path | None,
    overrides: Sequence[str],
    *,
    quick: bool,
    overwrite: bool,
    quiet: bool,
) -> tuple[Path, tuple[Path, ...]]:
    configs = experiment.configs(overrides, quick=quick)
    console = Console(quiet=quiet, highlight=False)
    minutes = "less than 2 minutes" if quick else _duration(experiment.expected.minutes)
    console.print(
        f"Reproducing {experiment.name}{', scaled down' if quick else ''}: {minutes} on two cores", soft_wrap=True
    )

    from elboverse.running.runs import default_folder  # torch is needed from here on

    folder = default_folder(configs[0]) if out is None else out
    table = experiment.table(overrides, quick=quick)

    def announce(name: str, _config: object) -> None:
        console.print(f"\n{name}", soft_wrap=True)

    return folder, tuple(train_runs(table, folder, console, overwrite=overwrite, announce=announce))


def _drawn(experiment: Experiment, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw the experiment's figure into a folder, which is made if need be, and return its files."""
    draw = experiment.figure(runs).draw
    if draw is None:
        raise AnalysisError(f"{experiment.name}: the analysis {experiment.expected.figure.analysis!r} has no figure")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made: {error.strerror}") from error
    figures = [folder / f"{experiment.name}{suffix}" for suffix in _FIGURES]
    for figure in figures:
        write_figure(draw, figure)
    return figures


def _table(
    experiment: Experiment,
    runs: Sequence[Run],
    checked: Sequence[Checked],
    changed: dict[str, dict[str, list[Any]]],
    figures: Sequence[Path],
    *,
    quick: bool,
) -> Result:
    unmet = sum(not row.is_met for row in checked)
    verdict = (
        f"{unmet} of {len(checked)} expectations {'is' if unmet == 1 else 'are'} not met."
        if unmet
        else f"All {len(checked)} expectations are met."
    )
    notes = [verdict]
    if quick:
        notes.append("This is the scaled-down experiment, not that of the paper; leave out --quick for the latter.")
    if changed:
        found = "; ".join(
            f"{key} is {_shown(both['runs'])} ({_shown(both['experiment'])})" for key, both in changed.items()
        )
        notes.append(f"Not as in the experiment's config (in brackets): {found}.")
    notes += [f"{run.path} is not finished (status: {run.status})." for run in runs if run.status != "finished"]
    notes += [f"Run: {run.path}" for run in runs] + [f"Figure: {figure}" for figure in figures]
    return Result(
        title=f"{experiment.name}{', scaled down (--quick)' if quick else ''}: expected against measured",
        columns=("quantity", "expected", "measured", "", "where the expectation comes from"),
        rows=[
            (
                row.expectation.what,
                str(row.limits),
                _range(row.measured),
                "PASS" if row.is_met else "FAIL",
                f"{row.expectation.source}; wider, scaled down" if _is_wider(row) else row.expectation.source,
            )
            for row in checked
        ],
        notes=notes,
    )


def _is_wider(row: Checked) -> bool:
    return row.limits is not row.expectation


def _as_json(
    experiment: Experiment,
    runs: Sequence[Run],
    checked: Sequence[Checked],
    changed: dict[str, dict[str, list[Any]]],
    figures: Sequence[Path],
    *,
    quick: bool,
) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "scaled_down": quick,
        "runs": [{"run": str(run.path), "status": run.status} for run in runs],
        "departures": changed,
        "figures": [str(figure) for figure in figures],
        "passed": all(row.is_met for row in checked),
        "expectations": [
            {
                "what": row.expectation.what,
                "source": row.expectation.source,
                "lower": row.limits.interval[0],
                "upper": row.limits.interval[1],
                "measured": list(row.measured),
                "passed": row.is_met,
            }
            for row in checked
        ],
    }


def _print_list(registry: Registry, *, as_json: bool) -> None:
    rows = [_listed(name, path, registry) for name, path in experiments().items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Result(
        title="Experiments of the paper: elboverse reproduce NAME",
        columns=("name", "data", "takes, on two cores", "what it is"),
        rows=[(row["name"], row["data"], _duration(row["minutes"]), row["summary"]) for row in rows],
    )
    print_result(table, sys.stdout)


def _listed(name: str, path: Path, registry: Registry) -> dict[str, Any]:
    summary = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    dataset = str(read_table(path)["dataset"]["name"])
    experiment = find_experiment(name, registry)
    places: list[Path] = []
    if not any(
        normalised(one.component.name) == normalised(dataset) for one in registry.components["dataset"].values()
    ):
        state = f"needs {FOUND_IN.get(('dataset', normalised(dataset)), 'a plugin')}"
    else:
        state, places = availability(experiment.configs()[0].dataset.options)
        state = "generated" if not places else state
    return {
        "name": name,
        "summary": summary,
        "dataset": dataset,
        "data": state if state == "generated" else f"{dataset}: {state}",
        "places": list(map(str, places)),
        "minutes": experiment.expected.minutes,
    }


def _range(measured: Sequence[float | None]) -> str:
    finite = [number for number in measured if number is not None]
    if len(finite) < len(measured):
        return f"not finite in {len(measured) - len(finite)} of {len(measured)}"
    shown = dict.fromkeys(f"{number:.4g}" for number in (min(finite), max(finite)))
    return " … ".join(shown) + (f" ({len(measured)})" if len(measured) > 1 else "")


def _duration(minutes: float) -> str:
    if minutes < 100:
        return f"about {minutes:.0f} min" if minutes >= 1 else "less than 1 min"
    return f"about {minutes / 60:.0f} h" if minutes < 60 * 48 else f"about {minutes / 60 / 24:.0f} days"


def _shown(values: Sequence[Any]) -> str:
    return ", ".join("not set" if value is None else str(value) for value in values)
