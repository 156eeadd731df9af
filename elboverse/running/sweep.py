"""Studies: the runs that a sweep describes, trained side by side or one after the other; see `sweeps`.

Each run is one like any other, in a folder of its own, named after its values (``latent_dim=2``). The folder of the
study also holds ``sweep.toml``, the config, by which it is resumed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from elboverse.components.local import LocalPlugin
from elboverse.components.registry import Registry, discover
from elboverse.config import (
    ExperimentConfig,
    apply_override,
    find_config,
    flattened,
    from_table,
    read_table,
    to_table,
    with_plugins_of,
)
from elboverse.config.sweeps import LAUNCHER, expand, is_sweep, refuse_both, settings
from elboverse.contracts import Sink
from elboverse.contracts.launcher import Launcher, Outcome
from elboverse.errors import (
    ConfigError,
    ElboverseError,
    RunFileError,
)
from elboverse.renamed import with_present_keys
from elboverse.runfile import RUN_FILE, Run, WriterLock
from elboverse.running.launching import build_launcher
from elboverse.running.study import SWEEP_FILE, Announce, Study, write_study

__all__ = [
    "SWEEP_FILE",
    "begun_run_files",
    "build_launcher",
    "expand",
    "is_sweep",
    "refuse_both",
    "resume_sweep",
    "run_files",
    "train_sweep",
]


def train_sweep(
    table: Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    announce: Announce | None = None,
    jobs: int | None = None,
    launcher: Mapping[str, Any] | str | None = None,
    threads: int = 1,
    registry: Registry | None = None,
    plugins: Iterable[LocalPlugin] = (),
    sinks: Iterable[Sink] = (),
) -> list[Path]:
    """Train every run of a sweep and return their run files.

    A run that fails does not stop the others. Without `jobs` and `launcher`, the runs are trained one after the other
    in this process.

    Args:
        table: a raw config with a table ``sweep``, or a TOML file of one.
        out: the sweep's folder; ``runs/<name>-<time>`` by default.
        overwrite: replace what is there already; run files that are replaced are deleted before the first run begins.
        console: where progress is shown; nowhere by default.
        announce: called with the name and the config of each run before it begins in this process.
        jobs: runs at once, each in a process of its own.
        launcher: name, or table with name and options, of what starts those processes; ``"local"`` by default.
        threads: of each run. However many runs there are at once, they end bitwise the same.
        registry: the components; those of all installed plugins by default.
        plugins: as for `elboverse.train`. Where runs have processes of their own, these load the files again.
        sinks: what follows each run, one run after the other; `begin` says which. Only where they are trained here.

    Raises:
        ConfigError: the sweep or one of its runs is not usable.
        RunFileError: there is a sweep or a run in that folder already, or it cannot be written.
        StudyError: of the runs that failed, after the others are done.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    from elboverse.running.runs import default_folder  # torch, which listing a sweep does not need

    if not isinstance(table, Mapping):
        source, table = table, read_table(table)
        registry = with_plugins_of(table, find_config(source).parent, registry)
    if plugins:
        registry = (discover() if registry is None else registry).joined(plugins)
    configs = expand(table, registry)
    where = _launcher_of(table, jobs, launcher, registry)
    study_sinks = _sinks_here(sinks, where)
    folder = default_folder(next(iter(configs.values()))) if out is None else Path(out)
    paths = {name: folder / name / RUN_FILE for name in configs}
    there = [path for path in (folder / SWEEP_FILE, folder / RUN_FILE, *paths.values()) if path.exists()]
    if there and not overwrite:
        raise RunFileError(f"{there[0]}: already exists; give --overwrite to replace it, or another folder with --out")
    for path in paths.values():
        if path.exists():
            _delete(path)
    made = not folder.exists()
    write_study(folder, table)
    study = Study(folder, dict(table), console, announce, threads, registry, where, study_sinks)
    try:
        study.train({})
    except ElboverseError:
        begun = any(path.exists() for path in run_files(folder, registry))
        if not begun:  # nothing is there to resume
            (folder / SWEEP_FILE).unlink(missing_ok=True)
            _remove_empty(folder, made=made)
        raise
    return run_files(folder, registry)


