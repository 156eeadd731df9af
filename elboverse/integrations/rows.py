"""One recorded step as a vector on the device, and many of them as the series of a run file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.contracts.records import Rows

__all__ = ["LOSS", "SCALARS", "Row", "packed", "unpacked"]

LOSS: Final = "loss"
SCALARS: Final = ("log_likelihood", "log_reference", "decoder_entropy", "decoder_log_var", "beta", LOSS)
"""The columns before those of the latents."""

_STANDARD_ENTROPY: Final = 0.5 * (1 + math.log(2 * math.pi))
_DEFAULTS: Final = (0.0, 0.0, math.nan, math.nan, 0.0, math.nan, 0.0, 0.0, _STANDARD_ENTROPY, 0.0)
"""What a `Row` stands for where it has None."""

_LATENTS: Final = ("kl", "encoder_entropy", "prior_entropy", "prior_log_var")


class Row(NamedTuple):
    """What is kept of a step until its transfer: tensors as they are, without a kernel of our own.

    Args:
        log_likelihood: E ln p(x|z), shape ().
        log_reference: shape (); None for 0.
        decoder_entropy: shape (); None where it is not known.
        decoder_log_var: shape (); None likewise.
        beta: weight of the KL divergence.
        loss: the user's own, shape (); None where it is not told.
        kl: shape (H,).
        encoder_entropy: shape (H,).
        prior_entropy: shape (H,); None for a standard normal's.
        prior_log_var: shape (H,); None for zeros.
    """

    log_likelihood: Tensor
    log_reference: Tensor | None
    decoder_entropy: Tensor | None
    decoder_log_var: Tensor | None
    beta: float
    loss: Tensor | None
    kl: Tensor
    encoder_entropy: Tensor
    prior_entropy: Tensor | None
    prior_log_var: Tensor | None


def packed(rows: Sequence[Row]) -> Tensor:
    """Return the numbers of some steps, shape (T, 6 + 4H), on the device of the first.

    Args:
        rows: T of them.
    """
    like = rows[0].kl
    columns = []
    for index, default in enumerate(_DEFAULTS):
        values: list[Any] = [default if row[index] is None else row[index] for row in rows]
        width = len(like) if index >= len(SCALARS) else 1
        if any(isinstance(value, Tensor) for value in values):
            columns.append(torch.stack([torch.as_tensor(value).to(like).expand(width) for value in values]))
        else:
            numbers = torch.tensor([float(value) for value in values], dtype=like.dtype, device=like.device)
            columns.append(numbers[:, None].expand(-1, width))
    return torch.cat(columns, 1)


def unpacked(steps: npt.NDArray[Any], table: npt.NDArray[Any], *, with_loss: bool, with_reference: bool) -> Rows:
    """Return recorded rows of one replica.

    Args:
        steps: shape (T,).
        table: vectors of `packed`, shape (T, 6 + 4H).
        with_loss: whether the user's own loss is among them.
        with_reference: whether ln h(x) is.
    """
    count = len(SCALARS)
    scalars = {name: table[:, index, None] for index, name in enumerate(SCALARS)}
    latents = table[:, None, count:].reshape(len(table), 1, len(_LATENTS), -1)
    per_latent = {name: latents[:, :, index] for index, name in enumerate(_LATENTS)}
    if not with_loss:
        del scalars[LOSS]
    if not with_reference:
        del scalars["log_reference"]
    scalars["elbo"] = scalars["log_likelihood"] - per_latent["kl"].sum(-1)
    return Rows(np.asarray(steps), scalars, per_latent)
