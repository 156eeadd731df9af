"""What a model is: a `torch.nn.Module` that gives three distributions, and nothing about training.

Tensors appear in annotations only, so that this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["Conditional", "Constrainable", "Model", "OwnObjective", "SamplingFree", "VarianceParameters"]


@runtime_checkable
class Model(Protocol):
    """A Gaussian VAE: a `torch.nn.Module` that gives three Gaussians, and knows nothing about training.

    `build(options, data_shape)` of a model component returns one. The engine calls `encode` and `decode` in every
    step, under automatic differentiation and, for replicas, under `torch.func.vmap`; they must therefore be pure
    functions of parameters, buffers and arguments: no random numbers, no in-place change of their arguments, no
    branching on tensor values.

    The model is in training mode during steps and in evaluation mode during evaluations. In training mode alone may
    buffers be updated and points be treated together, as batch normalisation does.
    """

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return q(z|x) for points x of shape (*B, D): mean ν and log-variance ln τ² of shape (*B, H)."""
        ...

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents z of shape (*B, H): mean of shape (*B, D), log-variance that broadcasts to it.

        A log-variance of shape () or (D,) says that Σ does not depend on z, which is cheaper.
        """
        ...

    def prior(self) -> DiagonalGaussian:
        """Return p(z): mean and log-variance of shape (H,).

        Its mean must be zero. Its log-variance must be fixed, or be the very parameter that `variance_parameters`
        names as prior: a step reads it once, when training starts.
        """
        ...

    def variance_parameters(self) -> VarianceParameters:
        """Return which parameters are variances; see `VarianceParameters`."""
        ...

    def get_parameter(self, target: str) -> nn.Parameter:
        """As of `torch.nn.Module`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of `torch.nn.Module`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """As of `torch.nn.Module`."""
        ...

    def eval(self) -> Any:
        """As of `torch.nn.Module`."""
        ...

    def state_dict(self, *, keep_vars: bool = False) -> dict[str, Tensor]:
        """As of `torch.nn.Module`."""
        ...


@attrs.frozen
class VarianceParameters:
    """The names of a model's parameters that are log-variances themselves.

    They train with their own learning rate. Where `training.variances` is ``"optimal"``, they are not trained
    but set to the maximiser of the ELBO given the rest, σ² = s² and α²_h = m_h (docs/theory.md, "Closed-form
    variances").

    Args:
        decoder: name of the parameter that is ln σ², shape () or (D,), or None where Σ is fixed or depends on z.
        prior: name of the parameter that is ln α², shape (H,), or None where the prior is fixed.
        heads: names of further parameters that shape a variance (a head for Σ(z), say) and so take the
            variances' learning rate; they have no closed form.
    """

    decoder: str | None = None
    prior: str | None = None
    heads: tuple[str, ...] = ()

    @property
    def closed_form(self) -> tuple[str, ...]:
        """The parameters that have a closed-form optimum."""
        return tuple(name for name in (self.decoder, self.prior) if name is not None)


@runtime_checkable
class SamplingFree(Protocol):
    """A model whose expected reconstruction error is known exactly, so that its ELBO needs no samples.

    The linear VAE is one. Its Σ must not depend on z.
    """

    def expected_squared_error(self, x: Tensor, encoder: DiagonalGaussian) -> Tensor:
        """Return E_q (x_d − μ_d(z))² for points x of shape (*B, D) and q(z|x) = `encoder`, shape (*B, D)."""
        ...

    def decoder_log_variance(self) -> Tensor:
        """Return ln σ², shape () or (D,)."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A model of p(x|z, c): it is given conditions c of each point beside it, which it does not model.

    Its `build` has a parameter ``conditions``, which is given C by name, 0 where the data have none. With C > 0 its
    `encode` and `decode` take the conditions as their second argument. A batch holds points with their conditions
    behind them, (B, D + C). The prior does not depend on them.
    """

    condition_dimension: int
    """C; with 0, `encode` and `decode` are called as those of any other model."""

    def encode(self, x: Tensor, c: Tensor) -> Any:
        """Return q(z|x, c) for points x of shape (*B, D) and conditions c of shape (*B, C)."""
        ...

    def decode(self, z: Tensor, c: Tensor) -> Any:
        """Return p(x|z, c) for latents z of shape (*B, H) and conditions c of shape (*B, C)."""
        ...


@runtime_checkable
class OwnObjective(Protocol):
    """A model that is trained by an objective of its own; ELBO and entropies are recorded beside it.

    The entropy sum equals the ELBO where the ELBO is stationary, so that no certificate holds for such a model.
    """

    def objective(self, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        """Return what is maximised in place of the ELBO, in nats per point, shape (); recorded as ``objective``.

        Like `Model.encode`, it is a pure function: of the model's parameters and these.

        Args:
            x: what a batch holds, shape (B, D), with conditions (B, D + C).
            noise: ε ~ N(0, I), shape (B, H) or (K, B, H).
            beta: the KL weight that the annealing schedule gives for the step, shape ().
        """
        ...


@runtime_checkable
class Constrainable(Protocol):
    """A model with a weight that a constraint can act on."""

    def constrained_weight(self) -> str:
        """Return the name of the parameter W of shape (F, H): the first linear layer of the decoder, columns W_h."""
        ...
