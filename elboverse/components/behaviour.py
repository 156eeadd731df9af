"""Checks of what a model does with two points: pure, repeatable, trained in every part, and nothing of it ignored.

They are made before every run, and take a few passes through the model. What is found wrong is told as what it is: a
change in place, a number that is not finite, random numbers and from where, memory between calls.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from elboverse.components.parts import objective_of
from elboverse.components.probing import (
    is_same,
    kept_attributes,
    kept_buffers,
    numpy_state,
    require_registered,
    restored,
    what_changed,
)
from elboverse.contracts import Model
from elboverse.errors import PluginError
from elboverse.theory.elbo import Terms, batch_terms
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.warning import warn

__all__ = ["TOLERANCE", "require_behaviour", "require_equal_builds", "require_known_methods", "require_log_variances"]

TOLERANCE: Final = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far two ways to one number may be apart, relative to its size and at least absolutely."""

OBJECTIVES: Final = ("loss", "loss_fn", "loss_function", "compute_loss", "training_step")
"""What other frameworks train by: a model that has one is not trained by the ELBO as its author meant."""

NEVER_CALLED: Final = (
    "forward", "reparameterize", "reparametrize", "kl", "kl_divergence", "elbo", "validation_step", "test_step",
    "configure_optimizers", "optimizer_step", "fit", "train_step", "on_train_start", "on_epoch_end",
    "on_train_epoch_end",
)  # fmt: skip

OPTIONAL: Final = ("constrained_weight", "expected_squared_error", "decoder_log_variance")
"""What the contract lets a model have; a method that is spelt almost so would be ignored."""

FRAMEWORKS: Final = ("torch", "elboverse", "lightning", "pytorch_lightning")

IGNORED: Final = "elboverse_ignores"
"""The class attribute that says which of its methods a model keeps for another framework."""

NEXT_TO_EACH_OTHER: Final = 2
"""Points that are looked at, and axes of a batch of them."""


def require_behaviour(model: Any, points: Tensor, latent_dim: int, who: str, *, samples: int = 1) -> bool:
    """Check what a model does, and return whether it draws random numbers in training mode, as dropout does.

    Its buffers, its mode and all random states are afterwards as they were.

    Args:
        model: a module with the methods of `contracts.Model`, whose shapes have been checked.
        points: at least one point on the model's device, shape (n, D).
        latent_dim: H.
        who: the model and its plugin, for messages.
        samples: K; where it is more than 1, latents come with one more axis in front.

    Raises:
        PluginError: it breaks the contract.
    """
    require_known_methods(model, who)
    require_registered(model, who)
    x = points if len(points) >= NEXT_TO_EACH_OTHER else points.repeat(NEXT_TO_EACH_OTHER, 1)
    noise = torch.linspace(-1.5, 1.5, 2 * len(x) * latent_dim, dtype=x.dtype).to(x.device)
    noise = noise.reshape(2, len(x), latent_dim)
    latents = noise if samples > 1 else noise[:1]
    with restored(model):
        model.eval()
        with torch.no_grad():
            _Repeated(model, x, noise, who, training=False).check()
            _require_pointwise(model, x, latents if samples > 1 else latents[0], who)
        model.train()
        with torch.no_grad():
            draws = _Repeated(model, x, noise, who, training=True).check()
        _require_gradients(model, x, latents if samples > 1 else latents[0], who)
    return draws


def require_equal_builds(first: nn.Module, again: nn.Module, who: str) -> None:
    """Check that building twice, torch's seed the same, gives equal models that share no parameter.

    Raises:
        PluginError: they differ, or share one.
    """
    one, other = first.state_dict(), again.state_dict()
    differs = [name for name in one if name not in other or not is_same(one[name], other[name])]
    if differs or one.keys() != other.keys():
        name = differs[0] if differs else next(iter(other.keys() - one.keys()))
        raise PluginError(
            f"{who}: build gives other values of {name!r} the second time, although torch's seed is the same; draw "
            "initial weights with torch alone, so that a run can be repeated"
        )
    held = {id(value) for value in first.parameters()}
    shared = [name for name, value in again.named_parameters() if id(value) in held]
    if shared:
        raise PluginError(
            f"{who}: two models that were built share the parameter {shared[0]!r}, so replicas would train each "
            "other's weights; make it in __init__"
        )


