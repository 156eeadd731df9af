"""Whatever a decoder returns, seen as p(x|z): a torch distribution, one of ours, or a pair (mean, log_var)."""

from __future__ import annotations

from typing import Any, Final, Protocol

import attrs
import torch
from torch import Tensor
from torch import distributions as torch_distributions

from elboverse.errors import DataError
from elboverse.theory import distributions as ours

__all__ = ["Decoded", "decoded", "float32_at_least"]

_HALVES: Final = (torch.float16, torch.bfloat16)


class Decoded(Protocol):
    """p(x|z) of points (B, …) for latents with sample axes K in front; all is summed over what a point is made of."""

    @property
    def log_var(self) -> Tensor | None:
        """Ln σ² of a Gaussian, any shape; None of any other family."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Return ln p(x|z) in nats, shape (*K, B)."""
        ...

    def log_reference(self, x: Tensor) -> Tensor:
        """Return ln h(x) in nats, shape (B,) or (*K, B)."""
        ...

    def entropy(self) -> Tensor | None:
        """Return H̃(z) in nats, shape (*K, B); None where it has no closed form."""
        ...

    def sample(self) -> Tensor:
        """Return a draw with torch's own generator, shape (*K, B, …)."""
        ...


@attrs.frozen(eq=False)
class Family:
    """A decoder distribution of `elboverse.theory.distributions`, flattened to (*K, B, D).

    Args:
        parts: the distribution.
        point_shape: of one point, as the user has it.
    """

    parts: Any
    point_shape: tuple[int, ...]

    @property
    def log_var(self) -> Tensor | None:
        """Ln σ² of a Gaussian; None of any other family."""
        return self.parts.log_var if isinstance(self.parts, ours.GaussianDecoder) else None

    def log_prob(self, x: Tensor) -> Tensor:
        """Return ln p(x|z), shape (*K, B)."""
        found: Tensor = self.parts.log_prob(x.flatten(1))
        return found

    def log_reference(self, x: Tensor) -> Tensor:
        """Return ln h(x), shape (B,) or (*K, B)."""
        found: Tensor = self.parts.log_reference(x.flatten(1))
        return found

    def entropy(self) -> Tensor | None:
        """Return H̃(z), shape (*K, B)."""
        found: Tensor = self.parts.entropy()
        return found

    def sample(self) -> Tensor:
        """Return a draw, shape (*K, B, …)."""
        drawn: Tensor = self.parts.sample(torch.randn_like(self.parts.mean))
        return drawn.unflatten(-1, self.point_shape)


@attrs.frozen(eq=False)
class Foreign:
    """Any other distribution that has `log_prob` and `sample`.

    Args:
        of: the distribution.
        point_axes: how many axes a point has.
        count: of the axes K and B together.
    """

    of: Any
    point_axes: int
    count: int

    @property
    def log_var(self) -> Tensor | None:
        """None: it is not a Gaussian that we know."""
        return None

    def log_prob(self, x: Tensor) -> Tensor:
        """Return ln p(x|z), shape (*K, B)."""
        return _summed(self.of.log_prob(x), self.count)

    def log_reference(self, x: Tensor) -> Tensor:
        """Return 0: its entropy, where it has one, is Shannon's."""
        return torch.zeros(len(x), dtype=x.dtype if x.is_floating_point() else torch.float32, device=x.device)

    def entropy(self) -> Tensor | None:
        """Return its own entropy; None where it has none."""
        try:
            return _summed(self.of.entropy(), self.count)
        except (NotImplementedError, AttributeError):
            return None

    def sample(self) -> Tensor:
        """Return a draw, shape (*K, B, …)."""
        drawn: Tensor = self.of.sample()
        return drawn


def decoded(p: Any, x: Tensor, argument: str = "p", *, look: bool = True) -> Decoded:
    """Return what a user's decoder gave, seen as p(x|z).

    Args:
        p: a torch distribution, a decoder distribution of ours, a `DiagonalGaussian`, or a pair (mean, log_var).
        x: the points, shape (B, …).
        argument: how messages call it.
        look: whether to look at the values, for which a device has to wait.

    Raises:
        DataError: it is none of these, or does not fit the points. The message says what to pass.
    """
    if isinstance(p, ours.DecoderDistribution):
        mean = p.mean
        shape = (*mean.shape[:-1], *x.shape[1:]) if x.ndim > 2 else tuple(mean.shape)
        _require_fit(shape, mean.device, x, argument)
        given = getattr(p, "given", None)  # what is not modelled of the points, such as their total count
        return Family(p if given is None else given(x.flatten(1)), tuple(x.shape[1:]))
    if isinstance(p, torch_distributions.Distribution):
        return _of_torch(p, x, argument, look)
    if isinstance(p, tuple) and len(p) == 2 and all(isinstance(part, Tensor) for part in p):
        mean, log_var = (float32_at_least(part) for part in p)
        _require_fit(tuple(mean.shape), mean.device, x, argument)
        points = x.ndim - 1
        if log_var.ndim:
            log_var = log_var.expand_as(mean) if points > 1 or log_var.shape[-1:] != mean.shape[-1:] else log_var
            log_var = log_var.flatten(-points) if points > 1 else log_var
        return Family(ours.GaussianDecoder(mean.flatten(-points), log_var), tuple(x.shape[1:]))
    if hasattr(p, "log_prob") and hasattr(p, "sample"):
        return Foreign(p, x.ndim - 1, 1)
    given = "a tensor, which is a mean without a likelihood" if isinstance(p, Tensor) else f"a {type(p).__name__}"
    raise DataError(
        f"{argument}: got {given}; expected a distribution of x: pass torch.distributions.Normal(mean, std), "
        "Bernoulli(logits=…) or another, or a pair (mean, log_var)"
    )


