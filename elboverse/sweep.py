"""Sweeps: a config that describes several runs, one for each combination of some values, trained by one command.

A config becomes a sweep by a table of settings and their values:

    [sweep]
    "model.latent_dim" = [2, 4, 6]

Each run is one like any other, in a folder of its own, named after its values (``latent_dim=2``). All of them have the
same seed, so the same data. The folder of the sweep also holds ``sweep.toml``, the config, by which it is resumed.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import tomli_w
from rich.console import Console

from elboverse.config import SWEEP, ExperimentConfig, apply_override, from_table, read_table, replace_value
from elboverse.errors import ConfigError, Interrupted, NonFiniteError, RunFileError
from elboverse.registry import Registry
from elboverse.runfile import Run

__all__ = ["SWEEP_FILE", "expand", "is_sweep", "resume_sweep", "train_sweep"]

SWEEP_FILE: Final = "sweep.toml"

MOST_RUNS: Final = 1000
"""Far beyond any sweep that is trained one run after the other."""


def is_sweep(table: Mapping[str, Any]) -> bool:
    """Return whether a raw config describes several runs."""
    return SWEEP in table


def expand(table: Mapping[str, Any], registry: Registry | None = None) -> dict[str, ExperimentConfig]:
    """Return the config of every run of a sweep, by the name of the run, in order.

    Args:
        table: a raw config with a table ``sweep``: key path → list of values.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: the sweep or one of its runs is not usable.
    """
    settings = _settings(table)
    keys = list(settings)
    last = [key.rpartition(".")[2] for key in keys]
    shown = [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]
    configs: dict[str, ExperimentConfig] = {}
    for values in itertools.product(*settings.values()):
        name = ",".join(f"{key}={_as_name(value)}" for key, value in zip(shown, values, strict=True))
        if name in configs:
            raise ConfigError(f"{SWEEP}: two runs would be called {name!r}; give each value once")
        single = {key: value for key, value in table.items() if key != SWEEP}
        for key, value in zip(keys, values, strict=True):
            replace_value(single, key.split("."), value)
        try:
            configs[name] = from_table(single, registry)
        except ConfigError as error:
            raise ConfigError([f"{fault} (in the run {name})" for fault in error.faults]) from None
    return configs


def train_sweep(
    table: Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    announce: Callable[[str, ExperimentConfig], None] | None = None,
) -> list[Run]:
    """Train every run of a sweep, one after the other, and return them.

    A run whose numbers go wrong does not stop the others.

    Args:
        table: a raw config with a table ``sweep``.
        out: the sweep's folder; ``runs/<name>-<time>`` by default.
        overwrite: replace what is there already.
        console: where progress is shown; nowhere by default.
        announce: called with the name and the config of each run before it begins.

    Raises:
        ConfigError: the sweep or one of its runs is not usable.
        RunFileError: there is a sweep or a run in that folder already, or it cannot be written.
        NonFiniteError: of the runs that failed, after the others are done.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    from elboverse.execution import RUN_FILE, default_folder, train  # torch, which listing a sweep does not need

    configs = expand(table)
    folder = default_folder(next(iter(configs.values()))) if out is None else Path(out)
    there = [name for name in (SWEEP_FILE, RUN_FILE) if (folder / name).exists()]
    if there and not overwrite:
        raise RunFileError(
            f"{folder / there[0]}: exists already; give --overwrite to replace it, or another folder with --out"
        )
    _write(folder, table)

    def start(name: str, config: ExperimentConfig) -> Run:
        return train(config, out=folder / name, overwrite=overwrite, console=console)

    return _each(folder, configs, start, announce)


