"""The composition root: config + components → data, models, step, loop and sinks, and the walk of one run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from rich.console import Console
from torch import Tensor, nn

from elboverse import conformance, environment
from elboverse.config import ExperimentConfig, load, to_table
from elboverse.contracts import Data, Model, Penalty, Projection, SamplingFree
from elboverse.errors import ConfigError, Interrupted, NonFiniteError
from elboverse.interrupts import stop_on_signals
from elboverse.registry import Selection
from elboverse.runfile import Run, RunWriter
from elboverse.seeding import derived_seed
from elboverse.sinks import Sink
from elboverse.sinks.progress import ProgressSink
from elboverse.sinks.run_file import RunFileSink
from elboverse.sinks.tensorboard import TensorBoardSink
from elboverse.training.batches import Batches, chunk_length
from elboverse.training.evaluation import MOST_TRAINING_POINTS, Evaluator, first_points
from elboverse.training.loop import Loop, Observer, Plan
from elboverse.training.pictures import Painter, is_image
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, Step, StepSettings

__all__ = ["Experiment", "build_experiment", "default_folder", "train"]

RUN_FILE = "run.h5"
ROWS_AT_ONCE = 16_384
"""How many latents, points times samples, go through the decoder together; more leave the processor's cache."""

TENSORBOARD_FOLDER = "tensorboard"


@attrs.frozen(eq=False, kw_only=True)
class Experiment:
    """A run, built and ready to go.

    Args:
        config: the resolved config.
        data: of the first replica.
        loop: trains and yields records.
        latent_dim: H.
        documents: what the run file keeps beside the numbers.
        device: where it trains.
    """

    config: ExperimentConfig
    data: Data
    loop: Loop
    latent_dim: int
    documents: Mapping[str, Any]
    device: torch.device


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
        RunFileError: the run file exists, is in use by another trainer, or cannot be written.
        NonFiniteError: a training quantity became infinite or not a number; what came before is saved.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    if not isinstance(config, ExperimentConfig):
        config = load(config)
    folder = default_folder(config) if out is None else Path(out)
    path = folder / RUN_FILE
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
    run_file = RunFileSink(writer)
    sinks: list[Sink] = [run_file]
    try:
        total_steps = experiment.loop.plan.total_steps
        tensorboard = folder / TENSORBOARD_FOLDER
        for stale in tensorboard.glob("events.out.tfevents.*"):
            stale.unlink()
        sinks.append(TensorBoardSink(tensorboard, total_steps, experiment.latent_dim))
        if console is not None:
            sinks.append(ProgressSink(console, total_steps))
        _run(experiment.loop, sinks, run_file, path)
    finally:
        for sink in reversed(sinks):
            sink.close()
    return Run.open(path)


def _run(loop: Loop, sinks: Sequence[Sink], run_file: RunFileSink, path: Path) -> None:
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
        finished = loop.finished
        run_file.save_at_the_end("finished" if finished else "interrupted", loop.state(), loop.done)
    if caught.number is not None and not finished:
        message = f"interrupted after step {loop.done:,} of {loop.plan.total_steps:,}; all of it is saved in {path}"
        raise Interrupted(message, caught.number)


