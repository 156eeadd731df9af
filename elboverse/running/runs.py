"""The walk of one run: build the experiment, pass its records to the sinks, save in time; start, resume, repeat."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from elboverse.components.local import LocalPlugin
from elboverse.components.registry import Registry, attributed, discover
from elboverse.config import ExperimentConfig, anchored, apply_override, from_table, to_table
from elboverse.contracts import Data, Ending, Sink
from elboverse.errors import ConfigError, Interrupted, PluginError, RunFileError
from elboverse.runfile import RUN_FILE, Run, RunWriter, WriterLock, located
from elboverse.running import environment
from elboverse.running.assembly import Experiment, build_experiment, describe_components, selections
from elboverse.running.given_data import resolved, with_data
from elboverse.running.interrupts import stop_on_signals
from elboverse.running.sinks import OwnSink
from elboverse.running.sinks.chosen import ChosenSinks, chosen_sinks
from elboverse.running.sinks.floor import FloorSink
from elboverse.running.sinks.progress import ProgressSink
from elboverse.running.sinks.report import ReportSink
from elboverse.running.sinks.run_file import RunFileSink
from elboverse.training.certifying import certify
from elboverse.training.stopping import UntilStationary, certificates_of
from elboverse.training.threads import restored_threads
from elboverse.warning import warn

__all__ = ["RUN_FILE", "default_folder", "differences", "resume", "train"]

LARGEST_COUNT: Final = 10**9
"""A run file that counts more steps or replicas was not written by us: both take memory."""

CHANGEABLE: Final = (
    "dataset.path",
    "dataset.root",
    "sinks",
    "training.epochs",
    "training.until",
    "training.max_epochs",
    "training.tolerance",
    "training.polish_steps",
)
"""What may be changed when a run is resumed: its length, its sinks, and where its data are, whose fingerprint must
agree."""


def default_folder(config: ExperimentConfig) -> Path:
    """Return ``runs/<name>-<time>``, a folder that does not exist yet."""
    stem = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder


@restored_threads()
def train(
    config: Any = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    like: Run | None = None,
    report: Callable[[int, int, str], None] | None = None,
    save_every_seconds: float | None = None,
    plugins: Iterable[LocalPlugin] = (),
    sinks: Iterable[Sink] = (),
) -> Run:
    """Train what a config describes and return the finished run.

    Writes ``run.h5`` into the folder `out`, which is made if need be, and what the config's sinks write: TensorBoard's
    log in ``tensorboard/`` unless it says otherwise.

    Args:
        config: a config, a table, a TOML file, the name of a shipped config, or None for the default one. Points in
            memory in its place are trained on with sensible settings, and so they are as the ``dataset`` of a table:
            arrays, tensors, DataFrames, sparse matrices, AnnData, Bunches. The run file keeps their fingerprint; what
            needs them later is given them again, as in ``run.model(data=X)``.
        out: the run's folder; ``runs/<name>-<time>`` by default.
        overwrite: replace a ``run.h5`` that is there already.
        console: where progress is shown; nowhere by default.
        like: an earlier run that is repeated. Where the config is its own, so is what that run worked out for itself:
            how replicas are grouped, and, if it was extended, the length that its annealing was laid out for. Where
            its data were others, a warning says so.
        report: called now and then with the steps done, the steps of the run, and a line of numbers.
        save_every_seconds: least time between two saves, where it is to be another one than the config's.
        plugins: plugins without packaging: files, modules, or `Component` records that name their kind.
        sinks: what else follows the run, beside the sinks of the config: objects as of `contracts.Sink`.

    Raises:
        ConfigError: the config cannot be used.
        DataError: the data cannot be used.
        PluginError: a component breaks its contract or fails; what came before is saved.
        RunFileError: the run file exists, is in use by another trainer, or cannot be written.
        NonFiniteError: a training quantity became infinite or not a number; what came before is saved.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    config, data = resolved(config, discover(plugins=plugins) if plugins else None)
    folder = default_folder(config) if out is None else Path(out)
    path = folder / RUN_FILE
    if path.exists() and not overwrite:
        raise RunFileError(f"{path}: already exists; give --overwrite to replace it, or another folder with --out")
    table = to_table(config)
    experiment = _build(config, like if like is not None and _is_of(like, table) else None)
    same_source = like is not None and all(like.config.get(key) == table[key] for key in ("seed", "dataset"))
    if like is not None and same_source and like.data.get("fingerprint") != _fingerprint(experiment):
        warn(
            f"the dataset {config.dataset.name!r} gives other data than for {like.path} (fingerprint "
            f"{_fingerprint(experiment)}, not {like.data.get('fingerprint')}), so the numbers will differ."
        )
    followers = chosen_sinks(config.sinks, sinks)
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
        minimum_interval=_interval(config, save_every_seconds),
    )
    return _execute(experiment, RunFileSink(writer), writer.path, console, report, followers).with_data(data)


