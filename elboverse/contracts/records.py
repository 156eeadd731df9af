"""What training yields: rows of numbers per step, evaluations, pictures, and frames. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.theory import identities

__all__ = [
    "FAMILY_LAYOUT",
    "GAUSSIAN_LAYOUT",
    "LATENT_COLUMNS",
    "SCALAR_COLUMNS",
    "Evaluation",
    "FamilyLayout",
    "Frame",
    "GaussianLayout",
    "Layout",
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


class Layout(Protocol):
    """What the columns of a row are, as a step writes them, and the series that follow from them."""

    @property
    def scalars(self) -> tuple[str, ...]:
        """The columns that come first, one each."""
        ...

    @property
    def per_latent(self) -> tuple[str, ...]:
        """The columns after them, H for each."""
        ...

    def rows(self, step: Array, beta: Array, columns: Array, dimension: int) -> Rows:
        """Return recorded rows; see `rows_from_columns`."""
        ...


@attrs.frozen
class GaussianLayout:
    """The columns of a model of three diagonal Gaussians: `SCALAR_COLUMNS` and `LATENT_COLUMNS`."""

    scalars: tuple[str, ...] = SCALAR_COLUMNS
    per_latent: tuple[str, ...] = LATENT_COLUMNS

    def rows(self, step: Array, beta: Array, columns: Array, dimension: int) -> Rows:
        """Return recorded rows; see `rows_from_columns`."""
        return rows_from_columns(step, beta, columns, dimension)


@attrs.frozen
class FamilyLayout:
    """The columns of any other model: the six averages that all terms follow from (see `theory.families`), and more.

    Args:
        extra: names of further series, such as those of regularisers; each is one more scalar column.
        decoder_has_entropy: whether the decoder's entropy is known in each step; else it is recorded as not a number.
        prior_has_entropy: the same for the prior's.
    """

    extra: tuple[str, ...] = ()
    decoder_has_entropy: bool = True
    prior_has_entropy: bool = True
    per_latent: tuple[str, ...] = ("cross_entropy", "encoder_entropy", "prior_entropy")

    @property
    def scalars(self) -> tuple[str, ...]:
        """The log-likelihood, ln h(x), the decoder's entropy relative to h, then the extra series."""
        return ("log_likelihood", "log_reference", "decoder_entropy", *self.extra)

    def rows(self, step: Array, beta: Array, columns: Array, dimension: int) -> Rows:  # noqa: ARG002 - of the protocol
        """Return recorded rows with every series that follows from the columns.

        Args:
            step: shape (T,).
            beta: the KL weight, shape (T,).
            columns: shape (T, R, 3 + 3H), and one more per extra series.
            dimension: D; not needed.
        """
        count, replicas, _ = columns.shape
        named = {name: columns[..., index] for index, name in enumerate(self.scalars)}
        latents = columns[..., len(self.scalars) :].reshape(count, replicas, len(self.per_latent), -1)
        cross_entropy, encoder_entropy, prior_entropy = (latents[..., index, :] for index in range(3))
        if not self.decoder_has_entropy:
            named["decoder_entropy"] = np.full_like(named["decoder_entropy"], np.nan)
        if not self.prior_has_entropy:
            prior_entropy = np.full_like(prior_entropy, np.nan)
        kl = cross_entropy - encoder_entropy
        scalars = {
            "beta": np.broadcast_to(beta[:, None], (count, replicas)).astype(columns.dtype),
            "elbo": identities.elbo(named["log_likelihood"], kl),
            "decoder_log_var": np.full_like(named["log_likelihood"], np.nan),
            **named,
        }
        per_latent = {
            "kl": kl,
            "encoder_entropy": encoder_entropy,
            "prior_entropy": prior_entropy,
            "prior_log_var": np.full_like(kl, np.nan),
        }
        return Rows(step, scalars, per_latent)


GAUSSIAN_LAYOUT: Final = GaussianLayout()
FAMILY_LAYOUT: Final = FamilyLayout()
