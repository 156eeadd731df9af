"""Checks of what models, losses and steps are made of, made before every run, so that each fault is its own part's."""

from __future__ import annotations

import math
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from elboverse.components.registry import Selection, attributed
from elboverse.contracts import Support
from elboverse.errors import ElboverseError, PluginError
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["called", "objective_of", "require_parts", "require_terms", "require_updates"]

POINTS: Final = 3
VALUES: Final = 4


OURS: Final = ("elboverse", "torch", "numpy")


@contextmanager
def called(who: str, what: str) -> typing.Iterator[None]:
    """Name what was called where our own call of it fails, as with another signature or a value of another type.

    What is raised in a plugin's own code passes: it is shown with its frames, see `registry.attributed`.

    Raises:
        PluginError: the call failed.
    """
    try:
        yield
    except ElboverseError:
        raise
    except Exception as error:
        modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(module.partition(".")[0] not in OURS for module in modules):
            raise
        raise PluginError(f"{who}: {what} failed: {type(error).__name__}: {error}") from error


def require_parts(selections: Sequence[Selection], data_shape: tuple[int, ...], latent_dim: int) -> None:
    """Check the likelihood, prior and posterior that a model selects, each by itself.

    Args:
        selections: what the model is made of; those of other kinds are passed over.
        data_shape: of a point.
        latent_dim: H.

    Raises:
        PluginError: one breaks its contract.
    """
    checks: Mapping[str, tuple[Callable[[Any, int, str], None], tuple[Any, ...]]] = {
        "likelihood": (_require_likelihood, (data_shape,)),
        "prior": (_require_prior, (latent_dim, data_shape)),
        "posterior": (_require_posterior, (latent_dim,)),
    }
    for selection in selections:
        if selection.registered.kind not in checks:
            continue
        check, arguments = checks[selection.registered.kind]
        who = str(selection.registered)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), attributed([selection]):
            with called(who, "build(options, …)"):
                part = selection.build(*arguments)
            check(part, math.prod(data_shape) if selection.registered.kind == "likelihood" else latent_dim, who)


def _require_likelihood(part: Any, dimension: int, who: str) -> None:
    if type(part.outputs) is not int or part.outputs < 1:
        raise PluginError(f"{who}: outputs is {part.outputs!r}; expected a number of output layers, at least 1")
    if part.support not in typing.get_args(Support):
        expected = ", ".join(typing.get_args(Support))
        raise PluginError(f"{who}: support is {part.support!r}; expected one of {expected}")
    _require_theorem(part, who)
    with called(who, "p(x|z)"):
        found = part(tuple(torch.zeros(POINTS, dimension) for _ in range(part.outputs)))
    lacking = [name for name in ("mean", "log_prob", "sample") if not hasattr(found, name)]
    if lacking:
        raise PluginError(
            f"{who}: p(x|z) is a {type(found).__name__} without {' and '.join(lacking)}; expected a distribution"
        )


def _require_prior(part: Any, latent_dim: int, who: str) -> None:
    _require_theorem(part, who)

    def encode(x: Tensor) -> DiagonalGaussian:
        mean = x.new_zeros(*x.shape[:-1], latent_dim)
        return DiagonalGaussian(mean, torch.zeros_like(mean))

    with called(who, "p(z)"):
        found = part(encode)
        lacking = [name for name in ("log_prob", "sample") if not callable(getattr(found, name, None))]
        if lacking:
            raise PluginError(f"{who}: p(z) is a {type(found).__name__} without {' and '.join(lacking)}")
        density = found.log_prob(torch.zeros(POINTS, latent_dim))
    if tuple(density.shape) != (POINTS,):
        raise PluginError(
            f"{who}: log_prob(z) of {POINTS} points with {latent_dim} latents has shape {tuple(density.shape)}; "
            f"expected ({POINTS},), summed over the latents"
        )


def _require_posterior(part: Any, latent_dim: int, who: str) -> None:
    if type(part.width) is not int or part.width < 1:
        raise PluginError(f"{who}: width is {part.width!r}; expected how many values the head has, an integer")
    with called(who, "initial_bias(log_var)"):
        bias = part.initial_bias(-1.0)
    if not isinstance(bias, Tensor) or tuple(bias.shape) != (part.width,):
        raise PluginError(
            f"{who}: initial_bias(log_var) returns {_shown(bias)}; expected a tensor of shape ({part.width},), as its "
            "width says"
        )
    with called(who, "q(z|x)"):
        found = part(torch.zeros(POINTS, part.width))
    mean = getattr(found, "mean", None)
    if not isinstance(mean, Tensor) or tuple(mean.shape) != (POINTS, latent_dim):
        raise PluginError(
            f"{who}: q(z|x) of {POINTS} points has a mean that is {_shown(mean)}; expected a tensor of shape "
            f"({POINTS}, {latent_dim})"
        )


