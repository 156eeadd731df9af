"""The composition root: a config and the components that it names become data, models, a step and a loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from elboverse.components import conformance
from elboverse.components.behaviour import require_behaviour, require_equal_builds, require_known_methods
from elboverse.components.family_behaviour import require_family_behaviour
from elboverse.components.parts import require_parts
from elboverse.components.registry import Selection
from elboverse.config import ExperimentConfig, TrainingConfig
from elboverse.contracts import Constrainable, Data, Model, Penalty, Projection, RunDescription, SamplingFree, is_image
from elboverse.contracts.optimiser import Optimiser
from elboverse.data.conditions import with_conditions
from elboverse.errors import ConfigError, ReplicasDifferError
from elboverse.running import environment
from elboverse.running.description import (
    describe_components,
    describe_model,
    describe_parameters,
    run_documents,
    selections,
)
from elboverse.running.family import describe_family, layout_of, objective_of, require_fitting
from elboverse.seeding import derived_seed
from elboverse.theory import families
from elboverse.theory.families import Family
from elboverse.training.batches import Batches, Renew
from elboverse.training.drawing import build_drawing_step
from elboverse.training.evaluation import MOST_TRAINING_POINTS, Evaluator, first_points
from elboverse.training.family_evaluation import FamilyStatistics
from elboverse.training.family_gradients import ELBO, Objective
from elboverse.training.frames import Camera, frame_steps
from elboverse.training.full_batch import FullBatch, objectives
from elboverse.training.grouped import build_step, measure_grouping, measure_threads
from elboverse.training.intake import Intake
from elboverse.training.loop import Loop, Observer, Plan, Source
from elboverse.training.noise import Noise, chunk_length
from elboverse.training.pictures import COUNT, Painter
from elboverse.training.step import StepSettings
from elboverse.training.stopping import UntilStationary
from elboverse.training.streaming import StreamedBatches, Timetable
from elboverse.warning import warn

__all__ = ["Experiment", "build_experiment", "describe_components", "selections"]

TIMES_EPOCHS: Final = 10
"""How many times `epochs` mini-batches may take with ``until = "stationary"``, if `max_epochs` does not say."""

MOST_STEPS: Final = 100_000_000
"""The weight β of each step is worked out beforehand, and a row of each is kept in memory."""

BUILT_TWICE: Final = 5_000_000
"""Models of at most so many parameters are built once more, to see that they come out equal."""

DEFAULT_BATCH: Final = 1024
"""Points per step where a config does not say, if there are so many."""

ROWS_AT_ONCE: Final = 8192
"""How many latents, points times samples, go through the decoder together; more leave the processor's cache."""


@attrs.frozen(eq=False, kw_only=True)
class Experiment:
    """A run, built and ready to go.

    Args:
        config: the resolved config.
        data: of the first replica.
        loop: trains and yields records.
        objective: returns the full-batch objective of a replica; None for a stream, which has none.
        latent_dim: H.
        documents: what the run file keeps beside the numbers.
        device: where it trains.
    """

    config: ExperimentConfig
    data: Data
    loop: Loop | UntilStationary
    objective: Callable[[int], FullBatch] | None
    latent_dim: int
    documents: Mapping[str, Any]
    device: torch.device

    def described(self, folder: Path) -> RunDescription:
        """Return what sinks are told of the run, before its next step."""
        documents = self.documents
        return RunDescription(
            folder=folder,
            name=self.config.name,
            config=documents["config"],
            components=tuple(documents["components"]),
            data=documents["data"],
            environment=documents["environment"],
            total_steps=self.loop.plan.total_steps,
            latent_dim=self.latent_dim,
            replicas=self.config.training.replicas,
            record_every=self.loop.plan.record_every,
            done=self.loop.done,
        )


