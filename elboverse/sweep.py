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

from elboverse.config import (
    SWEEP,
    ExperimentConfig,
    advising,
    apply_override,
    flattened,
    from_table,
    read_table,
    replace_value,
    to_table,
)
from elboverse.errors import ConfigError, ElboverseError, Interrupted, NonFiniteError, RunFileError
from elboverse.registry import Registry
from elboverse.runfile import RUN_FILE, Run, WriterLock

__all__ = ["SWEEP_FILE", "begun_run_files", "expand", "is_sweep", "refuse_both", "resume_sweep", "train_sweep"]

SWEEP_FILE: Final = "sweep.toml"

MOST_RUNS: Final = 200
"""As many as an analysis can open together: systems allow a process 256 files or more."""


def is_sweep(table: Mapping[str, Any]) -> bool:
    """Return whether a raw config describes several runs."""
    return SWEEP in table


def refuse_both(table: Mapping[str, Any], overridden: Iterable[str]) -> None:
    """Check that no setting is both given one value and swept over.

    Args:
        table: a raw config with a table ``sweep``.
        overridden: the key paths that were given a value beside it.

    Raises:
        ConfigError: one is.
    """
    both = sorted(set(overridden) & set(_settings(table)))
    if both:
        raise ConfigError(f"{both[0]}: given one value and swept over as well; leave one of them out")


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
            with advising(table, single):
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
) -> list[Path]:
    """Train every run of a sweep, one after the other, and return their run files.

    A run whose numbers go wrong does not stop the others.

    Args:
        table: a raw config with a table ``sweep``.
        out: the sweep's folder; ``runs/<name>-<time>`` by default.
        overwrite: replace what is there already; run files that are replaced are deleted before the first run begins.
        console: where progress is shown; nowhere by default.
        announce: called with the name and the config of each run before it begins.

    Raises:
        ConfigError: the sweep or one of its runs is not usable.
        RunFileError: there is a sweep or a run in that folder already, or it cannot be written.
        NonFiniteError: of the runs that failed, after the others are done.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    from elboverse.execution import default_folder, train  # torch, which listing a sweep does not need

    configs = expand(table)
    folder = default_folder(next(iter(configs.values()))) if out is None else Path(out)
    paths = {name: folder / name / RUN_FILE for name in configs}
    there = [path for path in (folder / SWEEP_FILE, folder / RUN_FILE, *paths.values()) if path.exists()]
    if there and not overwrite:
        raise RunFileError(f"{there[0]}: exists already; give --overwrite to replace it, or another folder with --out")
    for path in paths.values():
        if path.exists():
            _delete(path)
    _write(folder, table)

    def start(name: str, config: ExperimentConfig) -> None:
        train(config, out=paths[name].parent, console=console).close()

    try:
        _each(folder, configs, start, announce)
    except ElboverseError:
        if not any(path.exists() for path in paths.values()):  # nothing began, so nothing is there to go on with
            (folder / SWEEP_FILE).unlink(missing_ok=True)
        raise
    return list(paths.values())


def resume_sweep(
    folder: str | Path,
    *,
    overrides: Iterable[str] = (),
    console: Console | None = None,
    announce: Callable[[str, ExperimentConfig], None] | None = None,
) -> list[Path]:
    """Go on with a sweep: finish runs that were interrupted, train those that had not begun; return all run files.

    Args:
        folder: of the sweep.
        overrides: ``"training.epochs=300"`` extends every run; nothing else may be changed.
        console: where progress is shown; nowhere by default.
        announce: called with the name and the config of each run that is gone on with, before it.

    Raises:
        As `train_sweep` and `execution.resume`, and
        ConfigError: another setting was to be changed.
        RunFileError: a run in that folder is not of this sweep.
    """
    from elboverse.execution import resume, train  # torch, as above

    folder = Path(folder)
    table = read_table(folder / SWEEP_FILE)
    extended = _extended(table, overrides)
    configs = expand(extended)
    paths = {name: folder / name / RUN_FILE for name in configs}
    epochs = {name: _epochs_so_far(paths[name], config) for name, config in configs.items() if paths[name].exists()}
    if extended != table:
        _write(folder, extended)  # so that an extension that is interrupted is gone on with like any other sweep

    def go_on(name: str, config: ExperimentConfig) -> None:
        if name not in epochs:
            train(config, out=paths[name].parent, console=console).close()
        elif epochs[name] < config.training.epochs:
            resume(paths[name], overrides=[f"training.epochs={config.training.epochs}"], console=console).close()
        else:
            resume(paths[name], console=console).close()

    unfinished = {name: config for name, config in configs.items() if not _is_done(paths[name], config)}
    _each(folder, unfinished, go_on, announce)
    return list(paths.values())


def run_files(path: Path) -> list[Path]:
    """Return the run files of a sweep's folder, in the sweep's order; anything else is returned as it is given.

    Args:
        path: a run file, or a folder.

    Raises:
        ConfigError: the folder's ``sweep.toml`` is not usable.
    """
    if not (path / SWEEP_FILE).is_file():
        return [path]
    return [path / name / RUN_FILE for name in expand(read_table(path / SWEEP_FILE))]


def begun_run_files(path: Path) -> list[Path]:
    """Return what `run_files` does, once it is known that every run of the sweep has begun.

    Raises:
        ConfigError: the folder's ``sweep.toml`` is not usable.
        RunFileError: a run of the sweep has not begun.
    """
    files = run_files(path)
    missing = [file.parent.name for file in files if not file.exists()] if files != [path] else []
    if missing:
        raise RunFileError(
            f"{path}: {len(missing)} of the {len(files)} runs of this sweep have not begun, {missing[0]} first; go on "
            f"with `elboverse train --resume {shlex.quote(str(path))}`, or give the run files that are there"
        )
    return files


def _extended(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a sweep's raw config with what may be changed when it is resumed."""
    from elboverse.execution import CHANGEABLE  # torch, as above

    extended, swept = dict(table), _settings(table)
    for override in overrides:
        key = apply_override(extended, override)
        if key not in CHANGEABLE:
            raise ConfigError(
                f"--set {override}: {key} cannot be changed when a sweep is resumed, only {', '.join(CHANGEABLE)}; "
                "start another sweep to change it"
            )
        if key in swept:
            raise ConfigError(f"--set {override}: {key} is what the sweep varies, so it cannot be changed")
    return extended


