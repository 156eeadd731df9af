"""The terms of a full-batch objective, averaged over all points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.theory.elbo import Terms

__all__ = ["Averages", "averaged"]


@attrs.frozen(eq=False)
class Averages:
    """The terms over all points, as NumPy numbers in nats per point.

    Args:
        log_likelihood: ().
        decoder_entropy: ().
        decoder_log_var: ().
        kl: (H,).
        encoder_entropy: (H,).
        prior_log_var: (H,).
    """

    log_likelihood: float
    decoder_entropy: float
    decoder_log_var: float
    kl: npt.NDArray[np.float64]
    encoder_entropy: npt.NDArray[np.float64]
    prior_log_var: npt.NDArray[np.float64]


def averaged(parts: Sequence[tuple[int, Terms]], count: int) -> Averages:
    """Return the averages over all points of those over parts.

    Args:
        parts: how many points a part has, and its terms.
        count: N, of all parts together.
    """

    def average(name: str) -> Any:
        return sum(getattr(terms, name).detach().double().numpy() * (points / count) for points, terms in parts)

    return Averages(
        log_likelihood=float(average("log_likelihood")),
        decoder_entropy=float(average("decoder_entropy")),
        decoder_log_var=float(average("decoder_log_var")),
        kl=np.asarray(average("kl")),
        encoder_entropy=np.asarray(average("encoder_entropy")),
        prior_log_var=np.asarray(average("prior_log_var")),
    )