def build_experiment(
    config: ExperimentConfig,
    annealing_steps: int | None = None,
    replica_group: int | None = None,
    threads: int | None = None,
) -> Experiment:
    """Return the run that a config describes, built but not started.

    Args:
        config: the resolved config.
        annealing_steps: length that the annealing schedule is laid out for; beyond it β keeps its last value. The
            length of the run by default; a run that is extended keeps its first one.
        replica_group: how many replicas share a vectorised step, where an earlier part of the run has found that out.
        threads: how many threads the run computes with, where an earlier part of it has found that out. The number is
            set for the process; see `threads.restored_threads`.

    Raises:
        ConfigError: the config does not fit the data, the model or this machine.
        DataError: the data cannot be used.
        PluginError: a component breaks its contract.
    """
    training = config.training
    device = environment.resolve_device(training.device)
    dtype = {"float32": torch.float32, "float64": torch.float64}[training.dtype]
    seeds = tuple(range(config.seed, config.seed + training.replicas))

    loaded = _load(config.dataset, seeds)
    data = loaded[0]
    if training.batch_size is None:
        count = len(data.train) if data.stream is None else DEFAULT_BATCH
        training = attrs.evolve(training, batch_size=min(DEFAULT_BATCH, count))
        config = attrs.evolve(config, training=training)  # what is recorded says how large the batches were
    parts = _with_conditions(loaded)  # what batches hold: points, with their conditions behind them
    intake = Intake.of(parts[0], device, dtype)
    look = intake(parts[0].train[:2])

    require_parts(selections(config.model.options), data.shape, int(getattr(config.model.options, "latent_dim", 2)))
    modules = [_build_model(config.model, data, seed).to(device=device, dtype=dtype) for seed in seeds]
    latent_dim = conformance.require_model(modules[0], look, _who_of_model(config), data.dimension)
    family = families.described(modules[0], look)
    require_fitting(loaded, modules[0], config)
    if family.gaussian:
        draws = require_behaviour(modules[0], look, latent_dim, _who_of_model(config), samples=training.samples)
    else:
        require_known_methods(modules[0], _who_of_model(config))
        draws = require_family_behaviour(modules[0], look, latent_dim, _who_of_model(config))
    if sum(value.numel() for value in modules[0].parameters()) <= BUILT_TWICE:
        again = _build_model(config.model, data, seeds[0]).to(device=device, dtype=dtype)
        require_equal_builds(modules[0], again, _who_of_model(config))
    models = cast(list[Model], modules)  # as has been checked just now
    statistics = None if family.gaussian else FamilyStatistics(family, latent_dim, data.dimension)
    aim = objective_of(config, models[0], look)
    constraint: Projection | Penalty | None = None
    if config.constraint is not None:
        constraint = conformance.require_constraint(config.constraint.build(), modules[0], _who(config.constraint))
        _warn_of_fixed_prior(constraint, models[0], config)

    sample_shape: tuple[int, ...] | None = (training.samples,) if training.samples > 1 else ()
    if isinstance(models[0], SamplingFree):
        sample_shape = None
    batch_size = cast(int, training.batch_size)
    item_size = torch.empty((), dtype=dtype).element_size()
    noise = Noise(
        None if sample_shape is None else (*sample_shape, batch_size, latent_dim),
        seeds,
        chunk_length(training.samples, batch_size, latent_dim, item_size),
        dtype,
        device,
    )
    source = _source(parts, seeds, batch_size, noise, intake)
    batches = source.batches
    until_stationary = training.until == "stationary"
    if until_stationary and data.stream is not None:
        raise ConfigError(
            'training.until: got "stationary"; expected "epochs", since a stream has no end to be stationary over'
        )
    exactly_gaussian = family.gaussian and aim == ELBO
    if until_stationary and not exactly_gaussian:
        raise ConfigError(
            'training.until: got "stationary"; expected "epochs", since the training certificate is known for models '
            "of three diagonal Gaussians trained by the ELBO alone; judge others by `elboverse analyze stationarity`"
        )
    epochs = _most_epochs(training, batches.steps_per_epoch) if until_stationary else training.epochs
    total_steps = epochs * batches.steps_per_epoch
    if total_steps > MOST_STEPS:
        raise ConfigError(
            f"training.epochs: got {training.epochs:,}, which are {total_steps:,} steps; "
            f"expected at most {MOST_STEPS:,} steps, so give fewer epochs or a larger batch_size"
        )
    template = copy.deepcopy(modules[0])  # before a step takes its parameters over
    optimiser = conformance.require_optimiser(config.optimiser)
    settings = _step_settings(constraint, training, optimiser, family, aim)
    given = threads if training.threads == "auto" else training.threads
    most = torch.get_num_threads() if device.type == "cpu" else 1
    torch.set_num_threads(given or 1)
    replica_group = 1 if draws else _replica_group(models, settings, batches, config, replica_group)
    if given is None and most > 1:
        x, step_noise = _one_batch(batches, len(models))
        torch.set_num_threads(measure_threads(models[:replica_group], settings, x, step_noise, most))
    laid_out = training.epochs * batches.steps_per_epoch
    annealing_steps = laid_out if annealing_steps is None else min(annealing_steps, total_steps)
    betas = conformance.require_betas(config.annealing.build(), annealing_steps, _who(config.annealing))
    epochs_between = min(training.evaluate_every, training.epochs)  # where it is longer than the run, that is never
    plan = Plan(
        total_steps=total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        evaluate_every=max(1, round(epochs_between * batches.steps_per_epoch)),
        record_every=training.record_every,
        turns=source.turns,
        frames=frame_steps(total_steps, training.frames) if training.frames else (),
        rates=conformance.require_rates(config.learning_rate_schedule, annealing_steps, total_steps),
        betas=np.pad(betas, (0, max(0, total_steps - annealing_steps)), mode="edge")[:total_steps],
    )
    on_train = Evaluator("train", source.train, seeds, sample_shape, latent_dim, intake, statistics)
    observers: list[Observer] = [on_train]
    if len(data.held_out):
        observers.append(Evaluator("held_out", source.held_out, seeds, sample_shape, latent_dim, intake, statistics))
        if is_image(data.shape):
            painted = intake(parts[0].held_out[:COUNT])
            observers.append(Painter(painted, data.shape, data.scaling, latent_dim, config.seed))
    names = models[0].variance_parameters()
    loop = Loop(
        plan,
        build_drawing_step(models, settings, seeds) if draws else build_step(models, settings, replica_group),
        batches,
        observers,
        (on_train, names) if training.variances == "optimal" and names.closed_form else None,
        Camera(training.frames, parts, seeds, latent_dim, intake) if training.frames else None,
        dimension=data.dimension,
        dtype=dtype,
        device=device,
        layout=layout_of(family, aim),
    )
    wide = Intake.of(parts[0], device, torch.float64)
    beta = float(plan.betas[-1]) if len(plan.betas) else 1.0

    objective = objectives(template, [part.train for part in parts], wide, seeds, training.samples, beta, constraint)
    walked = UntilStationary(loop, objective, training) if until_stationary else loop
    return Experiment(
        config=config,
        data=data,
        loop=walked,
        objective=objective if data.stream is None and exactly_gaussian else None,
        latent_dim=latent_dim,
        documents={
            **run_documents(config, data, device, annealing_steps, replica_group),
            "model": {
                **describe_model(cast(Model, template), family),
                "parameters": describe_parameters(template, look),
            },
            "family": describe_family(template, family, loaded),
        },
        device=device,
    )