def _epochs_so_far(path: Path, config: ExperimentConfig) -> int:
    """Return the length of a run that is there, once it has been checked to be of this sweep, and no longer."""
    with Run.open(path) as run:
        before, wanted = (flattened(to_table(one)) for one in (from_table(run.config), config))
    epochs = before.pop("training.epochs", 0)
    wanted.pop("training.epochs")
    differing = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
    if differing:
        raise RunFileError(
            f"{path}: is no run of this sweep, its {', '.join(differing)} differ{'s' if len(differing) == 1 else ''}; "
            "move it away, or train the sweep anew with --overwrite"
        )
    if not isinstance(epochs, int) or epochs > config.training.epochs:
        raise ConfigError(
            f"training.epochs: {config.training.epochs} given, allowed is at least {epochs}, the length of {path}"
        )
    return epochs


def _is_done(path: Path, config: ExperimentConfig) -> bool:
    if not path.exists():
        return False
    with Run.open(path) as run:
        return run.status == "finished" and run.config["training"]["epochs"] == config.training.epochs


def _each(
    folder: Path,
    configs: Mapping[str, ExperimentConfig],
    start: Callable[[str, ExperimentConfig], None],
    announce: Callable[[str, ExperimentConfig], None] | None,
) -> None:
    complaints = []
    for name, config in configs.items():
        if announce is not None:
            announce(name, config)
        try:
            start(name, config)
        except NonFiniteError as error:
            complaints.append(f"{name}: {error}")
        except Interrupted as error:
            message = f"{error}\nTo go on with the whole sweep:\n  elboverse train --resume {shlex.quote(str(folder))}"
            raise Interrupted(message, error.signal_number) from error
    if complaints:
        raise NonFiniteError("\n".join(complaints))


def _delete(path: Path) -> None:
    """Delete a run file, unless another trainer is at work on it."""
    lock = WriterLock(path)
    try:
        path.unlink()
    except OSError as error:
        raise RunFileError(f"{path}: cannot be replaced: {error.strerror}") from error
    finally:
        lock.close()


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
