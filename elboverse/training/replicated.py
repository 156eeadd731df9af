"""The replicated step: R copies of a model, each with its own parameters, data order and noise, in one update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from elboverse.contracts import Model, SamplingFree
from elboverse.training.family_gradients import (
    FamilyFunctions,
    FamilyGradients,
    latent_terms,
    reconstruct,
)
from elboverse.training.features_first import features_first
from elboverse.training.flat import flattened
from elboverse.training.gradients import LOG_VAR_FLOOR, Functions, Gradients
from elboverse.training.step import (
    ALL,
    Rules,
    Step,
    StepSettings,
    evaluating,
    expected_error,
)
from elboverse.training.taped import TapedGradients

__all__ = ["ReplicatedStep"]


class ReplicatedStep(Step):
    """The step of R models at once: stacked parameters and buffers, the model under `torch.func.vmap`, one fused Adam.

    The losses of the replicas are summed, which leaves each replica's gradient its own; Adam acts on each number
    by itself. Replica r therefore does what `SingleStep` does with model r, up to float rounding.

    Args:
        models: R models of one architecture, on one device.
        settings: constraint, variances and learning rates.
    """

    def __init__(self, models: Sequence[Model], settings: StepSettings) -> None:
        self.replicas = len(models)
        template = models[0]
        rules = Rules.of(template, settings)
        self._rules = rules
        self._template = features_first(template)
        parameters, self._buffers = stack_module_state(cast(list[nn.Module], list(models)))
        self._parameters: dict[str, Tensor] = {
            name: value.detach().requires_grad_(name not in rules.set_directly) for name, value in parameters.items()
        }
        stacked = {**dict(template.named_parameters()), **dict(cast(nn.Module, template).named_buffers())}
        names = {id(value): name for name, value in stacked.items()}
        self._stored = {name: names[id(value)] for name, value in template.state_dict(keep_vars=True).items()}
        self._trained = {name: value for name, value in self._parameters.items() if value.requires_grad}
        groups = flattened(self._trained, rules.learning_rates(self._trained))
        self._optimizer = settings.build_optimiser(groups, len(models))
        penalty = self._penalty if rules.penalised is not None else None
        gradients: Gradients | FamilyGradients
        if settings.general:
            gradients = FamilyGradients(
                FamilyFunctions(
                    latents=self._lifted(partial(latent_terms, objective=settings.objective)),
                    reconstruct=self._lifted(reconstruct),
                    bound=self._lifted(settings.objective.bound, (0, 0, None)),
                    penalty=penalty,
                    replicated=True,
                ),
                samples_at_once=settings.samples_at_once,
                objective=settings.objective,
            )
        else:
            prior_name = template.variance_parameters().prior
            fixed_prior = torch.stack([model.prior().log_var.detach() for model in models])
            gradients = rules.gradients(
                Functions(
                    encode=self._lifted(lambda model, x: model.encode(x)),
                    decode=self._lifted(lambda model, z: model.decode(z)),
                    prior_log_var=fixed_prior if prior_name is None else self._parameters[prior_name],
                    expected_error=self._lifted(expected_error) if isinstance(template, SamplingFree) else None,
                    penalty=penalty,
                    replicated=True,
                ),
                settings,
            )
        self._gradients = TapedGradients(
            gradients,
            self._trained,
            groups,
            cast(nn.Module, self._template),
            list(self._buffers.values()),
            taped=settings.taped,
        )
        self._project()

    @property
    def obstacle(self) -> str:
        """Why gradients do not come from a tape."""
        return self._gradients.obstacle

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
        """Update all replicas once and return the rows' columns, shape (R, 2 + 3H)."""
        columns, optima = self._gradients(x, noise, beta)
        self._optimizer.step()
        for name, value in zip(self._rules.set_directly, optima, strict=True):
            self._parameters[name].detach().copy_(value)
        for name in self._rules.floored:
            self._parameters[name].detach().clamp_min_(LOG_VAR_FLOOR)
        self._project()
        return columns

    def set_rate_factor(self, factor: float) -> None:
        """Set what the learning rates of the next steps are multiplied by."""
        self._optimizer.factor = factor

    def map_models(
        self, function: Callable[..., Tensor], x: Tensor, noise: Tensor | None, replicas: slice = ALL
    ) -> Tensor:
        """Return the function's value for each replica asked for, stacked."""
        axes = (0 if x.ndim == 3 else None, None if noise is None else 0)
        with torch.no_grad(), evaluating(self._template):
            return self._lifted(function, axes, replicas)(x, noise)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, what a model has under two names under both, as `SingleStep` does.

        Adam's step count, one for all replicas, is given an axis of length R too.
        """
        stacked = self._parameters | self._buffers
        tensors = {f"model/{name}": stacked[first].data for name, first in self._stored.items()}
        for path, tensor in self._optimizer.tensors().items():
            tensors[f"optimizer/{path}"] = tensor.expand(self.replicas) if tensor.ndim == 0 else tensor
        return tensors

    def set_closed_form(self, values: Mapping[str, Tensor]) -> None:
        """Set variance parameters to values of shape (R, ...)."""
        with torch.no_grad():
            for name, value in values.items():
                self._parameters[name].copy_(value.clamp_min(LOG_VAR_FLOOR))

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of the settings by a factor from now on."""
        self._optimizer.scale = factor

    def _lifted(
        self, function: Callable[..., Any], axes: tuple[int | None, ...] | None = None, replicas: slice | None = None
    ) -> Callable[..., Any]:
        """Return ``function(model, *arguments)`` as a function of arguments that have R in front."""
        bound = BoundModel(self._template, function)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], *arguments: Tensor | None) -> Any:
            state = {f"model.{name}": value for name, value in (parameters | buffers).items()}
            return functional_call(bound, state, arguments)

        def lifted(*arguments: Tensor | None) -> Any:
            in_dims = (0, 0, *((0,) * len(arguments) if axes is None else axes))
            parameters, buffers = self._parameters, self._buffers
            if replicas is not None:
                parameters = {name: value[replicas] for name, value in parameters.items()}
                buffers = {name: value[replicas] for name, value in buffers.items()}
            return vmap(one, in_dims=in_dims, randomness="different")(parameters, buffers, *arguments)

        return lifted

    def _penalty(self) -> Tensor:
        assert self._rules.penalty is not None  # noqa: S101 - for the type checker
        assert self._rules.penalised is not None  # noqa: S101 - for the type checker
        penalties: Tensor = vmap(self._rules.penalty.penalty)(self._parameters[self._rules.penalised])
        return penalties.sum()

    def _project(self) -> None:
        if self._rules.projection is not None:
            with torch.no_grad():
                for name in self._rules.projected:
                    weight = self._parameters[name]
                    weight.copy_(vmap(self._rules.projection.project)(weight))


class BoundModel(nn.Module):
    """A function of a model as a module, so that `torch.func.functional_call` can exchange the parameters.

    Args:
        model: the model.
        function: called as ``function(model, *arguments)``.
    """

    def __init__(self, model: Model, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *arguments: Tensor | None) -> Any:
        """Return the function's value."""
        return self.function(self.model, *arguments)
