"""One recorded step as a vector on the device, and many of them as the series of a run file."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.contracts.records import Rows
from elboverse.integrations.decoders import Decoded
from elboverse.integrations.encoders import LatentTerms

__all__ = ["LOSS", "SCALARS", "packed", "unpacked"]

LOSS: Final = "loss"
SCALARS: Final = ("log_likelihood", "log_reference", "decoder_entropy", "decoder_log_var", "beta", LOSS)
"""The columns before those of the latents."""

_LATENTS = ("kl", "encoder_entropy", "prior_entropy", "prior_log_var")


def packed(
    log_likelihood: Tensor, x: Tensor | None, decoder: Decoded | None, latents: LatentTerms, beta: float, loss: Any
) -> Tensor:
    """Return a step's numbers as one vector, shape (6 + 4H,), on the device and without a gradient.

    Args:
        log_likelihood: mean_n E_q ln p(x|z), shape ().
        x: the points; None without a decoder.
        decoder: p(x|z); None where only its log-likelihood is known.
        latents: their terms.
        beta: weight of the KL divergence.
        loss: the user's own, or None.
    """
    with torch.no_grad():
        log_likelihood = log_likelihood.detach()
        unknown = torch.full_like(log_likelihood, torch.nan)
        reference, entropy, log_var = torch.zeros_like(log_likelihood), None, None
        if decoder is not None and x is not None:
            reference, entropy, log_var = decoder.log_reference(x).mean(), decoder.entropy(), decoder.log_var
        scalars = torch.stack(
            (
                log_likelihood,
                reference.to(log_likelihood),
                unknown if entropy is None else entropy.mean().to(log_likelihood),
                unknown if log_var is None else log_var.mean().to(log_likelihood),
                torch.full_like(log_likelihood, float(beta)),
                unknown if loss is None else torch.as_tensor(loss).detach().to(log_likelihood),
            )
        )
        parts = (latents.kl.mean(0), latents.encoder_entropy.mean(0), latents.prior_entropy, latents.prior_log_var)
        return torch.cat((scalars, *(part.detach().to(scalars) for part in parts)))


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
