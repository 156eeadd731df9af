"""The training step of one model, and what every kind of step has in common."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import attrs
import torch
from torch import Tensor, nn

from elboverse.contracts import Constrainable, Model, Penalty, Projection, SamplingFree
from elboverse.contracts.optimiser import Adam, Optimiser
from elboverse.errors import RunFileError
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.family_gradients import (
    ELBO,
    FamilyFunctions,
    FamilyGradients,
    Objective,
    latent_terms,
    reconstruct,
)
from elboverse.training.flat import FlatGroup, flattened
from elboverse.training.gradients import LOG_VAR_FLOOR, Functions, Gradients
from elboverse.training.optimising import FlatOptimiser
from elboverse.training.taped import TapedGradients

__all__ = ["ALL", "Rules", "SingleStep", "Step", "StepSettings"]

ALL: Final = slice(None)
"""All replicas."""


class Step(abc.ABC):
    """One update of the parameters from a batch: a function of parameters, batch, noise and β.

    It holds the parameters of R replicas, each with shape (R, ...) in `tensors`. Abstract: final are `SingleStep` and
    `replicated.ReplicatedStep`.

    Attributes:
        replicas: R.
    """

    replicas: int

    @property
    @abc.abstractmethod
    def obstacle(self) -> str:
        """Why gradients do not come from a tape, in one line; empty where they do, and before the first step."""

    @abc.abstractmethod
    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
        """Update the parameters once and return the columns of a row (see `records`), of before the update.

        The tensor returned may be filled anew by the next call.

        Args:
            x: points, shape (B, D), with R in front for replicas.
            noise: (B, H) or (K, B, H), with R in front for replicas, or None.
            beta: the KL weight, shape ().
        """

    @abc.abstractmethod
    def map_models(
        self, function: Callable[..., Tensor], x: Tensor, noise: Tensor | None, replicas: slice = ALL
    ) -> Tensor:
        """Return ``function(model, x, noise)`` of replicas, stacked along a new first axis, without gradient.

        Args:
            function: of a model, its points and its noise.
            x: points (B, D) that all replicas share, or (r, B, D) for those asked for.
            noise: shape (r, ...), or None.
            replicas: the r replicas asked for, consecutive ones.
        """

    def at(self, number: int) -> None:  # noqa: B027 - most steps are the same whatever their number
        """Say the number of the step that is called next."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that make up the state, by path (``model/…``, ``optimizer/…``), each of shape (R, ...)."""

    @abc.abstractmethod
    def set_rate_factor(self, factor: float) -> None:
        """Set what the learning rates of the next steps are multiplied by."""

    @abc.abstractmethod
    def set_closed_form(self, values: Mapping[str, Tensor]) -> None:
        """Set variance parameters, by name, to values of shape (R, ...)."""

    @abc.abstractmethod
    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of the settings by a factor from now on; 1 brings them back."""

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take over the state that `tensors` returned earlier.

        Args:
            tensors: arrays or tensors by path.

        Raises:
            RunFileError: a tensor is missing, unknown, or of another shape.
        """
        self._require_fitting(tensors)
        with torch.no_grad():
            for path, target in self.tensors().items():
                value = torch.as_tensor(tensors[path])
                if target.stride(0) == 0:  # a number that all replicas share, shown with an axis of length R
                    target[0].copy_(value[0])
                else:
                    target.copy_(value)

    def _require_fitting(self, tensors: Mapping[str, Any]) -> None:
        own = self.tensors()
        if own.keys() != tensors.keys():
            differing = ", ".join(sorted(own.keys() ^ tensors.keys()))
            raise RunFileError(f"the checkpoint does not fit the model: {differing} on one side only")
        for path, target in own.items():
            shape = tuple(tensors[path].shape)
            if shape != tuple(target.shape):
                raise RunFileError(
                    f"the checkpoint does not fit the model: {path} has shape {shape}, not {tuple(target.shape)}"
                )