def require_log_variances(model: Model, terms: Terms, who: str) -> None:
    """Check −∂ELBO/∂ln σ² = R_σ and −Σ_h ∂ELBO/∂ln α²_h = Σ_h R_h for what is said to be ln σ² and ln α².

    Raises:
        PluginError: they are something else.
    """
    names = model.variance_parameters()
    for name, residual, what in (
        (names.decoder, terms.decoder_residual, "ln σ² of the decoder"),
        (names.prior, terms.prior_residual.sum(), "ln α² of the prior"),
    ):
        if name is None or not model.get_parameter(name).requires_grad:
            continue
        (gradient,) = torch.autograd.grad(terms.elbo, model.get_parameter(name), retain_graph=True, allow_unused=True)
        if gradient is None:
            raise PluginError(f"{who}: the ELBO does not depend on parameter {name!r}, so it never trains")
        tolerance = TOLERANCE[gradient.dtype] * (1 + float(terms.elbo.detach().abs()) + float(residual.detach().abs()))
        if not torch.allclose(-gradient.sum(), residual.detach(), rtol=tolerance, atol=tolerance):
            raise PluginError(
                f"{who}: variance_parameters() says that {name!r} is {what}, but the ELBO's gradient says not; it must "
                "be the log-variance itself, neither a variance nor a log-standard deviation"
            )


def require_known_methods(model: nn.Module, who: str) -> None:
    """Check that a model has no method by which it meant to be trained and which is never called.

    Raises:
        PluginError: it has one.
    """
    frameworks = (*FRAMEWORKS, "builtins")
    own = [cls for cls in type(model).__mro__ if cls.__module__.partition(".")[0] not in frameworks]
    ignored = tuple(getattr(type(model), IGNORED, ()))
    methods = {name for cls in own for name, value in vars(cls).items() if callable(value) and not name.startswith("_")}
    methods -= set(ignored)
    way_out = f"or say {IGNORED} = ({{!r}},) in the class if it is for another framework"
    for name in OBJECTIVES:
        if name in methods:
            raise PluginError(
                f"{who}: its method {name!r} is never called, since elboverse trains by the ELBO of encode, decode and "
                "prior, or by what objective(x, noise, beta) returns where a model has it; take it out, "
                f"{way_out.format(name)}"
            )
    for name in sorted(methods):
        for known in difflib.get_close_matches(name, OPTIONAL, n=1, cutoff=0.85):
            if known != name and not hasattr(model, known):
                raise PluginError(f"{who}: its method {name!r} is never called; did you mean {known!r}?")
    for name in NEVER_CALLED:
        if name in methods:
            warn(
                f"{who}: its method {name!r} is never called: elboverse calls encode, decode and prior; take it out, "
                f"{way_out.format(name)}"
            )


class _Repeated:
    """Calls each method again under equal circumstances, and says what differs and why."""

    def __init__(self, model: Any, x: Tensor, noise: Tensor, who: str, *, training: bool) -> None:
        self._model, self._x, self._noise, self._who = model, x, noise, who
        self._training = training
        self._mode = "training" if training else "evaluation"
        self._draws = False
        self._memory = ""

    def check(self) -> bool:
        encoder = self._twice("encode(x)", self._model.encode, self._x)
        latents = encoder.mean + self._noise[0] * (0.5 * encoder.log_var).exp()
        decoder = self._twice("decode(z)", self._model.decode, latents)
        self._twice("prior()", lambda _: self._model.prior(), latents)
        # Another batch in between, of another size: what decode remembers of the points then shows.
        other = torch.cat((self._x.flip(0) * 0.5 + 0.25, self._x[:1]))
        torch.manual_seed(0)
        self._model.encode(other)
        try:
            again = self._seeded(self._model.decode, latents)
        except (RuntimeError, ValueError, IndexError, TypeError):
            again = None
        if again is None or not _same_gaussian(decoder, again):
            raise PluginError(
                f"{self._who}: decode(z) gives something else after other points have been encoded, so it uses what "
                "encode(x) left behind; it must be a function of z alone, since the engine decodes latents of its own"
            )
        if self._memory:
            raise PluginError(self._memory)
        return self._draws

    @staticmethod
    def _seeded(method: Callable[[Tensor], Any], value: Tensor) -> Any:
        torch.manual_seed(0)
        return method(value)

    def _twice(self, what: str, method: Callable[[Tensor], Any], value: Tensor) -> DiagonalGaussian:
        given = value.clone()
        buffers = kept_buffers(self._model)
        first = self._seeded(method, given)
        if not is_same(given, value):
            raise PluginError(f"{self._who}: {what} changes its argument in place; work on a copy of it")
        self._require_finite(first, what, value)
        attributes = kept_attributes(self._model)
        torch.manual_seed(0)
        before = torch.get_rng_state(), random.getstate(), numpy_state()
        again = method(value.clone())
        drawn = not torch.equal(before[0], torch.get_rng_state())
        changed = what_changed(attributes, kept_attributes(self._model))
        types = {first.mean.dtype, first.log_var.dtype}
        if types != {value.dtype}:
            given_types = ", ".join(sorted(str(one) for one in types))
            raise PluginError(f"{self._who}: {what} returns {given_types} for {value.dtype}; expected the same")
        if drawn and not self._training:
            raise PluginError(
                f"{self._who}: {what} draws random numbers from torch in evaluation mode; noise is passed in by the "
                "engine, never drawn (return mean and log-variance, not a sample)"
            )
        if before[1] != random.getstate() or before[2] != numpy_state():
            raise PluginError(
                f"{self._who}: {what} draws random numbers from Python or NumPy, so that a run could not be resumed or "
                "repeated; draw from torch, in training mode alone"
            )
        if changed:
            self._memory = (
                f"{self._who}: {what} changes the attribute {changed!r}, which no checkpoint holds, so that a resumed "
                "run would differ; keep nothing between calls, or register a buffer and update it in training mode"
            )
            if not _same_gaussian(first, again):
                raise PluginError(self._memory)
        if not self._training and (name := what_changed(buffers, kept_buffers(self._model))):
            raise PluginError(f"{self._who}: {what} changes the buffer {name!r} in evaluation mode; only training may")
        name = what_changed(buffers, kept_buffers(self._model)) if self._training else ""
        if name and name not in self._model.state_dict():
            raise PluginError(
                f"{self._who}: {what} changes the buffer {name!r}, which is not persistent, so no checkpoint holds it"
            )
        if not _same_gaussian(first, again):
            raise PluginError(
                f"{self._who}: {what} differs from call to call in {self._mode} mode, although all it is given and "
                "torch's random state are the same; it must not use a generator, a clock or a counter of its own"
            )
        self._draws = self._draws or drawn
        return cast(DiagonalGaussian, first)

    def _require_finite(self, gaussian: Any, what: str, value: Tensor) -> None:
        for name, part in (("mean", gaussian.mean), ("log_var", gaussian.log_var)):
            if not bool(part.isfinite().all()):
                kind = "nan" if bool(part.isnan().any()) else "infinite"
                raise PluginError(
                    f"{self._who}: the {name} of {what} is {kind} before the first step, for values between "
                    f"{float(value.min()):.4g} and {float(value.max()):.4g}"
                )


