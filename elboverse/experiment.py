"""The composition root: a config and the components that it names become data, models, a step and a loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from elboverse import conformance, environment
from elboverse.config import ExperimentConfig, to_table
from elboverse.contracts import Data, Model, Penalty, Projection, SamplingFree
from elboverse.registry import Selection
from elboverse.seeding import derived_seed
from elboverse.training.batches import Batches, chunk_length
from elboverse.training.evaluation import MOST_TRAINING_POINTS, Evaluator, first_points
from elboverse.training.loop import Loop, Observer, Plan
from elboverse.training.pictures import Painter, is_image
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, Step, StepSettings

__all__ = ["Experiment", "build_experiment", "describe_components"]

ROWS_AT_ONCE: Final = 16_384
"""How many latents, points times samples, go through the decoder together; more leave the processor's cache."""


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


def build_experiment(config: ExperimentConfig, annealing_steps: int | None = None) -> Experiment:
    """Return the run that a config describes, built but not started.

    Args:
        config: the resolved config.
        annealing_steps: length that the annealing schedule is laid out for; beyond it β keeps its last value. The
            length of the run by default; a run that is extended keeps its first one.

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
    annealing_steps = total_steps if annealing_steps is None else annealing_steps
    betas = conformance.require_betas(config.annealing.build(), annealing_steps, _who(config.annealing))
    plan = Plan(
        total_steps=total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        evaluate_every=training.evaluate_every * batches.steps_per_epoch,
        record_every=training.record_every,
        betas=np.pad(betas, (0, max(0, total_steps - annealing_steps)), mode="edge")[:total_steps],
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
        documents=_documents(config, data, device, annealing_steps),
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


def _documents(config: ExperimentConfig, data: Data, device: torch.device, annealing_steps: int) -> dict[str, Any]:
    return {
        "config": to_table(config),
        "schedule": {"annealing_steps": annealing_steps},
        "environment": environment.describe(device),
        "components": describe_components(config),
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


def describe_components(config: ExperimentConfig) -> list[dict[str, str]]:
    """Return kind, name, plugin, distribution and version of every component that a config selects."""
    return [
        {
            "kind": selection.registered.kind,
            "name": selection.name,
            "plugin": selection.registered.plugin.name,
            "distribution": selection.registered.plugin.distribution,
            "version": selection.registered.plugin.version,
        }
        for selection in _selections(config)
    ]


def _selections(options: Any) -> list[Selection]:
    """Return every component that a config selects, those that a component selects included."""
    found: list[Selection] = []
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        if isinstance(value, Selection):
            found += [value, *_selections(value.options)]
    return found