@attrs.frozen(eq=False, kw_only=True)
class StepSettings:
    """How parameters are updated.

    Args:
        constraint: a weight constraint, or None.
        optimal: set the closed-form variances in each step instead of training them.
        learning_rate: of all parameters but the variances.
        variance_learning_rate: of the variances.
        samples_at_once: how many of the K samples go through the decoder together.
        compile_mode: how `torch.compile` compiles encoder and decoder; None if it does not.
        optimiser: how parameters follow from gradients.
        clip_norm: the norm that a replica's gradient is scaled down to where it is larger; None leaves it.
        tape: take the gradients from a tape (see `taped`) where nothing is compiled and the model allows it.
        general: the model is not three diagonal Gaussians, so that its rows are those of `records.FAMILY_LAYOUT`.
        objective: what a general step maximises.
    """

    constraint: Projection | Penalty | None = None
    optimal: bool = False
    learning_rate: float = 1e-3
    variance_learning_rate: float = 1e-3
    samples_at_once: int = 1
    compile_mode: str | None = None
    tape: bool = True
    optimiser: Optimiser = Adam()
    clip_norm: float | None = None
    general: bool = False
    objective: Objective = ELBO

    @property
    def taped(self) -> bool:
        """Whether gradients come from a tape where they can."""
        return self.tape and self.compile_mode is None

    def build_optimiser(self, groups: Sequence[FlatGroup], replicas: int) -> FlatOptimiser:
        """Return what updates the parameters of a step."""
        return FlatOptimiser(groups, self.optimiser, clip_norm=self.clip_norm, replicas=replicas)


@attrs.frozen(eq=False, kw_only=True)
class Rules:
    """What the settings mean for the parameters of a model, by name.

    Args:
        projection: the constraint's projection, or None.
        projected: the weight that it acts on, if there is one.
        penalty: the constraint's penalty, or None.
        penalised: the weight that it acts on, or None.
        optimal_decoder: whether the decoder's variance is set to its closed form, not trained.
        optimal_prior: the same for the prior's.
        set_directly: the parameters so set, the decoder's first.
        variances: parameters that take the variances' learning rate.
        learning_rate: of the others.
        variance_learning_rate: of the variances.
        floored: learned log-variances of the decoder that are held at `LOG_VAR_FLOOR`.
    """

    projection: Projection | None
    projected: tuple[str, ...]
    penalty: Penalty | None
    penalised: str | None
    optimal_decoder: bool
    optimal_prior: bool
    set_directly: tuple[str, ...]
    variances: frozenset[str]
    learning_rate: float
    variance_learning_rate: float
    floored: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, settings: StepSettings) -> Rules:
        """Return the rules for a model."""
        names = model.variance_parameters()
        constraint = settings.constraint
        weight = model.constrained_weight() if constraint is not None and isinstance(model, Constrainable) else None
        projection = constraint if isinstance(constraint, Projection) else None
        penalty = constraint if isinstance(constraint, Penalty) else None
        return cls(
            projection=projection,
            projected=(weight,) if projection is not None and weight is not None else (),
            penalty=penalty,
            penalised=weight if penalty is not None else None,
            optimal_decoder=settings.optimal and names.decoder is not None,
            optimal_prior=settings.optimal and names.prior is not None,
            set_directly=names.closed_form if settings.optimal else (),
            variances=frozenset(names.closed_form + names.heads),
            learning_rate=settings.learning_rate,
            variance_learning_rate=settings.variance_learning_rate,
            floored=(names.decoder,) if names.decoder is not None and not settings.optimal else (),
        )

    def gradients(self, functions: Functions, settings: StepSettings) -> Gradients:
        """Return what computes the gradients of functions under these rules."""
        return Gradients(
            functions,
            optimal_decoder=self.optimal_decoder,
            optimal_prior=self.optimal_prior,
            samples_at_once=settings.samples_at_once,
            compile_mode=settings.compile_mode,
        )

    def learning_rates(self, names: Iterable[str]) -> dict[str, float]:
        """Return the learning rate of each parameter named."""
        return {name: self.variance_learning_rate if name in self.variances else self.learning_rate for name in names}