def resume_sweep(
    folder: str | Path,
    *,
    overrides: Iterable[str] = (),
    console: Console | None = None,
    announce: Callable[[str, ExperimentConfig], None] | None = None,
) -> list[Run]:
    """Go on with a sweep: finish the runs that were interrupted, train those that had not begun, and return all.

    Args:
        folder: of the sweep.
        overrides: ``"training.epochs=300"`` extends every run; nothing else may be changed.
        console: where progress is shown; nowhere by default.
        announce: called with the name and the config of each run that is gone on with, before it.

    Raises:
        As `train_sweep` and `execution.resume`.
    """
    from elboverse.execution import RUN_FILE, resume, train  # torch, as above

    folder = Path(folder)
    table, overrides = read_table(folder / SWEEP_FILE), tuple(overrides)
    for override in overrides:
        apply_override(table, override)
    configs = expand(table)

    def go_on(name: str, config: ExperimentConfig) -> Run:
        path = folder / name / RUN_FILE
        if not path.exists():
            return train(config, out=path.parent, console=console)
        return resume(path, overrides=overrides, console=console)

    paths = {name: folder / name / RUN_FILE for name in configs}
    unfinished = {name: config for name, config in configs.items() if not _is_finished(paths[name], config)}
    _each(folder, unfinished, go_on, announce)
    return [Run.open(path) for path in paths.values()]


def run_files(path: Path) -> list[Path]:
    """Return the run files of a sweep's folder, in the sweep's order; anything else is returned as it is given.

    Args:
        path: a run file, or a folder.

    Raises:
        ConfigError: the folder's ``sweep.toml`` is not usable.
    """
    if not (path / SWEEP_FILE).is_file():
        return [path]
    return [path / name / "run.h5" for name in expand(read_table(path / SWEEP_FILE))]


def _is_finished(path: Path, config: ExperimentConfig) -> bool:
    if not path.exists():
        return False
    with Run.open(path) as run:
        epochs = run.config.get("training", {}).get("epochs")
        return run.status == "finished" and epochs == config.training.epochs


def _each(
    folder: Path,
    configs: Mapping[str, ExperimentConfig],
    start: Callable[[str, ExperimentConfig], Run],
    announce: Callable[[str, ExperimentConfig], None] | None,
) -> list[Run]:
    runs, complaints = [], []
    for name, config in configs.items():
        if announce is not None:
            announce(name, config)
        try:
            runs.append(start(name, config))
        except NonFiniteError as error:
            complaints.append(f"{name}: {error}")
        except Interrupted as error:
            message = f"{error}\nTo go on with the whole sweep:\n  elboverse train --resume {shlex.quote(str(folder))}"
            raise Interrupted(message, error.signal_number) from error
    if complaints:
        raise NonFiniteError("\n".join(complaints))
    return runs


def _settings(table: Mapping[str, Any]) -> dict[str, list[Any]]:
    settings = table.get(SWEEP)
    if not isinstance(settings, Mapping) or not settings:
        raise ConfigError(f'{SWEEP}: give a table of settings and lists of values, such as "model.latent_dim" = [2, 4]')
    faults, found, runs = [], {}, 1
    for key, values in _flat(settings):
        if not isinstance(values, list) or not values:
            faults.append(f"{SWEEP}.{key}: {values!r} given, allowed is a list of at least one value")
            continue
        found[key] = values
        runs *= len(values)
    if runs > MOST_RUNS:
        faults.append(f"{SWEEP}: {runs:,} runs given, allowed are at most {MOST_RUNS:,}")
    if faults:
        raise ConfigError(faults)
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield key paths and values: ``model.latent_dim = [2]`` without quotes is a table in a table in TOML."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_name(value: Any) -> str:
    """Return a value as a part of a folder's name; a component is called by its own name."""
    if isinstance(value, Mapping):
        value = value.get("name", "-".join(map(str, value.values())))
    return re.sub(r"[^\w.+-]+", "-", str(value))[:60]


def _write(folder: Path, table: Mapping[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{SWEEP_FILE}.part"
        part.write_text(tomli_w.dumps(dict(table)), encoding="utf-8")
        part.replace(folder / SWEEP_FILE)
    except OSError as error:
        raise RunFileError(f"{folder / SWEEP_FILE}: cannot be written: {error.strerror}") from error