def _require_pointwise(model: Any, x: Tensor, noise: Tensor, who: str) -> None:
    tolerance = TOLERANCE.get(x.dtype, 1e-2)
    for name, method, batch in (
        ("encode(x)", model.encode, x),
        ("decode(z)", model.decode, noise),
    ):
        shape = tuple(batch.shape)
        try:
            together = method(batch)
            first = batch if batch.ndim == NEXT_TO_EACH_OTHER else batch[0]
            alone = [method(row) for row in first.split(1)]
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise PluginError(
                f"{who}: {name} fails for a batch of shape {shape} or a single point of it ({reason}); its argument "
                "may have any number of leading dimensions: take -1 and *x.shape[:-1] where it is reshaped"
            ) from error
        pairs = [(together.mean, torch.cat([gaussian.mean for gaussian in alone]))]
        if together.log_var.ndim > 1:
            log_var = torch.cat([gaussian.log_var.expand_as(gaussian.mean) for gaussian in alone])
            pairs.append((together.log_var.expand_as(together.mean), log_var))
        same = together.mean.shape[:-1] == batch.shape[:-1] and all(
            torch.allclose(whole.reshape(-1, parts.shape[-1])[: len(parts)], parts, rtol=tolerance, atol=tolerance)
            for whole, parts in pairs
        )
        if not same:
            raise PluginError(
                f"{who}: {name} of a batch of shape {shape} is not that of its points, one by one; in evaluation mode "
                "each point is treated by itself"
            )


def _require_gradients(model: Any, x: Tensor, noise: Tensor, who: str) -> None:
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trainable:
        raise PluginError(f"{who}: it has no trainable parameter")
    with torch.enable_grad():
        latents = noise.clone().requires_grad_()
        decoder = model.decode(latents)
        if not _depends(decoder, latents):
            raise PluginError(
                f"{who}: decode(z) does not depend on z differentiably, so the encoder would not learn from the data; "
                "leave out detach(), no_grad() and NumPy"
            )
        terms = batch_terms(cast(Model, model), x.clone(), noise)
        aim, what = terms.elbo, "the ELBO"
        if callable(getattr(model, "objective", None)):
            aim, what = objective_of(model, x, noise, who), "its objective"
        gradients: tuple[Tensor | None, ...] = (None,) * len(trainable)
        if aim.requires_grad:
            gradients = torch.autograd.grad(aim, list(trainable.values()), allow_unused=True, retain_graph=True)
        for name, gradient in zip(trainable, gradients, strict=True):
            if gradient is None:
                raise PluginError(
                    f"{who}: {what} does not depend on parameter {name!r}, so it never trains; use it (and leave out "
                    "detach() and no_grad() on its way), take it out, or set requires_grad_(False)"
                )
            if not bool(gradient.isfinite().all()):
                raise PluginError(f"{who}: the gradient of {what} in parameter {name!r} is not finite")
        require_log_variances(cast(Model, model), terms, who)


def _depends(gaussian: Any, value: Tensor) -> bool:
    total = gaussian.mean.sum() + gaussian.log_var.sum()
    if not total.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(total, value, allow_unused=True)
    return gradient is not None


def _same_gaussian(one: Any, other: Any) -> bool:
    return is_same(one.mean, other.mean) and is_same(one.log_var, other.log_var)
