"""``elboverse.explain_loss``: what a loss means, with the user's own data if there are any."""

from __future__ import annotations

from typing import Any

import numpy as np

from elboverse.errors import DataError
from elboverse.theory.loss_meaning import LossForm, LossMeaning, explain, form_of

__all__ = ["explain_loss"]


def explain_loss(
    loss: str | LossForm,
    *,
    latent_dim: int,
    dimension: int | None = None,
    data: Any = None,
    batch_size: int = 1,
    **changes: Any,
) -> LossMeaning:
    """Return what a loss of reconstruction error and KL divergence means; see `LossMeaning`.

    Args:
        loss: the name of a form, such as ``"mse-mean"`` or ``"pytorch-vae"``, or a `LossForm`.
        latent_dim: H.
        dimension: D; that of the data by default.
        data: points (N, …), to say which latents survive.
        batch_size: B; it matters where one term is a sum over the batch and the other a mean.
        changes: fields of `LossForm` that differ, such as ``kl_weight=0.1``.

    Raises:
        ConfigError: a name or a number cannot be used.
        DataError: the data cannot be used, or there is neither data nor a dimension.

    Example:
        >>> round(explain_loss("mse-mean", dimension=784, latent_dim=16).effective_variance, 6)
        392.0
    """
    form, eigenvalues = form_of(loss, **changes), None
    if data is not None:
        points = np.asarray(data, dtype=np.float64)
        if points.ndim < 2 or not np.isfinite(points).all():
            raise DataError(f"data: got the shape {points.shape}; expected finite points (N, D)")
        points = points.reshape(len(points), -1)
        points = points - points.mean(0)
        eigenvalues = np.linalg.eigvalsh(points.T @ points / len(points))[::-1].clip(0)
        dimension = dimension or points.shape[1]
    if dimension is None:
        raise DataError("dimension: got None; expected the number of observed dimensions, or data")
    return explain(form, dimension, latent_dim, batch_size=batch_size, eigenvalues=eigenvalues)
