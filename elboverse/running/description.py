"""What a run file says about a run: its config, components, data and model, as JSON documents."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from elboverse.components.registry import Selection
from elboverse.config import ExperimentConfig, to_table
from elboverse.contracts import Data, Model, Stream
from elboverse.data.check import ties
from elboverse.running import environment
from elboverse.theory import families
from elboverse.theory.families import Family

__all__ = ["describe_components", "describe_model", "describe_parameters", "run_documents", "selections"]


def run_documents(
    config: ExperimentConfig, data: Data, device: torch.device, annealing_steps: int, replica_group: int
) -> dict[str, Any]:
    """Return what the run file keeps of a run beside the numbers.

    Args:
        config: the resolved config.
        data: of the first replica.
        device: where it trains.
        annealing_steps: length that the annealing schedule is laid out for.
        replica_group: how many replicas share a vectorised step.
    """
    return {
        "config": to_table(config),
        "schedule": {"annealing_steps": annealing_steps},
        "engine": {"replica_group": replica_group, "threads": torch.get_num_threads()},
        "environment": environment.describe(device),
        "components": describe_components(config),
        "data": {
            "train_points": len(data.train) if data.stream is None else data.stream.points_per_pass,
            "held_out_points": len(data.held_out),
            "dimension": data.dimension,
            "shape": list(data.shape),
            "names": list(data.names),
            "unit": data.unit,
            "fingerprint": data.fingerprint,
            "label": data.label_name,
            "conditions": [{"name": one.name, "levels": list(one.levels)} for one in data.condition_columns],
            "index": data.index_name,
            "notes": list(data.notes),
            "ties": attrs.asdict(ties(data)),
            "scaling": {
                "kind": data.scaling.kind,
                "offset": data.scaling.offset.tolist(),
                "scale": data.scaling.scale.tolist(),
            },
            "train_log_likelihood": data.train_log_likelihood,
            "held_out_log_likelihood": data.held_out_log_likelihood,
            **({} if data.stream is None else {"stream": _describe_stream(data.stream)}),
        },
    }


def _describe_stream(stream: Stream) -> dict[str, Any]:
    """Return a pass of a stream as a document of the run file keeps it."""
    return {
        "points_per_pass": stream.points_per_pass,
        "regimes": [attrs.asdict(regime, value_serializer=_plain) for regime in stream.regimes],
    }


def _plain(_instance: Any, _attribute: Any, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def describe_model(model: Model, family: Family) -> dict[str, bool]:
    """Return which of a model's variances training changes."""
    prior = model.prior()
    if not family.gaussian:
        fields: tuple[Any, ...] = prior if isinstance(prior, tuple) else ()
        learned = any(isinstance(field, Tensor) and field.requires_grad for field in fields)
        return {"learns_decoder_variance": True, "learns_prior_variance": learned}
    model.eval()  # nothing is to be learned from latents that are no data
    decoder = model.decode(prior.mean.new_zeros(1, len(prior.mean)))
    model.train()
    return {
        "learns_decoder_variance": decoder.log_var.requires_grad,
        "learns_prior_variance": prior.log_var.requires_grad,
    }


def describe_parameters(model: Any, points: Tensor) -> list[dict[str, Any]]:
    """Return name, shape, and role of every parameter of a model.

    ``trained`` says whether training changes it, ``shapes_density`` whether ln p(x|z) + ln p(z) depends on it at given
    latents z: automatic differentiation tells, whatever the parameter is called. k of BIC counts those that are both. A
    prior that is made of encodings, such as VampPrior, has the encoder shape the density.

    Args:
        model: on the device of the points; left in training mode.
        points: some, with their conditions behind them, shape (B, D + C).
    """
    parameters = dict(model.named_parameters())
    trained = {name: value for name, value in parameters.items() if value.requires_grad}
    model.eval()  # nothing is to be learned from latents that are no data
    with torch.enable_grad():
        z = points.new_zeros(len(points), families.latent_dim(model))
        likelihood = families.decode(model, z, points).log_prob(families.observed(model, points))
        density = likelihood.sum() + model.prior().log_prob(z).sum()
        used = torch.autograd.grad(density, list(trained.values()), allow_unused=True) if density.requires_grad else ()
    model.train()
    shaping = {name for name, gradient in zip(trained, used, strict=False) if gradient is not None}
    return [
        {"name": name, "shape": list(value.shape), "trained": name in trained, "shapes_density": name in shaping}
        for name, value in parameters.items()
    ]


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
        for selection in selections(config)
    ]


def selections(options: Any) -> list[Selection]:
    """Return every component that a config selects, those that a component selects included."""
    found: list[Selection] = []
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Selection):
                found += [one, *selections(one.options)]
    return found
