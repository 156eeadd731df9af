"""The check of a VAE type."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Final, cast

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from elboverse.components import conformance
from elboverse.components.hookspecs import Component
from elboverse.components.registry import Selection
from elboverse.contracts import Constrainable, Model, SamplingFree
from elboverse.seeding import generator
from elboverse.testing.component import TOLERANCE, close, refuse_options, require, selection
from elboverse.testing.family_model import check_family
from elboverse.theory import families
from elboverse.theory.elbo import Terms, batch_terms
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["ModelReport", "check_model"]

BATCH: Final = 5
SAMPLES: Final = 3
MONTE_CARLO_SAMPLES: Final = 4096
STANDARD_ERRORS: Final = 6.0


@attrs.frozen
class ModelReport:
    """What `check_model` found out about a model that keeps the contract.

    Args:
        latent_dim: H.
        parameters: number of trainable numbers.
        obstacle: why `training.replicas` > 1 cannot be used with it, because it does not run under
            `torch.func.vmap`; empty if it does.
    """

    latent_dim: int
    parameters: int
    obstacle: str = ""


def check_model(
    model: str | Component | nn.Module, *, data_shape: Sequence[int], conditions: int = 0, **options: Any
) -> ModelReport:
    """Check a VAE type against `contracts.Model`, in float32 and float64, and return what was found.

    The model is checked in evaluation mode. Beyond shapes: the three Gaussians are deterministic, leave arguments and
    buffers as they were, and treat each point by itself; they follow the number type; the gradient of the ELBO reaches
    every trainable parameter;
    ELBO − H_sum = R_σ + Σ_h R_h holds (docs/theory.md, "The identity at any parameters"); the parameters that
    `variance_parameters` names as ln σ² and ln α² are just that, −∂ELBO/∂ln σ² = R_σ; an exact expected squared
    error agrees with a Monte-Carlo estimate; replicas under `torch.func.vmap` give what the model itself gives.
    Of a model with other distributions, or with conditions, entropies are compared with samples instead.

    Args:
        model: its name, its `Component`, or a module that was built already, which is left as it is.
        data_shape: shape of one point, such as ``(5,)`` or ``(28, 28)``.
        conditions: C, how many conditions each point has; for a model whose `build` takes them.
        options: its options; none for a built module.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a model of that name.
        PluginError: the contract is broken.
    """
    shape = tuple(data_shape)
    if isinstance(model, nn.Module):
        refuse_options(model, options)
        who, original = type(model).__name__, model
    else:
        chosen = selection("model", model, options)
        who = f"model {chosen.name!r}"
        original, again = (_seeded_build(chosen, shape, conditions) for _ in range(2))
        if isinstance(original, nn.Module) and isinstance(again, nn.Module):
            _require_equal_states(original, again, f"{who}: build gives other weights each time, torch's seed the same")
    _check(original, shape, conditions, torch.float32, who)
    return _check(original, shape, conditions, torch.float64, who)


def _check(original: Any, shape: tuple[int, ...], conditions: int, dtype: torch.dtype, who: str) -> ModelReport:
    module = copy.deepcopy(original).to(dtype).eval() if isinstance(original, nn.Module) else original
    stream = generator(0, "check_model")
    x = torch.rand(BATCH, math.prod(shape) + conditions, generator=stream, dtype=dtype)
    latent_dim = conformance.require_model(module, x.clone(), who, math.prod(shape))
    model = cast(Model, module)  # as has been checked just now
    parameters = sum(value.numel() for value in module.parameters() if value.requires_grad)
    if not families.described(module, x.clone()).gaussian:
        return ModelReport(latent_dim, parameters, check_family(module, x, latent_dim, who))
    noise = torch.randn(SAMPLES, BATCH, latent_dim, generator=stream, dtype=dtype)
    _require_pure(model, module, x, noise, who)
    _require_pointwise(model, x, noise, who)
    if isinstance(module, Constrainable):
        weight = model.get_parameter(module.constrained_weight())
        require(
            weight.ndim == 2 and weight.shape[1] == latent_dim,
            f"{who}: constrained_weight() names a parameter of shape {tuple(weight.shape)}; expected "
            f"(F, {latent_dim}), one column per latent",
        )
    if isinstance(module, SamplingFree):
        _require_exact_error(module, model, x, who)
    _require_gradients(module, batch_terms(model, x, noise), who)
    _require_identity(model, x, noise, who)
    _require_log_variances(model, batch_terms(model, x, noise), who)
    return ModelReport(latent_dim, parameters, _vmap_obstacle(module, x, noise, who))


def _seeded_build(selection: Selection, shape: tuple[int, ...], conditions: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return selection.build_given(conditions, shape)


def _require_equal_states(one: nn.Module, other: nn.Module, message: str) -> None:
    states = one.state_dict(), other.state_dict()
    same = states[0].keys() == states[1].keys()
    require(same and all(torch.equal(states[0][name], states[1][name]) for name in states[0]), message)


def _require_pure(model: Model, module: nn.Module, x: Tensor, noise: Tensor, who: str) -> None:
    before = copy.deepcopy(module)
    point, latent = x.clone(), noise.clone()
    for name, given, original in (("encode(x)", point, x), ("decode(z)", latent, noise)):
        method = model.encode if given is point else model.decode
        first, again = method(given), method(given)
        same = torch.equal(first.mean, again.mean) and torch.equal(first.log_var, again.log_var)
        require(same, f"{who}: {name} differs from call to call; random numbers are passed in as noise, never drawn")
        require(torch.equal(given, original), f"{who}: {name} changes its argument")
        types = {first.mean.dtype, first.log_var.dtype}
        require(types == {x.dtype}, f"{who}: {name} returns {', '.join(map(str, types))} for {x.dtype}")
    _require_equal_states(before, module, f"{who}: encode(x) or decode(z) changes the model's own state")


def _require_pointwise(model: Model, x: Tensor, noise: Tensor, who: str) -> None:
    tolerance = TOLERANCE[x.dtype]
    for name, method, batch in (
        ("encode(x)", model.encode, torch.stack((x, 2 * x))),
        ("decode(z)", model.decode, noise),
    ):
        together = method(batch)
        alone = [method(row) for row in batch[0].split(1)]
        mean = torch.cat([gaussian.mean for gaussian in alone])
        log_var = torch.cat([gaussian.log_var.expand_as(gaussian.mean) for gaussian in alone])
        same = (
            together.mean.shape[:-1] == batch.shape[:-1]
            and close(together.mean[0], mean, tolerance)
            and close(together.log_var.expand_as(together.mean)[0], log_var, tolerance)
        )
        message = f"{who}: {name} of a batch of shape {tuple(batch.shape)} is not that of its points, one by one"
        require(same, message)


def _require_exact_error(exact: SamplingFree, model: Model, x: Tensor, who: str) -> None:
    with torch.no_grad():
        encoder = model.encode(x)
        shape = (MONTE_CARLO_SAMPLES, *encoder.mean.shape)
        noise = torch.randn(shape, generator=generator(0, "check_model", "exact"), dtype=x.dtype)
        decoder = model.decode(encoder.sample(noise))
        squares = (x - decoder.mean).square()
        error = (exact.expected_squared_error(x, encoder) - squares.mean(0)).abs()
        allowed = STANDARD_ERRORS * squares.std(0) / MONTE_CARLO_SAMPLES**0.5 + TOLERANCE[x.dtype]
        require((error <= allowed).all(), f"{who}: expected_squared_error(x, encoder) is not what samples average to")
        same = torch.equal(exact.decoder_log_variance(), decoder.log_var)
        require(same, f"{who}: decoder_log_variance() is not the log_var of decode(z)")


def _require_gradients(module: nn.Module, terms: Terms, who: str) -> None:
    trainable = {name: value for name, value in module.named_parameters() if value.requires_grad}
    require(trainable, f"{who}: it has no trainable parameter")
    gradients = torch.autograd.grad(terms.elbo, list(trainable.values()), allow_unused=True)
    for name, gradient in zip(trainable, gradients, strict=True):
        require(gradient is not None, f"{who}: the ELBO does not depend on parameter {name!r}, so it never trains")
        finite = gradient is not None and bool(gradient.isfinite().all())
        require(finite, f"{who}: the gradient of the ELBO in parameter {name!r} is not finite")


@torch.no_grad()
def _require_identity(model: Model, x: Tensor, noise: Tensor, who: str) -> None:
    """Check the gap identity, ELBO and H_sum from densities and entropies, R_σ and R_h from their own formulas."""
    encoder, prior = model.encode(x), model.prior()
    encoder = DiagonalGaussian(encoder.mean, encoder.log_var.expand_as(encoder.mean))
    decoder = model.decode(encoder.sample(noise))
    decoder = DiagonalGaussian(decoder.mean, decoder.log_var.expand_as(decoder.mean))
    elbo = decoder.log_prob(x).mean() - encoder.kl(prior).sum(-1).mean()
    entropies = encoder.entropy().sum(-1).mean() - prior.entropy().sum(-1) - decoder.entropy().sum(-1).mean()
    decoder_residual = 0.5 * (1 - (x - decoder.mean).square() / decoder.variance).sum(-1).mean()
    second_moment = (encoder.mean.square() + encoder.variance).mean(0)
    residuals = decoder_residual + 0.5 * (1 - second_moment / prior.variance).sum()
    same = close(elbo - entropies, residuals, TOLERANCE[x.dtype] * (1 + float(elbo.abs())))
    require(same, f"{who}: ELBO − H_sum = R_σ + Σ_h R_h does not hold; its Gaussians are not diagonal Gaussians")


def _require_log_variances(model: Model, terms: Terms, who: str) -> None:
    """Check −∂ELBO/∂ln σ² = R_σ and −Σ_h ∂ELBO/∂ln α²_h = Σ_h R_h for what is said to be ln σ² and ln α²."""
    names = model.variance_parameters()
    for name, residual, what in (
        (names.decoder, terms.decoder_residual, "ln σ² of the decoder"),
        (names.prior, terms.prior_residual.sum(), "ln α² of the prior"),
    ):
        if name is None:
            continue
        (gradient,) = torch.autograd.grad(terms.elbo, model.get_parameter(name), retain_graph=True)
        tolerance = TOLERANCE[gradient.dtype] * (1 + float(terms.elbo.detach().abs()))
        same = close(-gradient.sum(), residual, tolerance)
        require(same, f"{who}: variance_parameters() says that {name!r} is {what}, but the ELBO's gradient says not")


def _vmap_obstacle(module: nn.Module, x: Tensor, noise: Tensor, who: str) -> str:
    """Return why the model cannot be trained as replicas in one step, or an empty string.

    Raises:
        PluginError: it can, but gives other numbers.
    """
    bound = _BoundELBO(module)
    expected = bound(x, noise)
    parameters, buffers = stack_module_state([bound, copy.deepcopy(bound)])
    try:
        elbos = vmap(lambda *state: functional_call(bound, state, (x, noise)))(parameters, buffers)
        elbos.sum().backward()
    except Exception as error:  # noqa: BLE001 - whatever torch raises where vmap has no rule
        return str(error).partition("\n")[0]
    same = close(elbos, expected.expand(2), TOLERANCE[x.dtype])
    require(same, f"{who}: its ELBO differs under torch.func.vmap")
    return ""


class _BoundELBO(nn.Module):
    """The ELBO as a module, so that `torch.func.functional_call` can exchange the model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return batch_terms(cast(Model, self.model), x, noise).elbo