def _require_theorem(part: Any, who: str) -> None:
    if not isinstance(part.theorem, str):
        raise PluginError(
            f"{who}: theorem is {part.theorem!r}; expected a sentence that says why the residual need not vanish, or "
            "an empty string where it does"
        )


def _shown(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def require_terms(source: Any, x: Tensor, q: Any, z: Tensor, who: str, taken: Callable[[str], bool]) -> tuple[str, ...]:
    """Check the extra terms of a regulariser or a model, and return their names.

    Args:
        source: has `extra`.
        x: points, as of `contracts.Regulariser.extra`.
        q: q(z|x) of them.
        z: samples of it.
        who: for messages.
        taken: whether a name cannot be used.

    Raises:
        PluginError: the contract is broken.
    """
    given = x.clone(), z.clone()
    before = torch.get_rng_state()
    with called(who, "extra(x, q, z)"):
        terms, again = (source.extra(x, q, z) for _ in range(2))  # noqa: S610 - no SQL
    if not isinstance(terms, Mapping) or any(not isinstance(v, Tensor) or v.ndim for v in terms.values()):
        raise PluginError(f"{who}: extra(x, q, z) must return name → tensor of shape (), not {terms!r}")
    for name, value in terms.items():
        if taken(name):
            raise PluginError(f"{who}: extra(x, q, z) names a term {name!r}; expected a lower-case name of its own")
        if not bool(value.isfinite()):
            raise PluginError(f"{who}: the term {name!r} of extra(x, q, z) is {float(value)} at the initial parameters")
    if not torch.equal(before, torch.get_rng_state()):
        raise PluginError(
            f"{who}: extra(x, q, z) draws random numbers, so no run could be resumed; the samples z are random enough"
        )
    if not (torch.equal(x, given[0]) and torch.equal(z, given[1])):
        raise PluginError(f"{who}: extra(x, q, z) changes its arguments in place; work on copies of them")
    if terms.keys() != again.keys() or not all(torch.equal(terms[name], again[name]) for name in terms):
        raise PluginError(f"{who}: extra(x, q, z) differs from call to call, although all it is given is the same")
    return tuple(terms)


def require_updates(optimiser: Any, who: str) -> None:
    """Check that an optimiser changes parameters in place, twice in the same way, with a state that can be kept.

    Raises:
        PluginError: the contract is broken.
    """
    start = torch.linspace(-1, 2, VALUES)
    found = []
    before = torch.get_rng_state()
    for _ in range(2):
        values = start.clone()
        with called(who, "state(values)"):
            state = optimiser.state(values)
        if not isinstance(state, dict) or any(not isinstance(part, Tensor) for part in state.values()):
            raise PluginError(f"{who}: state(values) must return a dict of tensors, not {state!r}")
        for name, part in state.items():
            if tuple(part.shape) not in {(), (VALUES,)}:
                raise PluginError(
                    f"{who}: state(values)[{name!r}] has shape {tuple(part.shape)} for {VALUES} values; expected "
                    f"({VALUES},), or () for a number"
                )
        with called(who, "update(values, gradients, state, rate)"):
            optimiser.update(values, start + 0.5, dict(state), 0.01)
        found.append(values)
    if torch.equal(found[0], start):
        raise PluginError(f"{who}: update(values, gradients, state, rate) changes no value; change them in place")
    if not torch.equal(before, torch.get_rng_state()):
        raise PluginError(
            f"{who}: update(values, gradients, state, rate) draws random numbers, so that no run could be resumed"
        )
    if not torch.equal(*found):
        raise PluginError(
            f"{who}: update(values, gradients, state, rate) differs from call to call, so it keeps something itself "
            "that no checkpoint holds; keep it in the state"
        )
    if not bool(found[0].isfinite().all()):
        raise PluginError(f"{who}: update(values, gradients, state, rate) makes values that are not finite")


def objective_of(model: Any, x: Tensor, noise: Tensor, who: str) -> Tensor:
    """Return the objective of a model that has its own, at β = 1, once its shape has been checked.

    Args:
        model: has `objective`; see `contracts.OwnObjective`.
        x: what a batch holds.
        noise: of its latents.
        who: the model and its plugin, for messages.

    Raises:
        PluginError: it is not a number of shape ().
    """
    with called(who, "objective(x, noise, beta)"):
        value = model.objective(x.clone(), noise, torch.ones((), dtype=x.dtype, device=x.device))
    if not isinstance(value, Tensor) or value.ndim:
        raise PluginError(
            f"{who}: objective(x, noise, beta) returns {_shown(value)}; expected a tensor of shape (), averaged over "
            "the points"
        )
    return value