def float32_at_least(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 where it is in half precision: sums of many terms need it."""
    return tensor.float() if tensor.dtype in _HALVES else tensor


def _of_torch(p: Any, x: Tensor, argument: str, look: bool) -> Decoded:
    base = p
    while isinstance(base, torch_distributions.Independent):
        base = base.base_dist
    values = (*base.batch_shape, *base.event_shape) or tuple(base.mean.shape)  # scvi-tools' have no batch_shape
    _require_fit(values, _device_of(base), x, argument)
    axes = x.ndim - 1
    if look:
        _require_support(base, argument)
    parts = _family(base, axes)
    if parts is not None:
        return Family(parts, tuple(x.shape[1:]))
    return Foreign(p, axes, len(values) - axes)


def _family(base: Any, axes: int) -> Any:
    """Return the distribution of ours that is the same as torch's; None where there is none."""

    def flat(tensor: Tensor) -> Tensor:
        return float32_at_least(tensor).flatten(-axes) if axes > 1 else float32_at_least(tensor)

    match type(base):
        case torch_distributions.Normal:
            return ours.GaussianDecoder(flat(base.loc), 2 * flat(base.scale).log())
        case torch_distributions.Bernoulli:
            return ours.Bernoulli(flat(base.logits))
        case torch_distributions.Laplace:
            return ours.Laplace(flat(base.loc), flat(base.scale).log())
        case torch_distributions.Poisson:
            return ours.Poisson(flat(base.rate).log())
        case torch_distributions.ContinuousBernoulli:
            return ours.ContinuousBernoulli(flat(base.logits))
        case torch_distributions.LogNormal:
            return ours.LogNormal(flat(base.loc), 2 * flat(base.scale).log())
        case torch_distributions.StudentT:
            return ours.StudentT(flat(base.loc), 2 * flat(base.scale).log(), flat(base.df).log())
        case torch_distributions.Exponential:
            return ours.Exponential(flat(base.rate).log())
        case torch_distributions.Gamma:
            mean = (base.concentration / base.rate).log()
            return ours.Gamma(flat(mean), flat(base.concentration).log())
        case torch_distributions.Beta:
            alpha, beta = base.concentration1, base.concentration0
            return ours.Beta(flat((alpha / beta).log()), flat((alpha + beta).log()))
        case torch_distributions.NegativeBinomial:
            theta = base.total_count
            zero = torch.zeros((), dtype=base.logits.dtype, device=base.logits.device)
            return ours.NegativeBinomial(flat(theta.log() + base.logits), flat(theta.log()), zero)
        case _:
            return _of_scvi(base, flat)


def _of_scvi(base: Any, flat: Any) -> Any:
    """Return scvi-tools' negative binomial and Poisson as ours; None for its others, such as the zero-inflated one."""
    if not type(base).__module__.startswith("scvi."):
        return None
    if type(base).__name__ == "NegativeBinomial":
        zero = torch.zeros((), dtype=base.mu.dtype, device=base.mu.device)
        return ours.NegativeBinomial(flat(base.mu).log(), flat(base.theta.expand_as(base.mu)).log(), zero)
    if type(base).__name__ == "Poisson":
        return ours.Poisson(flat(base.rate).log())
    return None


def _require_fit(shape: tuple[int, ...], device: Any, x: Tensor, argument: str) -> None:
    if device is not None and device != x.device:
        raise DataError(
            f"x: is on {x.device} while {argument} is on {device}; expected both on one device: "
            f"pass x.to({str(device)!r})"
        )
    last = shape[-x.ndim :] if x.ndim <= len(shape) else shape
    if len(shape) < x.ndim or any(mine not in (1, theirs) for mine, theirs in zip(last, x.shape, strict=True)):
        raise DataError(
            f"{argument}: got a distribution of the shape {tuple(shape)} for x of the shape {tuple(x.shape)}; expected "
            "the shape of x, after any axes of samples: reshape x or the decoder's output"
        )


def _require_support(base: Any, argument: str) -> None:
    """Tell probabilities that are none: torch's own check says neither which argument nor what to pass."""
    probs = base.__dict__.get("probs")
    if isinstance(base, torch_distributions.Bernoulli) and isinstance(probs, Tensor) and not base._validate_args:  # noqa: SLF001
        low, high = probs.detach().aminmax()
        if float(low) < 0 or float(high) > 1:
            raise DataError(
                f"{argument}: got Bernoulli probabilities from {float(low):.4g} to {float(high):.4g}; expected 0 … 1: "
                "they look like logits, so pass Bernoulli(logits=…)"
            )


def _device_of(base: Any) -> Any:
    found = next((value for value in vars(base).values() if isinstance(value, Tensor)), None)
    return None if found is None else found.device


def _summed(terms: Tensor, count: int) -> Tensor:
    return terms.flatten(count).sum(-1) if terms.ndim > count else terms
