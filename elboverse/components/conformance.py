"""Checks that a component keeps its contract, made before the first step; `elboverse.testing` has more of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elboverse.components.parts import called, require_updates
from elboverse.components.registry import Selection
from elboverse.contracts import (
    AnnealingSchedule,
    Constrainable,
    Data,
    Model,
    Penalty,
    Projection,
    Regime,
    SamplingFree,
    Scaling,
    Stream,
    VarianceParameters,
)
from elboverse.data import require_finite
from elboverse.errors import ConfigError, DataError, PluginError
from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = [
    "require_betas",
    "require_constraint",
    "require_data",
    "require_model",
    "require_module",
    "require_optimiser",
    "require_rates",
]

PRIOR_METHODS: Final = ("log_prob", "sample")
ENCODER_METHODS: Final = ("mean", "sample", "entropy")
DECODER_METHODS: Final = ("mean", "log_prob", "sample")

POINT_TYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8)


def require_data(data: Any, who: str) -> Data:
    """Return what a dataset built, checked.

    Args:
        data: what its `build` returned.
        who: the dataset and its plugin, for messages.

    Raises:
        PluginError: it is not a `contracts.Data`, or shapes do not fit each other.
        DataError: it has no training points, or a value is not finite.
    """
    if not isinstance(data, Data):
        raise PluginError(f"{who}: build must return elboverse.contracts.Data, not {type(data).__name__}")
    for name, part in (("train", data.train), ("held_out", data.held_out)):
        if not isinstance(part, Tensor):
            raise PluginError(f"{who}: {name} is a {type(part).__name__}; expected a torch.Tensor")
        if part.ndim != 2 or part.shape[1] != data.dimension or part.dtype not in POINT_TYPES:
            raise PluginError(
                f"{who}: {name} has shape {tuple(part.shape)} and type {part.dtype}; expected (points, "
                f"{data.dimension}) for points of shape {data.shape}, floating point or bytes (uint8)"
            )
    if not isinstance(data.scaling, Scaling):
        raise PluginError(f"{who}: scaling is a {type(data.scaling).__name__}; expected elboverse.contracts.Scaling")
    for name, part in (("offset", data.scaling.offset), ("scale", data.scaling.scale)):
        _require_shape(part, (data.dimension,), f"{who}: scaling.{name}")
    if data.train.dtype != data.held_out.dtype:
        raise PluginError(f"{who}: train has type {data.train.dtype}, held_out {data.held_out.dtype}; expected one")
    if len(data.train) == 0:
        raise DataError(f"{who}: it has no training points")
    for part, name in ((data.train, "train"), (data.held_out, "held out")):
        if len(part) and part.is_floating_point():
            require_finite(part, f"{who}, {name}")
    if data.renew is not None and (data.stream is not None or data.augment is not None):
        raise PluginError(f"{who}: renew is given beside a stream or augment; expected only one of the three")
    if data.conditions is not None:
        _require_conditions(data.conditions, data, who)
    if data.stream is not None:
        _require_stream(data.stream, data, who)
    return data


def _require_conditions(conditions: Any, data: Data, who: str) -> None:
    width = sum(column.width for column in data.condition_columns)
    _require_shape(conditions, (len(data.train) + len(data.held_out), width), f"{who}: conditions")
    if not conditions.is_floating_point():
        raise PluginError(f"{who}: conditions have type {conditions.dtype}; expected floating point")
    if not bool(conditions.isfinite().all()):
        raise DataError(f"{who}: got conditions that are not finite; expected numbers")
    if data.stream is not None:
        raise PluginError(f"{who}: conditions are given beside a stream; expected only one")
    if data.augment is not None:
        raise PluginError(f"{who}: augment is given beside conditions; expected only one")


def _require_stream(stream: Any, data: Data, who: str) -> None:
    if not isinstance(stream, Stream):
        raise PluginError(
            f"{who}: stream is a {type(stream).__name__}; expected an object with points_per_pass, regimes, "
            "points(first, count) and held_out(position)"
        )
    if data.augment is not None:
        raise PluginError(f"{who}: augment is given beside a stream; expected only one, so augment in stream.points")
    starts = [regime.first_point for regime in stream.regimes]
    for what, value in (
        ("points_per_pass", stream.points_per_pass),
        *(("first_point of a regime", start) for start in starts),
    ):
        if type(value) is not int:
            raise PluginError(f"{who}: the {what} of its stream is {value!r}; expected an int")
    ascending = starts == sorted(set(starts)) and all(start < stream.points_per_pass for start in starts)
    if not starts or starts[0] != 0 or not ascending:
        raise PluginError(
            f"{who}: the regimes of its stream begin at points {starts} of {stream.points_per_pass}; expected that "
            "the first one begins at 0 and each other one after the one before, within the pass"
        )
    for regime in stream.regimes:
        _require_eigenvalues(regime, data.dimension, who)
    for what, part, rows in (
        ("stream.points(0, 2)", stream.points(0, 2), 2),
        ("stream.held_out(0)", stream.held_out(0), len(stream.held_out(stream.points_per_pass - 1))),
    ):
        _require_shape(part, (rows, data.dimension), f"{who}: {what}")
        if not part.is_floating_point():
            raise PluginError(f"{who}: {what} has type {part.dtype}; expected floating point")
    if not data.train.is_floating_point():
        raise PluginError(f"{who}: train has type {data.train.dtype}; expected floating point, as of its stream")
    if bool(len(data.held_out)) != bool(len(stream.held_out(0))):
        raise PluginError(f"{who}: only one of held_out and stream.held_out(0) is empty; expected both or none")


def _require_eigenvalues(regime: Regime, dimension: int, who: str) -> None:
    if regime.covariance_eigenvalues is None:
        return
    values = np.asarray(regime.covariance_eigenvalues, dtype=np.float64)
    positive = np.isfinite(values).all() and (values > 0).all()
    if values.shape != (dimension,) or not positive or (np.diff(values) > 0).any():
        raise PluginError(
            f"{who}: regime {regime.name!r} of its stream has the covariance_eigenvalues {values.tolist()}; expected "
            f"are {dimension} finite numbers above 0, descending"
        )


def require_module(model: Any, who: str) -> nn.Module:
    """Return what a model component built, if it is a module at all.

    Raises:
        PluginError: it is none, or lacks a method.
    """
    if not isinstance(model, nn.Module) or not isinstance(model, Model):
        raise PluginError(
            f"{who}: build must return a torch.nn.Module with encode, decode, prior and variance_parameters, "
            f"not {_described(model)}"
        )
    return model


def require_model(model: Any, points: Tensor, who: str, observed: int | None = None) -> int:
    """Check the shapes of what a model component built by encoding and decoding two points, and return H.

    What it does with them is checked by `behaviour.require_behaviour`.

    Args:
        model: what its `build` returned.
        points: at least one point on the model's device, with the conditions behind it, shape (n, D + C).
        who: the model and its plugin, for messages.
        observed: D; what the model leaves of the points by default.

    Raises:
        PluginError: it is not a module with the methods of `contracts.Model`, or a Gaussian has another shape.
    """
    require_module(model, who)
    batch, dimension = len(points), points.shape[1] - families.conditions_of(model)
    if observed is not None and dimension != observed:
        raise PluginError(
            f"{who}: its attribute condition_dimension is {families.conditions_of(model)}; expected "
            f"{points.shape[1] - observed}, which `build` is given as `conditions`"
        )
    training = model.training
    model.eval()
    with torch.no_grad():
        prior = _require_distribution(model.prior(), f"{who}: prior()", PRIOR_METHODS)
        if type(prior) is DiagonalGaussian:
            if prior.log_var.ndim != 1 or prior.mean.shape != prior.log_var.shape:
                raise PluginError(
                    f"{who}: prior() has a mean of shape {tuple(prior.mean.shape)} and a log_var of shape "
                    f"{tuple(prior.log_var.shape)}; expected (H,) for both"
                )
            if prior.mean.any():
                raise PluginError(f"{who}: prior() has a mean that is not zero; the entropy sum needs a centred prior")
        elif not isinstance(getattr(model, "latent_dim", None), int):
            raise PluginError(
                f"{who}: expected an attribute latent_dim, the number of latents H, since its prior is not a "
                "DiagonalGaussian"
            )
        latent_dim = families.latent_dim(model)
        encoder = _require_distribution(families.encode(model, points), f"{who}: encode(x)", ENCODER_METHODS)
        _require_shape(encoder.mean, (batch, latent_dim), f"{who}: the mean of encode(x)")
        if type(encoder) is DiagonalGaussian:
            _require_broadcast(encoder.log_var, (batch, latent_dim), f"{who}: the log_var of encode(x)")
        decoder = _decoded(model, encoder.mean, points)
        decoder = _require_distribution(decoder, f"{who}: decode(z)", DECODER_METHODS)
        _require_shape(decoder.mean, (batch, dimension), f"{who}: the mean of decode(z)")
        if type(decoder) is DiagonalGaussian:
            _require_broadcast(decoder.log_var, (batch, dimension), f"{who}: the log_var of decode(z)")
        if isinstance(model, SamplingFree):
            error = model.expected_squared_error(points, encoder)
            _require_shape(error, (batch, dimension), f"{who}: expected_squared_error(x, encoder)")
        family = families.described(model, points)
        if not family.gaussian:
            _require_terms(model, points, latent_dim, family, who)
    model.train(training)
    names = dict(model.named_parameters())
    variances = model.variance_parameters()
    if not isinstance(variances, VarianceParameters):
        raise PluginError(
            f"{who}: variance_parameters() returns a {type(variances).__name__}; expected an "
            "elboverse.contracts.VarianceParameters"
        )
    unknown = [name for name in (*variances.closed_form, *variances.heads) if name not in names]
    if unknown:
        raise PluginError(f"{who}: variance_parameters() names {', '.join(unknown)}, which is not a parameter of it")
    if variances.decoder is not None and type(decoder) is DiagonalGaussian:
        shape = tuple(names[variances.decoder].shape)
        if shape not in {(), (dimension,)}:
            raise PluginError(f"{who}: {variances.decoder!r} has shape {shape}; expected () or ({dimension},)")
        _require_shape(decoder.log_var, shape, f"{who}: the log_var of decode(z), which is {variances.decoder!r},")
    if variances.prior is not None:
        _require_shape(names[variances.prior], (latent_dim,), f"{who}: {variances.prior!r}")
    free = family.gaussian and model.prior().log_var is not (names.get(variances.prior or ""))
    if free and model.prior().log_var.requires_grad:
        raise PluginError(
            f"{who}: the log_var of prior() is computed from parameters; expected a fixed one, or the very "
            "parameter that variance_parameters() names as prior"
        )
    return int(latent_dim)


def require_constraint(constraint: Any, model: nn.Module, who: str) -> Projection | Penalty:
    """Return what a constraint component built, checked against the model.

    Args:
        constraint: what its `build` returned.
        model: the model to constrain.
        who: the constraint and its plugin, for messages.

    Raises:
        PluginError: it is neither a projection nor a penalty, or returns another shape.
        ConfigError: the model has no weight to constrain.
    """
    if not isinstance(constraint, Projection | Penalty):
        raise PluginError(f"{who}: build must return an object with project(weight) or penalty(weight)")
    if not isinstance(model, Constrainable):
        raise ConfigError(f"constraint: got {who}, but {type(model).__name__} has no weight to constrain; leave it out")
    try:
        weight = model.get_parameter(model.constrained_weight()).detach()
    except TypeError as error:
        raise ConfigError(f"constraint: got {who}, but {error}; leave it out or take another network") from error
    projects = isinstance(constraint, Projection)
    name, shape = ("project", tuple(weight.shape)) if projects else ("penalty", ())
    with called(who, f"{name}(weight)"):
        value = getattr(constraint, name)(weight.clone())
    _require_shape(value, shape, f"{who}: {name}(weight)")
    if not bool(value.isfinite().all()):
        raise PluginError(f"{who}: {name}(weight) is not finite for the initial weight")
    return constraint


def require_betas(schedule: Any, total_steps: int, who: str) -> npt.NDArray[np.float64]:
    """Return β for every step of a run, shape (T,).

    Args:
        schedule: what its `build` returned.
        total_steps: T.
        who: the schedule and its plugin, for messages.

    Raises:
        PluginError: it is not a schedule, or some β is negative or not finite.
    """
    if not isinstance(schedule, AnnealingSchedule):
        raise PluginError(f"{who}: build must return an object with weight(step, total_steps)")
    with called(who, "weight(step, total_steps)"):
        weights = (schedule.weight(step, total_steps) for step in range(total_steps))
        betas = np.fromiter(weights, np.float64, total_steps)
    bad = np.flatnonzero(~(np.isfinite(betas) & (betas >= 0)))
    if len(bad):
        raise PluginError(f"{who}: weight({bad[0]}, {total_steps}) is {betas[bad[0]]}; expected a finite number ≥ 0")
    return betas


def _described(model: Any) -> str:
    """Return what a model is, and which methods it lacks."""
    if isinstance(model, type):
        return f"the class {model.__name__} itself"
    if not isinstance(model, nn.Module):
        return type(model).__name__
    needed = ("encode", "decode", "prior", "variance_parameters")
    missing = [name for name in needed if not callable(getattr(model, name, None))]
    return f"{type(model).__name__}, which has no {' and no '.join(missing)}"


def require_rates(schedule: Selection, laid_out: int, total_steps: int) -> npt.NDArray[np.float64] | None:
    """Return what the learning rates of each step are multiplied by, shape (T,); None for 1 throughout.

    Args:
        schedule: the selected schedule.
        laid_out: the length that it is laid out for; beyond it the last factor stays.
        total_steps: T.
    """
    rates = require_betas(schedule.build(), laid_out, f"{schedule.registered.kind} {schedule.name!r}")
    if np.all(rates == 1.0):
        return None
    return np.pad(rates, (0, max(0, total_steps - laid_out)), mode="edge")[:total_steps]


def require_optimiser(selection: Selection) -> Any:
    """Return the optimiser that was selected.

    Raises:
        PluginError: it has no `state` or no `update`.
    """
    found = selection.build()
    if not callable(getattr(found, "state", None)) or not callable(getattr(found, "update", None)):
        raise PluginError(
            f"optimiser {selection.name!r} of plugin {selection.registered.plugin}: build must return an object with "
            "state(values) and update(values, gradients, state, rate)"
        )
    require_updates(found, str(selection.registered))
    return found


def _decoded(model: Any, z: Tensor, points: Tensor) -> Any:
    """Return what decode returns, before anything is made of it."""
    count = families.conditions_of(model)
    return model.decode(z, points[..., -count:]) if count else model.decode(z)


def _require_distribution(value: Any, what: str, methods: tuple[str, ...]) -> Any:
    if isinstance(value, DiagonalGaussian) and type(value) is not DiagonalGaussian:
        raise PluginError(
            f"{what} returns a {type(value).__name__}, a subclass of DiagonalGaussian whose own methods would be "
            "ignored; expected a DiagonalGaussian itself, or a distribution of its own class"
        )
    if type(value) is DiagonalGaussian:
        for name, part in zip(value._fields, value, strict=True):
            if not isinstance(part, Tensor):
                raise PluginError(f"{what} has a {name} that is a {type(part).__name__}; expected a torch.Tensor")
    missing = [name for name in methods if not hasattr(value, name)]
    if missing:
        raise PluginError(
            f"{what} returns a {type(value).__name__} without {', '.join(missing)}; expected an "
            f"elboverse.DiagonalGaussian or a distribution with {', '.join(methods)}"
        )
    return value


def _require_terms(model: Any, points: Tensor, latent_dim: int, family: families.Family, who: str) -> None:
    """Check the shapes of a distribution's terms, with two samples per point."""
    batch = len(points)
    dimension = points.shape[1] - family.conditions
    encoder = families.encode(model, points)
    z = encoder.sample(torch.zeros(2, batch, latent_dim, dtype=points.dtype, device=points.device))
    _require_shape(z, (2, batch, latent_dim), f"{who}: encode(x).sample(noise)")
    _require_broadcast(encoder.entropy(), (batch, latent_dim), f"{who}: encode(x).entropy()")
    decoder, value = families.decode(model, z, points), families.observed(model, points)
    _require_shape(decoder.log_prob(value), (2, batch), f"{who}: decode(z).log_prob(x)")
    if family.decoder_has_entropy:
        _require_broadcast(decoder.entropy(), (2, batch), f"{who}: decode(z).entropy()")
    else:
        noise = torch.zeros(2, batch, dimension, dtype=points.dtype, device=points.device)
        _require_shape(decoder.sample(noise), (2, batch, dimension), f"{who}: decode(z).sample(noise)")
    prior = model.prior()
    if hasattr(prior, "log_prob"):
        _require_shape(prior.log_prob(z), (2, batch), f"{who}: prior().log_prob(z)")
    if family.prior_has_entropy:
        _require_broadcast(prior.entropy(), (latent_dim,), f"{who}: prior().entropy()")


def _require_shape(value: Tensor, expected: tuple[int, ...], what: str) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != expected:
        actual = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise PluginError(f"{what} has shape {actual}; expected {expected}")


def _require_broadcast(value: Tensor, target: tuple[int, ...], what: str) -> None:
    fits: Iterable[bool] = (
        own in {1, wanted} for own, wanted in zip(reversed(value.shape), reversed(target), strict=False)
    )
    if value.ndim > len(target) or not all(fits):
        raise PluginError(f"{what} has shape {tuple(value.shape)}; expected {target} or what broadcasts to it")
    if math.prod(value.shape) == 0:
        raise PluginError(f"{what} is empty")
