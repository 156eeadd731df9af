"""What training yields: rows of numbers per step, evaluations, pictures, and frames. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.theory import identities

__all__ = [
    "LATENT_COLUMNS",
    "SCALAR_COLUMNS",
    "Evaluation",
    "Frame",
    "Pictures",
    "Record",
    "Rows",
    "rows_from_columns",
]

Array = npt.NDArray[Any]

SCALAR_COLUMNS: Final = ("standardised_error", "decoder_log_var")
LATENT_COLUMNS: Final = ("standardised_second_moment", "encoder_log_var", "prior_log_var")
"""The columns of a row as a step writes it: the scalars, then H columns for each of these. They are the averages that
all terms follow from, Σ_d E (x_d − μ_d)²/σ²_d, ln σ², (ν²_h + τ²_h)/α²_h, ln τ²_h and ln α²_h; what follows from them
is worked out on the host, many rows at a time."""


@attrs.frozen(eq=False)
class Rows:
    """Consecutive recorded steps. A row of step t holds the terms at the parameters before that step's update.

    Args:
        step: shape (T,), strictly increasing.
        scalars: series name → values, shape (T, R).
        per_latent: series name → values, shape (T, R, H).
    """

    step: Array
    scalars: Mapping[str, Array]
    per_latent: Mapping[str, Array]


@attrs.frozen(eq=False)
class Evaluation:
    """The terms over a whole set of points after `step` updates.

    Args:
        split: ``"train"`` or ``"held_out"``.
        step: number of updates done.
        epoch: number of passes over the training points done.
        points: how many points were evaluated.
        scalars: name → values, shape (R,), float64; standard errors are named ``…_standard_error``.
        per_latent: name → values, shape (R, H), float64.
        share_at_floor: of the decoder's variances, over points and dimensions, those that are held at their floor; of
            the replica that has most.
    """

    split: str
    step: int
    epoch: int
    points: int
    scalars: Mapping[str, Array]
    per_latent: Mapping[str, Array]
    share_at_floor: float = 0.0


@attrs.frozen(eq=False)
class Pictures:
    """Images in [0, 1] of the first replica, for data that are images.

    Args:
        step: number of updates done.
        images: what they are → shape (n, height, width) or (n, channels, height, width).
    """

    step: int
    images: Mapping[str, Array]


@attrs.frozen(eq=False)
class Frame:
    """What latent space and data space look like after `step` updates, in float32.

    Args:
        step: number of updates done.
        data: the points that are shown in data space, in data units, shape (R, Q, D); the same in every frame.
        series: ``latent_mean`` and ``latent_variance`` of points, (R, M, H), of which the first Q are those of `data`;
            ``reconstruction`` and ``sample_mean`` (of a sample from the prior), in data units, (R, Q, D).
    """

    step: int
    data: Array
    series: Mapping[str, Array]


Record = Rows | Evaluation | Pictures | Frame


def rows_from_columns(step: Array, beta: Array, columns: Array, dimension: int) -> Rows:
    """Return recorded rows with every series that follows from the columns that a step writes.

    Args:
        step: shape (T,).
        beta: the KL weight, shape (T,).
        columns: `SCALAR_COLUMNS`, then H columns for each of `LATENT_COLUMNS`, shape (T, R, 2 + 3H).
        dimension: D.
    """
    count, replicas, _ = columns.shape
    width = len(SCALAR_COLUMNS)
    error, decoder_log_var = columns[..., 0], columns[..., 1]
    latents = columns[..., width:].reshape(count, replicas, len(LATENT_COLUMNS), -1)
    second_moment, encoder_log_var, prior_log_var = (latents[..., index, :] for index in range(len(LATENT_COLUMNS)))
    per_latent = {
        "kl": identities.gaussian_kl(second_moment, encoder_log_var - prior_log_var),
        "encoder_entropy": identities.gaussian_entropy(encoder_log_var),
        "prior_entropy": identities.gaussian_entropy(prior_log_var),
        "prior_log_var": prior_log_var,
    }
    log_likelihood = identities.gaussian_log_likelihood(dimension, decoder_log_var, error)
    scalars = {
        "beta": np.broadcast_to(beta[:, None], (count, replicas)).astype(columns.dtype),
        "elbo": identities.elbo(log_likelihood, per_latent["kl"]),
        "log_likelihood": log_likelihood,
        "decoder_entropy": dimension * identities.gaussian_entropy(decoder_log_var),
        "decoder_log_var": decoder_log_var,
    }
    return Rows(step, scalars, per_latent)