@restored_threads()
def resume(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    console: Console | None = None,
    registry: Registry | None = None,
    report: Callable[[int, int, str], None] | None = None,
    save_every_seconds: float | None = None,
    plugins: Iterable[LocalPlugin] = (),
    data: Any = None,
    sinks: Iterable[Sink] = (),
) -> Run:
    """Resume a run that was interrupted or failed, or extend a finished one, and return it.

    The run ends bitwise as if it had never been interrupted (on the same machine with as many threads, on the CPU).
    A run that is extended ends as the longer run would have, with two exceptions. An annealing schedule that is not
    constant keeps the length that it was laid out for, and beyond it β keeps its last value. Of frames, whose moments
    follow from the length of the run, those taken before the former end stay, and the longer run's follow after it.

    Args:
        path: the run's folder or its ``run.h5``.
        overrides: ``"training.epochs=300"`` extends the run; nothing else may be changed.
        console: where progress is shown; nowhere by default.
        registry: the components; those of all installed plugins by default.
        report: as for `train`.
        save_every_seconds: as for `train`.
        plugins: as for `train`; a file must still be the one that the run was made with.
        data: the data of the run, in memory or the path that they have moved to; their fingerprint must agree.
        sinks: as for `train`.

    Raises:
        ConfigError: another setting was to be changed, or there is nothing left to do.
        RunFileError: no such run exists, it is damaged, its data have changed, or another trainer is at work on it.
        NonFiniteError, PluginError, Interrupted: as for `train`.
    """
    if plugins:
        registry = (discover() if registry is None else registry).joined(plugins)
    path = located(path)
    Run.open(path).close()  # a file that is none is told so before a lock is made beside it
    lock = WriterLock(path)
    try:
        experiment, documents, done, seconds = _restored(path, overrides, registry, data)
        followers = chosen_sinks(experiment.config.sinks, sinks)
        writer = RunWriter.resume(
            path,
            documents=documents,
            minimum_interval=_interval(experiment.config, save_every_seconds),
            lock=lock,
        )
    except BaseException:
        lock.close()
        raise
    record_every = experiment.loop.plan.record_every
    # Where a finished run is extended, its last row and evaluation may be none of the longer run's.
    writer.truncate((done - 1) // record_every * record_every, done - 1)
    run_file = RunFileSink(writer, done, seconds)
    return _execute(experiment, run_file, writer.path, console, report, followers).with_data(data)


def differences(run: Run, config: ExperimentConfig) -> list[str]:
    """Return what differs between the circumstances of an earlier run and those here, a sentence each.

    Args:
        run: the earlier run.
        config: what is to be run here.
    """
    before, here = run.environment, environment.describe(environment.resolve_device(config.training.device))
    found = [
        f"{key}: {before.get(key)} then, {here.get(key)} now"
        for key in ("elboverse", "python", "machine", "device")
        if before.get(key) != here.get(key)
    ]
    packages_before, packages = before.get("packages"), here["packages"]
    packages_before = packages_before if isinstance(packages_before, dict) else {}
    found += [
        f"{name}: {packages_before.get(name)} then, {version} now"
        for name, version in packages.items()
        if packages_before.get(name) != version
    ]
    found += _other_versions(run, config)
    return found


def _other_versions(run: Run, config: ExperimentConfig) -> list[str]:
    """Return which components come from another distribution or version than when a run began, or went on last."""
    resumed = run.environment.get("resumed")
    last = resumed[-1] if isinstance(resumed, list) and resumed and isinstance(resumed[-1], dict) else {}
    recorded = last.get("components")
    earlier = [part for part in (recorded if isinstance(recorded, list) else run.components) if isinstance(part, dict)]
    found = []
    for part in describe_components(config):
        same = [one for one in earlier if (one.get("kind"), one.get("name")) == (part["kind"], part["name"])]
        # A kind that the earlier version did not have yet is the same component now, by its default.
        # What follows a run may be chosen anew.
        if not same and (part["kind"] == "sink" or not any(one.get("kind") == part["kind"] for one in earlier)):
            continue
        then = f"{same[0].get('distribution')} {same[0].get('version')}" if same else "unknown"
        now = f"{part['distribution']} {part['version']}"
        if then != now:
            found.append(f"{part['kind']} {part['name']}: {then} then, {now} now")
    return found


def _restored(
    path: Path, overrides: Iterable[str], registry: Registry | None, data: Any
) -> tuple[Experiment, dict[str, Any], int, float]:
    """Return the experiment of a run file at its checkpoint, its documents from now on, and steps and seconds done."""
    with Run.open(path) as run:
        registry = (discover() if registry is None else registry).as_recorded(run.components)
        registry, table = with_data(registry, run.config, data)
        config = _extended(table, overrides, registry)
        changed = _other_versions(run, config)
        if changed:
            warn(f"{path}: {'; '.join(changed)}. The run goes on, and the run file says so.")
        experiment = _build(config, run)
        found, fingerprint = _fingerprint(experiment), run.data.get("fingerprint")
        if found != fingerprint:
            raise RunFileError(
                f"{path}: the dataset {config.dataset.name!r} gives other data than when the run began "
                f"(fingerprint {found}, not {fingerprint}), so the run cannot go on as it was"
            )
        loop, done = experiment.loop, run.checkpoint_step
        if isinstance(loop, UntilStationary):
            loop.load(run.checkpoint(), done)
            if loop.finished and not loop.extend():
                raise ConfigError(f"{path}: the run has ended stationary, or its polish_steps are spent")
        elif done > loop.plan.total_steps or (done == loop.plan.total_steps and run.status == "finished"):
            epochs = config.training.epochs
            raise ConfigError(
                f"{path}: all {epochs} epochs are done; extend the run with --set training.epochs={2 * epochs}, say"
            )
        if not isinstance(loop, UntilStationary):
            loop.load(run.checkpoint(), done)
        earlier = run.environment.get("resumed")
        resumed = [
            *(earlier if isinstance(earlier, list) else []),
            {"step": done, **experiment.documents["environment"], "components": describe_components(config)},
        ]
        documents = {**experiment.documents, "environment": {**run.environment, "resumed": resumed}}
        return experiment, documents, done, run.training_seconds or 0.0


def _build(config: ExperimentConfig, like: Run | None) -> Experiment:
    """Return the run that a config describes, with what an earlier run worked out for itself, if there is one."""
    annealing_steps = None if like is None else _positive(like, "schedule", "annealing_steps")
    replica_group = None if like is None else _positive(like, "engine", "replica_group")
    threads = None if like is None else _positive(like, "engine", "threads")
    with attributed(selections(config)):
        return build_experiment(config, annealing_steps, replica_group, threads)


def _positive(run: Run, document: str, key: str) -> int | None:
    """Return a positive integer in a document of a run file; None if the file does not say."""
    table = run.documents.get(document)
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, int) and 1 <= value <= LARGEST_COUNT else None


