"""The walk of one run: build the experiment, pass its records to the sinks, save in time; start, resume, repeat."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from elboverse import environment
from elboverse.config import ExperimentConfig, apply_override, from_table, load
from elboverse.errors import ConfigError, Interrupted, NonFiniteError, RunFileError
from elboverse.experiment import Experiment, build_experiment, describe_components
from elboverse.interrupts import stop_on_signals
from elboverse.registry import Registry
from elboverse.runfile import Run, RunWriter
from elboverse.sinks import Sink
from elboverse.sinks.progress import ProgressSink
from elboverse.sinks.run_file import RunFileSink
from elboverse.sinks.tensorboard import TensorBoardSink
from elboverse.training.loop import Loop

__all__ = ["RUN_FILE", "default_folder", "differences", "resume", "train"]

RUN_FILE: Final = "run.h5"
TENSORBOARD_FOLDER: Final = "tensorboard"

CHANGEABLE: Final = ("training.epochs",)
"""What may be changed when a run is resumed."""


def default_folder(config: ExperimentConfig) -> Path:
    """Return ``runs/<name>-<time>``, a folder that does not exist yet."""
    stem = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder


def train(
    config: ExperimentConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Run:
    """Train what a config describes and return the finished run.

    Writes ``run.h5`` and ``tensorboard/`` into the folder `out`, which is made if need be.

    Args:
        config: a config, a table, a TOML file, the name of a shipped config, or None for the default one.
        out: the run's folder; ``runs/<name>-<time>`` by default.
        overwrite: replace a ``run.h5`` that is there already.
        console: where progress is shown; nowhere by default.

    Raises:
        ConfigError: the config cannot be used.
        DataError: the data cannot be used.
        PluginError: a component breaks its contract.
        RunFileError: the run file exists, is in use by another trainer, or cannot be written.
        NonFiniteError: a training quantity became infinite or not a number; what came before is saved.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    if not isinstance(config, ExperimentConfig):
        config = load(config)
    folder = default_folder(config) if out is None else Path(out)
    path = folder / RUN_FILE
    if path.exists() and not overwrite:
        raise RunFileError(f"{path}: exists already; give --overwrite to replace it, or another folder with --out")
    experiment = build_experiment(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made: {error.strerror}") from error
    writer = RunWriter(
        path,
        documents=experiment.documents,
        replicas=config.training.replicas,
        latent_dim=experiment.latent_dim,
        dtype=config.training.dtype,
        overwrite=overwrite,
    )
    return _execute(experiment, writer, path, console)


def resume(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    console: Console | None = None,
    registry: Registry | None = None,
) -> Run:
    """Go on with a run that was interrupted, or extend a finished one, and return it.

    The run ends bitwise as if it had never been interrupted (on the same machine with as many threads, on the CPU).

    Args:
        path: the run's folder or its ``run.h5``.
        overrides: ``"training.epochs=300"`` extends the run; nothing else may be changed.
        console: where progress is shown; nowhere by default.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: another setting was to be changed, or there is nothing left to do.
        RunFileError: there is no such run, it is damaged, it failed, its data have changed, or another trainer is
            at work on it.
        NonFiniteError, Interrupted: as for `train`.
    """
    path = Path(path)
    path = path / RUN_FILE if path.is_dir() else path
    with Run.open(path) as run:
        status, done, state = run.status, run.checkpoint_step, run.checkpoint()
        before, fingerprint = run.config, run.data.get("fingerprint")
        schedule, first_environment = run.documents.get("schedule", {}), run.environment
    if status == "failed":
        raise RunFileError(f"{path}: the run failed on a number that is not finite, so it cannot go on; start another")
    config = _extended(before, overrides, registry)
    experiment = build_experiment(config, schedule.get("annealing_steps") if isinstance(schedule, dict) else None)
    found = experiment.documents["data"]["fingerprint"]
    if found != fingerprint:
        raise RunFileError(
            f"{path}: the dataset {config.dataset.name!r} gives other data than when the run began "
            f"(fingerprint {found}, not {fingerprint}), so the run cannot go on as it was"
        )
    loop = experiment.loop
    if done >= loop.plan.total_steps:
        epochs = config.training.epochs
        raise ConfigError(
            f"{path}: all {epochs} epochs are done; extend the run with --set training.epochs={2 * epochs}, say"
        )
    loop.load(state, done)
    here = experiment.documents["environment"]
    resumed = [*first_environment.get("resumed", []), {"step": done, **here}]
    documents = {**experiment.documents, "environment": {**first_environment, "resumed": resumed}}
    writer = RunWriter.resume(path, documents=documents)
    writer.truncate(done)
    return _execute(experiment, writer, path, console)


def differences(run: Run, config: ExperimentConfig) -> list[str]:
    """Return what differs between the circumstances of an earlier run and those here, a sentence each.

    Args:
        run: the earlier run.
        config: what is to be run here.
    """
    before, here = run.environment, environment.describe(environment.resolve_device(config.training.device))
    found = [
        f"{key}: {before.get(key)} then, {here.get(key)} now"
        for key in ("elboverse", "python", "machine", "device", "threads")
        if before.get(key) != here.get(key)
    ]
    packages_before, packages = before.get("packages", {}), here["packages"]
    found += [
        f"{name}: {packages_before.get(name)} then, {version} now"
        for name, version in packages.items()
        if packages_before.get(name) != version
    ]
    versions = {(part["kind"], part["name"]): (part["distribution"], part["version"]) for part in run.components}
    for part in describe_components(config):
        then, now = versions.get((part["kind"], part["name"])), (part["distribution"], part["version"])
        if then != now:
            found.append(f"{part['kind']} {part['name']}: {' '.join(then or ('unknown',))} then, {' '.join(now)} now")
    return found


def _extended(before: Mapping[str, Any], overrides: Iterable[str], registry: Registry | None) -> ExperimentConfig:
    table = dict(before)
    for text in overrides:
        key = apply_override(table, text)
        if key not in CHANGEABLE:
            raise ConfigError(
                f"--set {text}: {key} cannot be changed when a run is resumed, only {', '.join(CHANGEABLE)}; "
                "start another run to change it"
            )
    config = from_table(table, registry)
    was, now = before["training"]["epochs"], config.training.epochs
    if now < was:
        raise ConfigError(f"training.epochs: {now} given, allowed is at least {was}, the length of the run")
    return config


def _execute(experiment: Experiment, writer: RunWriter, path: Path, console: Console | None) -> Run:
    loop = experiment.loop
    run_file = RunFileSink(writer)
    sinks: list[Sink] = [run_file]
    try:
        total_steps = loop.plan.total_steps
        folder = path.parent / TENSORBOARD_FOLDER
        sinks.append(TensorBoardSink(folder, total_steps, experiment.latent_dim, done=loop.done))
        if console is not None:
            sinks.append(ProgressSink(console, total_steps, done=loop.done))
        _walk(loop, sinks, run_file, path)
    finally:
        for sink in reversed(sinks):
            sink.close()
    return Run.open(path)


def _walk(loop: Loop, sinks: Sequence[Sink], run_file: RunFileSink, path: Path) -> None:
    with stop_on_signals(loop.stop) as caught:
        try:
            for records in loop.rounds():
                for record in records:
                    for sink in sinks:
                        sink.receive(record)
                if run_file.due:
                    run_file.save_on_the_way(loop.state(), loop.done)
        except NonFiniteError:
            run_file.save_at_the_end("failed", loop.state(), loop.done)
            raise
        run_file.save_at_the_end("finished" if loop.finished else "interrupted", loop.state(), loop.done)
    if caught.number is not None and not loop.finished:
        message = (
            f"Interrupted after step {loop.done:,} of {loop.plan.total_steps:,}; all of it is saved in {path}. "
            f"To go on:\n  elboverse train --resume {path}"
        )
        raise Interrupted(message, caught.number)