def _most_epochs(training: TrainingConfig, steps_per_epoch: int) -> int:
    """Return how many epochs of mini-batches there may be before the polish; training passes on when it stalls."""
    most = MOST_STEPS // steps_per_epoch
    return max(training.epochs, training.max_epochs or min(TIMES_EPOCHS * training.epochs, most))


def _with_conditions(loaded: Sequence[Data]) -> list[Data]:
    """Return each replica's data with the conditions behind the points; those that are equal stay one."""
    joined = {id(data): with_conditions(data) for data in loaded}
    return [joined[id(data)] for data in loaded]


def _build_model(selection: Selection, data: Data, seed: int) -> nn.Module:
    """Return a model whose initial weights depend on the seed alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        conditions = 0 if data.conditions is None else data.conditions.shape[1]
        return conformance.require_module(selection.build_given(conditions, data.shape), _who(selection))


def _warn_of_fixed_prior(constraint: Projection | Penalty, model: Model, config: ExperimentConfig) -> None:
    """Warn where a constraint fixes the scale of a weight, whatever it was, and no prior variance makes up for it."""
    if not isinstance(constraint, Projection) or model.variance_parameters().prior is not None:
        return
    weight = model.get_parameter(cast(Constrainable, model).constrained_weight()).detach()
    if config.constraint is not None and torch.allclose(constraint.project(2 * weight), constraint.project(1 * weight)):
        warn(
            f"constraint {config.constraint.name!r} fixes the scale of the decoder's first weight, and model "
            f"{config.model.name!r} has a fixed prior that cannot make up for it: the ELBO ends lower than without "
            "it, and off the entropy sum. Leave it out, or take a model that learns its prior (vae-2)."
        )


def default_samples_at_once(batch_size: int) -> int:
    """Return how many of the K samples of each point go through the decoder together if a config does not say."""
    return max(1, ROWS_AT_ONCE // batch_size)


def _step_settings(
    constraint: Projection | Penalty | None,
    training: TrainingConfig,
    optimiser: Optimiser,
    family: Family,
    objective: Objective,
) -> StepSettings:
    return StepSettings(
        general=not family.gaussian or objective != ELBO,
        objective=objective,
        constraint=constraint,
        optimal=training.variances == "optimal",
        learning_rate=training.learning_rate,
        variance_learning_rate=training.variance_learning_rate,
        samples_at_once=training.samples_at_once or default_samples_at_once(cast(int, training.batch_size)),
        compile_mode=None if training.compile == "off" else training.compile,
        optimiser=optimiser,
        clip_norm=training.clip_norm,
    )


def _replica_group(
    models: list[Model], settings: StepSettings, batches: Source, config: ExperimentConfig, carried: int | None
) -> int:
    """Return how many replicas go through one vectorised step: as configured, as before, or as measured now."""
    given = config.training.replica_group or carried
    if len(models) == 1 or given is not None:
        return min(len(models), given or 1)
    found = measure_grouping(models, settings, *_one_batch(batches, len(models)))
    if found.obstacle:
        warn(
            f"{_who_of_model(config)} cannot be trained as replicas in one vectorised step ({found.obstacle}), "
            "so they are trained one after the other."
        )
    return found.size


def _one_batch(batches: Source, replicas: int) -> tuple[Tensor, Tensor | None]:
    """Return the first batch, of the first replica, and its noise."""
    chunk = batches.draw(0, 1)
    x, noise = next(chunk.x), None if chunk.noise is None else chunk.noise[0]
    return (x, noise) if replicas == 1 else (x[0], None if noise is None else noise[0])


def _load(selection: Selection, seeds: Sequence[int]) -> list[Data]:
    """Return each replica's data; those that are equal are kept once.

    Raises:
        ReplicasDifferError: replicas have different numbers of points, scalings of bytes, or regimes.
    """
    who = _who(selection)
    first = conformance.require_data(selection.build(seeds[0]), who)
    parts = [first]
    for seed in seeds[1:]:
        data = conformance.require_data(selection.build(seed), who)
        if data.train.shape != first.train.shape or data.held_out.shape != first.held_out.shape:
            raise ReplicasDifferError(
                f"{who}: {len(data.train)} and {len(data.held_out)} points with seed {seed}, "
                f"{len(first.train)} and {len(first.held_out)} with seed {seeds[0]}; replicas need as many each"
            )
        if data.train.dtype == torch.uint8 and not _same_scaling(data, first):
            raise ReplicasDifferError(
                f"{who}: bytes are scaled in another way with seed {seed} than with seed {seeds[0]}; "
                "replicas need one scaling, so train them as runs of their own"
            )
        if _regime_starts(data) != _regime_starts(first):
            raise ReplicasDifferError(
                f"{who}: the regimes of its stream begin elsewhere with seed {seed} than with seed {seeds[0]}; "
                "replicas need the same, so train them as runs of their own"
            )
        parts.append(first if data.fingerprint == first.fingerprint and data.stream is None else data)
    return parts


@attrs.frozen(eq=False, kw_only=True)
class _Source:
    """Where points come from.

    Args:
        batches: of the steps.
        train: what an evaluation on training points looks at; see `Evaluator`.
        held_out: what one on held-out points looks at.
        turns: see `Plan`.
    """

    batches: Batches | StreamedBatches
    train: Tensor | Callable[[int], Tensor]
    held_out: Tensor | Callable[[int], Tensor]
    turns: tuple[int, ...] = ()


def _source(parts: Sequence[Data], seeds: Sequence[int], batch_size: int, noise: Noise, intake: Intake) -> _Source:
    streams = [data.stream for data in parts if data.stream is not None]
    if streams:
        timetable = Timetable(streams[0], batch_size)
        streamed = StreamedBatches(streams, timetable, batch_size, noise, intake)
        return _Source(
            batches=streamed,
            train=lambda done: streamed.latest(done, MOST_TRAINING_POINTS),
            held_out=streamed.held_out,
            turns=timetable.turns(),
        )
    train, held_out = (_placed([getattr(data, name) for data in parts], intake) for name in ("train", "held_out"))
    return _Source(
        batches=Batches(train, seeds, batch_size, noise, intake, _renewing(parts)),
        train=first_points(train, MOST_TRAINING_POINTS),
        held_out=held_out,
    )


def _renewing(parts: Sequence[Data]) -> list[Renew] | None:
    """Return what draws the points of each replica anew; None where they stay as they are."""
    found = [data.renew for data in parts if data.renew is not None]
    return found if len(found) == len(parts) else None


def _placed(points: Sequence[Tensor], intake: Intake) -> Tensor:
    """Return the points of all replicas, (N, D) where all have the same, else (R, N, D); bytes stay where they are."""
    shared = all(part is points[0] for part in points)
    kept = [
        tensor.to(device=intake.device, dtype=intake.dtype) if tensor.is_floating_point() else tensor
        for tensor in (points[:1] if shared else points)
    ]
    return kept[0].contiguous() if shared else torch.stack(kept)


def _same_scaling(data: Data, other: Data) -> bool:
    pairs = ((data.scaling.offset, other.scaling.offset), (data.scaling.scale, other.scaling.scale))
    return all(torch.equal(one, two) for one, two in pairs)


def _regime_starts(data: Data) -> tuple[int, ...] | None:
    stream = data.stream
    return None if stream is None else (*(regime.first_point for regime in stream.regimes), stream.points_per_pass)


def _who(selection: Selection) -> str:
    return f"{selection.registered.kind} {selection.name!r} of plugin {selection.registered.plugin}"


def _who_of_model(config: ExperimentConfig) -> str:
    """Return the model and its plugin, and what of other plugins it is made of."""
    parts = [str(part.registered) for part in selections(config.model.options) if not part.registered.is_built_in]
    return f"{_who(config.model)}, with {', '.join(parts)}" if parts else _who(config.model)
