"""What a recorded run says about the loss that it was trained with: the mistakes that are made most often."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["findings"]

Array = npt.NDArray[Any]

_FEWEST_ROWS: Final = 50
_FIT: Final = 0.02
"""Largest part of a loss' spread that −ln p and KL may leave unexplained for it to be called a sum of the two."""


def findings(beta: Array, log_likelihood: Array, kl: Array, loss: Array | None, dimension: int | None) -> list[str]:
    """Return what is remarkable, a sentence each, with what to do.

    Args:
        beta: weight of the KL divergence as it was recorded, shape (T,).
        log_likelihood: E ln p(x|z), shape (T,).
        kl: Σ_h KL_h, shape (T,).
        loss: the user's own, shape (T,), or None.
        dimension: D, if it is known.
    """
    found: list[str] = []
    if not np.isfinite(np.stack([log_likelihood, kl])).all():
        return found  # told when it happened
    if len(beta) and not beta.any():
        found.append("β is 0 at every step: the KL divergence was never applied, so this is not a VAE; pass beta=1.0.")
    elif len(beta) and abs(float(beta[-1]) - 1) > 1e-6:
        found.append(
            f"β is {float(beta[-1]):.4g} at the last step: what was maximised is not an ELBO; the recorded one is."
        )
    told = None if loss is None else _of_loss(log_likelihood, kl, loss, dimension)
    if told:
        found.append(told)
    elif loss is None and _falls(log_likelihood):
        found.append(
            "log_likelihood falls during training: if it is a reconstruction loss, pass its negative, "
            "log_likelihood=-loss."
        )
    return found


def _of_loss(log_likelihood: Array, kl: Array, loss: Array, dimension: int | None) -> str | None:
    """Return what the user's loss is, where it is not −ELBO: loss = a (−ln p) + w KL + c by least squares."""
    usable = np.isfinite(loss)
    if usable.sum() < _FEWEST_ROWS:
        return None
    columns = np.stack([-log_likelihood[usable], kl[usable], np.ones(int(usable.sum()))], axis=1).astype(np.float64)
    target = loss[usable].astype(np.float64)
    centred = columns[:, :2] - columns[:, :2].mean(0)
    (a, w), *_ = np.linalg.lstsq(centred, target - target.mean(), rcond=None)
    left = target - target.mean() - centred @ np.array([a, w])
    if left.std() > _FIT * target.std() or target.std() == 0:
        return None
    if a < 0:
        return "loss has the sign of the ELBO: training minimises it; pass and minimise -ELBO."
    relative = w / a
    if abs(relative - 1) < 0.05:
        return None
    told = f"The loss weighs the KL divergence {relative:.3g} times as much as the ELBO does"
    if dimension is not None and abs(relative / dimension - 1) < 0.1:
        told += f": the reconstruction error is a mean over the {dimension:,} dimensions where the ELBO has a sum"
    return f"{told}; `elboverse explain-loss` says what that means."


def _falls(values: Array) -> bool:
    """Return whether the last tenth is lower than the first beyond doubt."""
    part = len(values) // 10
    if part < _FEWEST_ROWS:
        return False
    first, last = values[:part].astype(np.float64), values[-part:].astype(np.float64)
    return bool(
        first.mean() - last.mean() > 5 * np.hypot(first.std(), last.std()) / np.sqrt(part) + 0.1 * abs(first.mean())
    )
