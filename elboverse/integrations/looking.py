"""Values that cannot be meant, found by looking at a step now and then: a device has to wait for that."""

from __future__ import annotations

import math
from typing import Any, Final

from torch import Tensor
from torch import distributions as torch_distributions

from elboverse.errors import DataError
from elboverse.integrations.decoders import Decoded, Family
from elboverse.integrations.encoders import Posterior
from elboverse.theory import distributions as ours

__all__ = ["require_finite_beta", "require_one_device", "require_positive_spread", "unlikely_values"]

_ENOUGH: Final = 100
"""How many logits are looked at before their range says anything."""


def require_finite_beta(beta: Any) -> float:
    """Return β as a number.

    Raises:
        DataError: it is none, or not finite.
    """
    try:
        found = float(beta)
    except (TypeError, ValueError):
        raise DataError(f"beta: got {type(beta).__name__}; expected a finite number: pass beta=1.0") from None
    if not math.isfinite(found):
        raise DataError(f"beta: got {found:g}; expected a finite number: pass beta=1.0")
    return found


def require_one_device(x: Tensor | None, q: Posterior) -> None:
    """Check that points and their encoder are in one place.

    Raises:
        DataError: they are not.
    """
    if x is not None and q.mean.device != x.device:
        raise DataError(
            f"q: is on {q.mean.device} while x is on {x.device}; expected both on one device: pass the distribution "
            f"of x.to({str(q.mean.device)!r}), or parameters moved with .to({str(x.device)!r})"
        )


def require_positive_spread(q: Any) -> None:
    """Check the standard deviations of a torch Normal that torch was told not to check.

    Raises:
        DataError: some are not positive.
    """
    while isinstance(q, torch_distributions.Independent):
        q = q.base_dist
    if isinstance(q, torch_distributions.Normal) and q.scale.device.type != "meta":
        least = float(q.scale.detach().min())
        if least <= 0:
            raise DataError(
                f"q: got standard deviations down to {least:.4g}; expected positive ones: pass (mean, log_var) if the "
                "network gives log-variances"
            )


def unlikely_values(x: Tensor, p: Decoded) -> list[str]:
    """Return what cannot be meant, a sentence each: a loss can be worked out all the same.

    Args:
        x: points.
        p: their decoder.
    """
    if not isinstance(p, Family) or x.device.type == "meta" or not x.numel():
        return []
    low, high = (float(value) for value in x.detach().aminmax())
    parts, found = p.parts, []
    given = f"x: got values from {low:.4g} to {high:.4g}"
    if isinstance(parts, ours.Bernoulli | ours.ContinuousBernoulli):
        if low < 0 or high > 1:
            found.append(f"{given}; a {type(parts).__name__} distribution expects 0 … 1: rescale x, or pass a Normal.")
        least, most = (float(value) for value in parts.logits.detach().aminmax())
        if least >= 0 and most <= 1 and least < most and parts.logits.numel() >= _ENOUGH:
            found.append(
                f"p: got logits that are all in 0 … 1 ({least:.4g} to {most:.4g}); they look like probabilities: pass "
                "Bernoulli(probs=…), or leave the sigmoid out."
            )
    if isinstance(parts, ours.Poisson | ours.NegativeBinomial) and (low < 0 or bool((x != x.round()).any())):
        found.append(f"{given}, not all of them counts; a {type(parts).__name__} distribution expects 0, 1, 2 …")
    if isinstance(parts, ours.LogNormal | ours.Gamma | ours.Exponential) and low < 0:
        found.append(f"{given}; a {type(parts).__name__} distribution expects positive values.")
    return found
