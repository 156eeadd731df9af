"""Reproducing an experiment of the paper: its runs, the numbers that are expected of them, and whether they are met."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console

from elboverse.analysis.making import analysed, numbers, takes_several
from elboverse.components.registry import Registry
from elboverse.config import (
    ExperimentConfig,
    advising,
    apply_override,
    flattened,
    from_table,
    named_configs,
    read_table,
    to_table,
)
from elboverse.config.structuring import build_converter, structure
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, ConfigError, nearest
from elboverse.reproduction.expectations import Expectation, Expected, Limits, expected_file, load_expected
from elboverse.runfile import Run
from elboverse.running.sweep import expand, is_sweep, train_sweep

__all__ = [
    "Checked",
    "Experiment",
    "departures",
    "experiments",
    "find_experiment",
    "require_same_experiment",
    "train_runs",
]

_FOLDER = "paper/"


@attrs.frozen
class Experiment:
    """A config with expectations beside it.

    Args:
        name: what it is called.
        file: of the config.
        expected: what is expected of its runs.
        registry: the components.
    """

    name: str
    file: Path
    expected: Expected
    registry: Registry

    def table(self, overrides: Sequence[str] = (), *, quick: bool = False) -> dict[str, Any]:
        """Return the raw config, of one run or a sweep, scaled down or not, with overrides as after ``--set``.

        Raises:
            ConfigError: it is not TOML, or no scaled-down version exists.
        """
        if quick and not self.expected.quick:
            raise ConfigError(f"--quick: {self.name} has no scaled-down version; leave the option out")
        table = read_table(self.file)
        for override in (*(self.expected.quick if quick else ()), *overrides):
            apply_override(table, override)
        return table

    def configs(self, overrides: Sequence[str] = (), *, quick: bool = False) -> list[ExperimentConfig]:
        """Return the config of each run, as `table` gives them.

        Raises:
            ConfigError: with every fault in it, or no scaled-down version exists.
        """
        table = self.table(overrides, quick=quick)
        with advising(read_table(self.file), table):
            if is_sweep(table):
                return list(expand(table, self.registry).values())
            return [from_table(table, self.registry)]

    def check(self, runs: Sequence[Run], *, quick: bool) -> list[Checked]:
        """Return what was measured of each number that is expected.

        Args:
            runs: of this experiment, one or more.
            quick: whether they are scaled down.

        Raises:
            AnalysisError: a run lacks what an analysis needs, or an analysis gives no such number.
            ConfigError: the options of an analysis are wrong.
        """
        analyses = _Analyses(self.registry, tuple(runs))
        return [
            Checked(expectation, expectation.limits(quick=quick), analyses.measured(expectation))
            for expectation in self.expected.expect
            if expectation.in_quick or not quick
        ]

    def figure(self, runs: Sequence[Run]) -> Result:
        """Return the analysis whose figure is that of the experiment.

        Raises:
            AnalysisError: the runs lack what it needs.
            ConfigError: its options are wrong.
        """
        figure = self.expected.figure
        return _Analyses(self.registry, tuple(runs)).results(figure.analysis, figure.options)[0]


@attrs.frozen
class Checked:
    """An expectation and what was measured.

    Args:
        expectation: what is expected.
        limits: those that hold here.
        measured: the number, of each run or replica where there are several; None where it is not finite.
    """

    expectation: Expectation
    limits: Limits
    measured: tuple[float | None, ...]

    @property
    def is_met(self) -> bool:
        """Whether all of them are within the limits."""
        return all(map(self.limits.holds, self.measured))


def experiments() -> dict[str, Path]:
    """Return the shipped configs that have expectations, by name; those of the paper without their folder."""
    return {name.removeprefix(_FOLDER): path for name, path in named_configs().items() if expected_file(path).is_file()}


def find_experiment(name: str, registry: Registry) -> Experiment:
    """Return the experiment of that name, or a config of the user's own with expectations beside it.

    Raises:
        ConfigError: there is none, it has no expectations, or they have faults.
    """
    known = experiments()
    own = Path(name)
    path = known.get(name.removeprefix(_FOLDER), own)
    if path is own and own.suffix != ".toml":
        hint = nearest(name, known)
        raise ConfigError(
            f"no experiment {name!r}{f' ({hint})' if hint else ''}; give one of {', '.join(known)}, or a config with "
            "its expectations beside it, such as mine.toml with mine.expected.toml"
        )
    expected = expected_file(path)
    if not expected.is_file():
        raise ConfigError(f"{expected}: no such file; it says what is expected of the runs of {path.name}")
    return Experiment(path.stem, path, load_expected(expected, registry), registry)


def train_runs(
    table: Mapping[str, Any],
    out: Path,
    console: Console | None,
    *,
    overwrite: bool,
    announce: Callable[[str, ExperimentConfig], None] | None = None,
) -> list[Path]:
    """Train the runs of an experiment into a folder and return their files.

    Args:
        table: the raw config, of one run or a sweep.
        out: the folder.
        console: where progress is shown; nowhere if None.
        overwrite: whether to replace what is there.
        announce: called with the name and the config of each run of a sweep, before it.

    Raises:
        ElboverseError: as `execution.train` does.
    """
    from elboverse.running.runs import train  # torch, which finished runs do not need

    if is_sweep(table):
        return train_sweep(table, out=out, overwrite=overwrite, console=console, announce=announce)
    with train(table, out=out, overwrite=overwrite, console=console) as run:
        return [run.path]


def require_same_experiment(experiment: Experiment, runs: Sequence[Run]) -> None:
    """Check that finished runs are of the models and data of an experiment, and as many.

    Raises:
        AnalysisError: they are not.
    """
    configs = experiment.configs()
    for part in ("model", "dataset"):
        meant = {str(to_table(config)[part]["name"]) for config in configs}
        for run in runs:
            found = run.config.get(part)
            name = found.get("name") if isinstance(found, Mapping) else None
            if name is not None and name not in meant:
                raise AnalysisError(
                    f"{run.path}: has the {part} {name!r}, where {experiment.name} has {' or '.join(sorted(meant))}; "
                    "give runs of this experiment"
                )
    if len(configs) > 1 and len(runs) != len(configs):
        raise AnalysisError(
            f"{experiment.name}: got {len(runs)} of its {len(configs)} runs; give the sweep's folder, or all of them"
        )


def departures(configs: Sequence[ExperimentConfig], runs: Sequence[Run]) -> dict[str, dict[str, list[Any]]]:
    """Return the settings in which runs differ from an experiment's.

    Args:
        configs: of the experiment's runs, as they are in the paper.
        runs: any.

    Returns:
        By path, the different values in the ``experiment`` and in the ``runs``; None where a setting is not there.
    """
    meant, found = [flattened(to_table(config)) for config in configs], [flattened(run.config) for run in runs]
    keys = sorted(set().union(*meant, *found) - {"name"})
    values = {key: {"experiment": _distinct(meant, key), "runs": _distinct(found, key)} for key in keys}
    return {key: both for key, both in values.items() if both["experiment"] != both["runs"]}


def _distinct(tables: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    values: list[Any] = []
    for value in (table.get(key) for table in tables):
        if value not in values:
            values.append(value)
    return values


class _Analyses:
    """The analyses of some runs, each made once.

    Args:
        registry: the components.
        runs: one or more.
    """

    def __init__(self, registry: Registry, runs: tuple[Run, ...]) -> None:
        self._registry = registry
        self._runs = runs
        self._made: dict[str, Result] = {}

    def results(self, name: str, options: Mapping[str, Any], *, every_replica: bool = False) -> list[Result]:
        """Return an analysis of all runs together, or, where it takes one run, of each.

        Args:
            name: of the analysis.
            options: of the analysis.
            every_replica: whether to make it of each replica.
        """
        several = takes_several(self._registry.find("analysis", self._registry.default("analysis", name)))
        groups = [self._runs] if several else [(run,) for run in self._runs]
        if not every_replica:
            return [self._result(name, options, group) for group in groups]
        return [
            self._result(name, {**options, "replica": replica}, group)
            for group in groups
            for replica in range(min(run.replicas for run in group))
        ]

    def measured(self, expectation: Expectation) -> tuple[float | None, ...]:
        """Return the number of an expectation in each result."""
        registered = self._registry.find("analysis", self._registry.default("analysis", expectation.analysis))
        results = self.results(expectation.analysis, expectation.options, every_replica=expectation.every_replica)
        return tuple(expectation.measured(numbers(registered, result)) for result in results)

    def _result(self, name: str, options: Mapping[str, Any], group: tuple[Run, ...]) -> Result:
        key = json.dumps([name, options, [str(run.path) for run in group]], sort_keys=True, default=str)
        if key not in self._made:
            registered = self._registry.find("analysis", self._registry.default("analysis", name))
            converter = build_converter(self._registry)
            structured = structure(converter, dict(options), registered.config_class(), f"{name}.options")
            self._made[key] = analysed(registered, structured, group)
        return self._made[key]