def _fingerprint(experiment: Experiment) -> str:
    return str(experiment.documents["data"]["fingerprint"])


def _extended(before: Mapping[str, Any], overrides: Iterable[str], registry: Registry | None) -> ExperimentConfig:
    table = dict(before)
    for text in overrides:
        key = apply_override(table, text)
        if key not in CHANGEABLE:
            raise ConfigError(
                f"--set {text}: {key} cannot be changed when a run is resumed, only {', '.join(CHANGEABLE)}; "
                "start another run to change it"
            )
    table = anchored(table, Path.cwd())
    config = from_table(table, registry)
    was, now = from_table({**before, "sinks": []}, registry).training.epochs, config.training.epochs
    if now < was:
        raise ConfigError(f"training.epochs: got {now}; expected at least {was}, the length of the run")
    return config


def _interval(config: ExperimentConfig, seconds: float | None) -> float:
    return config.training.save_every_seconds if seconds is None else seconds


def _execute(
    experiment: Experiment,
    run_file: RunFileSink,
    path: Path,
    console: Console | None,
    report: Callable[[int, int, str], None] | None,
    followers: ChosenSinks,
) -> Run:
    loop = experiment.loop
    sinks: list[OwnSink] = [run_file, FloorSink()]
    status: Ending = "failed"
    try:
        total_steps = loop.plan.total_steps
        followers.begin(experiment.described(path.parent))
        if report is not None:
            sinks.append(ReportSink(report, total_steps))
        if console is not None:
            heading = _describe_data(experiment.data)
            sinks.append(ProgressSink(console, total_steps, done=loop.done, heading=heading))
        try:
            with attributed(selections(experiment.config)):
                _walk(experiment, sinks, run_file, path, followers)
            status = "finished"
        except Interrupted:
            status = "interrupted"
            raise
        except PluginError as error:
            raise PluginError(
                f"{error}\nWhat came before is saved in {path}. Once the plugin is mended, resume:\n"
                f"  elboverse train --resume {shlex.quote(str(path))}"
            ) from error
    finally:
        followers.end(status)
        for sink in reversed(sinks):
            sink.close()
    return Run.open(path)