def build_experiment(config: ExperimentConfig) -> Experiment:
    """Return the run that a config describes, built but not started.

    Raises:
        ConfigError: the config does not fit the data, the model or this machine.
        DataError: the data cannot be used.
        PluginError: a component breaks its contract.
    """
    training = config.training
    device = environment.resolve_device(training.device)
    dtype = {"float32": torch.float32, "float64": torch.float64}[training.dtype]
    seeds = tuple(range(config.seed, config.seed + training.replicas))

    datasets = [conformance.require_data(config.dataset.build(seed), _who(config.dataset)) for seed in seeds]
    data = datasets[0]
    train_points = _stacked([part.train for part in datasets], datasets, dtype, device)
    held_out_points = _stacked([part.held_out for part in datasets], datasets, dtype, device)

    modules = [_build_model(config.model, data.shape, seed).to(device=device, dtype=dtype) for seed in seeds]
    probe = first_points(train_points, 2)
    latent_dim = conformance.require_model(modules[0], probe[0] if probe.ndim == 3 else probe, _who(config.model))
    models = cast(list[Model], modules)  # as has been checked just now
    constraint: Projection | Penalty | None = None
    if config.constraint is not None:
        constraint = conformance.require_constraint(config.constraint.build(), modules[0], _who(config.constraint))

    step = _build_step(models, constraint, config)
    sample_shape: tuple[int, ...] | None = (training.samples,) if training.samples > 1 else ()
    if isinstance(models[0], SamplingFree):
        sample_shape = None
    batch_size = training.batch_size
    item_size = torch.empty((), dtype=dtype).element_size()
    batches = Batches(
        train_points,
        seeds,
        batch_size,
        None if sample_shape is None else (*sample_shape, batch_size, latent_dim),
        chunk_length(training.samples, batch_size, latent_dim, item_size),
    )
    total_steps = training.epochs * batches.steps_per_epoch
    plan = Plan(
        total_steps=total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        evaluate_every=training.evaluate_every * batches.steps_per_epoch,
        record_every=training.record_every,
        betas=conformance.require_betas(config.annealing.build(), total_steps, _who(config.annealing)),
    )
    on_train = Evaluator("train", first_points(train_points, MOST_TRAINING_POINTS), seeds, sample_shape, latent_dim)
    observers: list[Observer] = [on_train]
    if len(data.held_out):
        observers.append(Evaluator("held_out", held_out_points, seeds, sample_shape, latent_dim))
        if is_image(data.shape):
            observers.append(Painter(held_out_points, data.shape, data.scaling, latent_dim, config.seed))
    names = models[0].variance_parameters()
    loop = Loop(
        plan,
        step,
        batches,
        observers,
        (on_train, names) if training.variances == "optimal" and names.closed_form else None,
        dimension=data.dimension,
        dtype=dtype,
        device=device,
    )
    return Experiment(
        config=config,
        data=data,
        loop=loop,
        latent_dim=latent_dim,
        documents=_documents(config, data, device),
        device=device,
    )


def _build_model(selection: Selection, shape: tuple[int, ...], seed: int) -> nn.Module:
    """Return a model whose initial weights depend on the seed alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        model: nn.Module = selection.build(shape)
    return model


def _build_step(models: list[Model], constraint: Projection | Penalty | None, config: ExperimentConfig) -> Step:
    training = config.training
    settings = StepSettings(
        constraint=constraint,
        optimal=training.variances == "optimal",
        learning_rate=training.learning_rate,
        variance_learning_rate=training.variance_learning_rate,
        samples_at_once=max(1, ROWS_AT_ONCE // training.batch_size),
    )
    return SingleStep(models[0], settings) if len(models) == 1 else ReplicatedStep(models, settings)


def _stacked(parts: list[Tensor], datasets: list[Data], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return points (N, D) where all replicas have the same, else (R, N, D)."""
    if len({data.fingerprint for data in datasets}) == 1:
        return parts[0].to(device=device, dtype=dtype).contiguous()
    return torch.stack([part.to(device=device, dtype=dtype) for part in parts])


def _who(selection: Selection) -> str:
    return f"{selection.registered.kind} {selection.name!r} of plugin {selection.registered.plugin}"


def _documents(config: ExperimentConfig, data: Data, device: torch.device) -> dict[str, Any]:
    return {
        "config": to_table(config),
        "environment": environment.describe(device),
        "components": [
            {
                "kind": selection.registered.kind,
                "name": selection.name,
                "plugin": selection.registered.plugin.name,
                "distribution": selection.registered.plugin.distribution,
                "version": selection.registered.plugin.version,
            }
            for selection in _selections(config)
        ],
        "data": {
            "train_points": len(data.train),
            "held_out_points": len(data.held_out),
            "dimension": data.dimension,
            "shape": list(data.shape),
            "names": list(data.names),
            "unit": data.unit,
            "fingerprint": data.fingerprint,
            "scaling": {
                "kind": data.scaling.kind,
                "offset": data.scaling.offset.tolist(),
                "scale": data.scaling.scale.tolist(),
            },
            "train_log_likelihood": data.train_log_likelihood,
            "held_out_log_likelihood": data.held_out_log_likelihood,
        },
    }


def _selections(options: Any) -> list[Selection]:
    """Return every component that a config selects, those that a component selects included."""
    found: list[Selection] = []
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        if isinstance(value, Selection):
            found += [value, *_selections(value.options)]
    return found