class SingleStep(Step):
    """The step of one model.

    Args:
        model: the model, on its device; trained in place.
        settings: constraint, variances and learning rates.
    """

    def __init__(self, model: Model, settings: StepSettings) -> None:
        self.replicas = 1
        self.model = model
        rules = Rules.of(model, settings)
        for name in rules.set_directly:
            model.get_parameter(name).requires_grad_(False)
        self._trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        groups = flattened(self._trained, rules.learning_rates(self._trained))
        self._optimizer = settings.build_optimiser(groups, 1)
        self._direct = [model.get_parameter(name).detach() for name in rules.set_directly]
        self._floored = [model.get_parameter(name).detach() for name in rules.floored]
        self._projected = [model.get_parameter(name) for name in rules.projected]
        self._projection = rules.projection
        penalised = model.get_parameter(rules.penalised) if rules.penalised else None
        penalty = rules.penalty
        penalise = None if penalty is None or penalised is None else lambda: penalty.penalty(penalised)
        gradients: Gradients | FamilyGradients
        if settings.general:
            gradients = FamilyGradients(
                FamilyFunctions(
                    latents=partial(latent_terms, model, objective=settings.objective),
                    reconstruct=partial(reconstruct, model),
                    bound=partial(settings.objective.bound, model),
                    penalty=penalise,
                    replicated=False,
                ),
                samples_at_once=settings.samples_at_once,
                objective=settings.objective,
            )
        else:
            gradients = rules.gradients(
                Functions(
                    encode=model.encode,
                    decode=model.decode,
                    prior_log_var=model.prior().log_var,
                    expected_error=partial(expected_error, model) if isinstance(model, SamplingFree) else None,
                    penalty=penalise,
                    replicated=False,
                ),
                settings,
            )
        module = cast(nn.Module, model)
        self._gradients = TapedGradients(
            gradients, self._trained, groups, module, list(module.buffers()), taped=settings.taped
        )
        self._project()

    @property
    def obstacle(self) -> str:
        """Why gradients do not come from a tape."""
        return self._gradients.obstacle

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
        """Update the parameters once and return the row's columns, shape (2 + 3H,)."""
        columns, optima = self._gradients(x, noise, beta)
        self._optimizer.step()
        for parameter, value in zip(self._direct, optima, strict=True):
            parameter.copy_(value)
        for parameter in self._floored:
            parameter.clamp_min_(LOG_VAR_FLOOR)
        self._project()
        return columns

    def set_rate_factor(self, factor: float) -> None:
        """Set what the learning rates of the next steps are multiplied by."""
        self._optimizer.factor = factor

    def map_models(
        self,
        function: Callable[..., Tensor],
        x: Tensor,
        noise: Tensor | None,
        replicas: slice = ALL,  # noqa: ARG002 - there is but one
    ) -> Tensor:
        """Return the function's value for the model with one more axis in front."""
        with torch.no_grad(), evaluating(self.model):
            return function(self.model, x[0] if x.ndim == 3 else x, None if noise is None else noise[0]).unsqueeze(0)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, each tensor with one more axis in front."""
        model = {f"model/{name}": value.data for name, value in self.model.state_dict(keep_vars=True).items()}
        everything = model | {f"optimizer/{path}": tensor for path, tensor in self._optimizer.tensors().items()}
        return {path: tensor.unsqueeze(0) for path, tensor in everything.items()}

    def set_closed_form(self, values: Mapping[str, Tensor]) -> None:
        """Set variance parameters to values of shape (1, ...)."""
        with torch.no_grad():
            for name, value in values.items():
                self.model.get_parameter(name).copy_(value[0].clamp_min(LOG_VAR_FLOOR))

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of the settings by a factor from now on."""
        self._optimizer.scale = factor

    def _project(self) -> None:
        if self._projection is not None:
            with torch.no_grad():
                for weight in self._projected:
                    weight.copy_(self._projection.project(weight))


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a model into evaluation mode, in which batch normalisation uses its running statistics, and back."""
    model.eval()
    try:
        yield
    finally:
        model.train()


def expected_error(model: Model, x: Tensor, mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    """Return E_q (x_d − μ_d)² and ln σ² of a `contracts.SamplingFree` model."""
    assert isinstance(model, SamplingFree)  # noqa: S101 - for the type checker
    return model.expected_squared_error(x, DiagonalGaussian(mean, log_var)), model.decoder_log_variance()