def _is_of(run: Run, table: Mapping[str, Any]) -> bool:
    """Return whether a run is of that config; what follows it while it is trained is of no account."""
    one, other = ({key: value for key, value in config.items() if key != "sinks"} for config in (run.config, table))
    return one == other


def _certificates(experiment: Experiment) -> dict[str, Any]:
    """Return the certificate of every replica of a run that has ended, as a document."""
    loop, objective = experiment.loop, experiment.objective
    if isinstance(loop, UntilStationary):
        return loop.document()
    if objective is None:
        return {"step": loop.done, "replicas": []}
    found = {}
    tensors = {path: tensor for path, tensor in loop.step.tensors().items() if path.startswith("model/")}
    for replica in range(loop.step.replicas):
        full = objective(replica)
        theta = full.load({path.removeprefix("model/"): tensor[replica] for path, tensor in tensors.items()})
        found[replica] = certify(full, theta, experiment.config.training.tolerance, try_steps=True)
    return certificates_of(found, loop.done)


def _describe_data(data: Data) -> str:
    shape = "×".join(str(length) for length in data.shape)
    if data.stream is not None:
        regimes = ", ".join(regime.name for regime in data.stream.regimes)
        return (
            f"Data: a stream of points of shape {shape}, {data.stream.points_per_pass:,} in a pass, regimes: {regimes}"
        )
    kind = f"bytes, scaled as {data.scaling.kind}"  # of which there may be gigabytes, on the disk
    if data.train.is_floating_point():
        low, high = data.value_range()
        kind = f"values {low:.4g} to {high:.4g}{f' {data.unit}' if data.unit else ''}, scaling {data.scaling.kind}"
    described = (
        f"Data: {len(data.train):,} training and {len(data.held_out):,} held-out points of shape {shape}, {kind}"
    )
    return "\n  ".join((described, *data.notes))


def _walk(
    experiment: Experiment, sinks: Sequence[OwnSink], run_file: RunFileSink, path: Path, followers: ChosenSinks
) -> None:
    loop = experiment.loop
    with stop_on_signals(loop.stop) as caught:
        try:
            for records in loop.rounds():
                for record in records:
                    for sink in sinks:
                        sink.receive(record)
                    followers.receive(record)
                if run_file.due and run_file.save_on_the_way(loop.state(), loop.done):
                    followers.saved(loop.done)
        except (Exception, SystemExit) as error:  # a number that is not finite, or what a plugin raised
            try:
                run_file.save_at_the_end("failed", loop.state(), loop.done)
            except RunFileError as second:
                raise RunFileError(f"{error}\nBesides, {second}") from error
            raise
        if loop.finished:
            try:
                document = _certificates(experiment)
            except Exception as error:  # noqa: BLE001 - whatever a model of a plugin raises: the run itself has ended well
                document = {"step": loop.done, "replicas": [], "obstacle": f"{type(error).__name__}: {error}"}
            run_file.put_document("certificate", document)
        run_file.save_at_the_end("finished" if loop.finished else "interrupted", loop.state(), loop.done)
        followers.saved(loop.done)
    if caught.number is not None and not loop.finished:
        message = (
            f"Interrupted after step {loop.done:,} of {loop.plan.total_steps:,}; all of it is saved in {path}. "
            f"To resume:\n  elboverse train --resume {shlex.quote(str(path))}"
        )
        raise Interrupted(message, caught.number)