def resume_sweep(
    folder: str | Path,
    *,
    overrides: Iterable[str] = (),
    console: Console | None = None,
    announce: Announce | None = None,
    jobs: int | None = None,
    launcher: Mapping[str, Any] | str | None = None,
    threads: int = 1,
    registry: Registry | None = None,
    plugins: Iterable[LocalPlugin] = (),
    sinks: Iterable[Sink] = (),
) -> list[Path]:
    """Resume a sweep: finish runs that were interrupted or failed, train those that are missing, and no others.

    Args:
        folder: of the sweep.
        overrides: ``"training.epochs=300"`` extends every run; nothing else may be changed.
        console: as for `train_sweep`, like all that follow.
        announce: called before each run.
        jobs: runs at once.
        launcher: where they run.
        threads: of each run.
        registry: the components.
        plugins: files must still be those that the runs were made with.
        sinks: what follows each run.

    Raises:
        As `train_sweep` and `execution.resume`, and
        ConfigError: another setting was to be changed.
        RunFileError: a run in that folder is not of this sweep.
    """
    folder = Path(folder)
    table = _stored_table(folder)
    extended = _extended(table, overrides)
    if plugins:
        registry = (discover() if registry is None else registry).joined(plugins)
    configs = expand(extended, registry)
    where = _launcher_of(extended, jobs, launcher, registry)
    study_sinks = _sinks_here(sinks, where)
    unreadable: dict[str, Outcome] = {}
    for name, config in configs.items():
        path = folder / name / RUN_FILE
        if path.exists():
            _require_of_this_sweep(path, name, config, registry, unreadable)
    if extended != table:
        write_study(folder, extended)  # so that an extension that is interrupted is gone on with like any other sweep
    Study(folder, extended, console, announce, threads, registry, where, study_sinks).train(unreadable)
    return run_files(folder, registry)


def run_files(path: Path, registry: Registry | None = None) -> list[Path]:
    """Return the run files of a sweep's folder, in the sweep's order; anything else is returned as it is given.

    Args:
        path: a run file, or a folder.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: the folder's ``sweep.toml`` is not usable.
    """
    if not (path / SWEEP_FILE).is_file():
        return [path]
    return [path / name / RUN_FILE for name in expand(_stored_table(path), registry)]


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


def _stored_table(folder: Path) -> dict[str, Any]:
    """Return the raw config that a study's folder holds, its keys under their present names."""
    return with_present_keys(read_table(folder / SWEEP_FILE))


def _launcher_of(
    table: Mapping[str, Any], jobs: int | None, launcher: Mapping[str, Any] | str | None, registry: Registry | None
) -> Launcher | None:
    """Return the launcher that was asked for, in the call or in the config; None for this process."""
    given = launcher if launcher is not None else table.get(LAUNCHER)
    if given is None and jobs is None:
        return None
    wanted = {"name": given} if isinstance(given, str) else dict(given or {"name": "local"})
    if jobs is not None:
        wanted["jobs"] = jobs
    return build_launcher(wanted, registry)


def _sinks_here(sinks: Iterable[Sink], launcher: Launcher | None) -> tuple[Sink, ...]:
    """Return the sinks that a caller gives, once it is known that they can follow the runs."""
    given = tuple(sinks)
    if given and launcher is not None:
        raise ConfigError(
            "sinks: got objects, which cannot follow runs in processes of their own; name sinks in the config, or "
            "train without jobs and launcher"
        )
    return given


def _extended(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a sweep's raw config with what may be changed when it is resumed."""
    from elboverse.running.runs import CHANGEABLE  # torch, as above

    extended, swept = dict(table), settings(table)
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


def _require_of_this_sweep(
    path: Path, name: str, config: ExperimentConfig, registry: Registry | None, unreadable: dict[str, Outcome]
) -> None:
    """Check that a run that is there is of this sweep, and no longer; one that cannot be read is noted as failed."""
    try:
        with Run.open(path) as run:
            before, wanted = (flattened(to_table(one)) for one in (from_table(run.config, registry), config))
    except RunFileError as error:
        unreadable[name] = Outcome(name=name, status="failed", message=f"{error}; move it away to train it anew")
        return
    epochs = before.pop("training.epochs", 0)
    wanted.pop("training.epochs")
    if wanted.get("training.batch_size") is None:  # then each run worked it out for itself
        before.pop("training.batch_size", None)
        wanted.pop("training.batch_size", None)
    differing = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
    if differing:
        verb = "differs" if len(differing) == 1 else "differ"
        raise RunFileError(
            f"{path}: is not a run of this sweep, its {', '.join(differing)} {verb}; "
            "move it away, or train the sweep anew with --overwrite"
        )
    if not isinstance(epochs, int) or epochs > config.training.epochs:
        raise ConfigError(
            f"training.epochs: got {config.training.epochs}; expected at least {epochs}, the length of {path}"
        )


def _delete(path: Path) -> None:
    """Delete a run file, unless another trainer is at work on it."""
    lock = WriterLock(path)
    try:
        path.unlink()
    except OSError as error:
        raise RunFileError(f"{path}: cannot be replaced: {error.strerror}") from error
    finally:
        lock.close()


def _remove_empty(folder: Path, *, made: bool) -> None:
    """Remove a folder that was made for nothing, with the locks of runs that never began."""
    if not made:
        return
    for lock in folder.glob(f"*/.{RUN_FILE}.lock"):
        lock.unlink(missing_ok=True)
    for inner in (*folder.glob("*"), folder):
        try:
            inner.rmdir()
        except OSError:
            continue
