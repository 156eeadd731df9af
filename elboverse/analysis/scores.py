"""Scores of points under a trained model: importance-weighted bounds and anomalies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch

from elboverse.analysis.scaled_model import ScaledModel
from elboverse.errors import AnalysisError
from elboverse.seeding import generator
from elboverse.theory import families

if TYPE_CHECKING:
    from elboverse.data.points import Points

__all__ = ["anomalies", "importance_weighted"]

Array = npt.NDArray[Any]

_VALUES_AT_ONCE: Final = 1 << 22
_MOST_SAMPLES: Final = 1_000_000


def importance_weighted(trained: ScaledModel, scaled: Array, samples: int, seed: int) -> tuple[Array, Array]:
    """Return the importance-weighted bound L_k of each point and its effective number of samples, both of shape (N,).

    L_k = ln (1/k) Σ_i w_i with w_i = p(x|z_i) p(z_i)/q(z_i|x), z_i ~ q(z|x); E L_1 is the ELBO, and E L_k rises with k
    towards ln p(x). The effective number is 1/Σ w̃², w̃ = w/Σ w.

    Source: Burda et al. 2016, *Importance Weighted Autoencoders*, eq. 8.

    Args:
        trained: the model.
        scaled: points as the model sees them, shape (N, D).
        samples: k.
        seed: of the samples.

    Raises:
        AnalysisError: k is not positive.
    """
    if not 1 <= samples <= _MOST_SAMPLES:
        raise AnalysisError(f"importance samples: got {samples}; expected 1 … {_MOST_SAMPLES:,}")
    model, prior = trained.model, trained.model.prior()
    draws = generator(int(seed), "importance", device=trained.device)
    points_at_once = max(1, _VALUES_AT_ONCE // (scaled.shape[1] * min(samples, 64)))
    bounds, effective = [], []
    with torch.no_grad():
        for x in torch.from_numpy(scaled).to(trained.device, trained.dtype).split(points_at_once):
            encoder = families.encode(model, x)
            log_sum = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
            log_square = log_sum.clone()
            for first in range(0, samples, 64):
                shape = (min(64, samples - first), len(x), trained.latent_dim)
                z = encoder.sample(torch.randn(shape, generator=draws, dtype=x.dtype, device=x.device))
                log_weight = (
                    families.decode(model, z, x).log_prob(families.observed(model, x))
                    + prior.log_prob(z)
                    - encoder.log_prob(z)
                ).double()
                log_sum = torch.logaddexp(log_sum, log_weight.logsumexp(0))
                log_square = torch.logaddexp(log_square, (2 * log_weight).logsumexp(0))
            bounds.append(log_sum - math.log(samples))
            effective.append((2 * log_sum - log_square).exp())
    return torch.cat(bounds).cpu().numpy(), torch.cat(effective).cpu().numpy()


def anomalies(trained: ScaledModel, given: Points, scaled: Array, column_names: Sequence[str], count: int) -> Any:
    """Return the least likely of some points as a table; see `TrainedModel.anomalies`.

    Args:
        trained: the model.
        given: the points in data units.
        scaled: the same as the model sees them, shape (N, D).
        column_names: of the dimensions, D in number.
        count: how many are shown.
    """
    elbo = trained.scored(scaled, 0).elbo - trained.scaling.log_volume()
    median = np.median(elbo)
    spread = 1.4826 * float(np.median(np.abs(elbo - median))) or float(elbo.std()) or 1.0
    rows = np.argsort(elbo, kind="stable")[: max(0, count)]
    values = trained.observed(scaled)
    mean, variance = trained.decoder_moments(trained.posterior_moments(scaled[rows])[0], scaled[rows])
    surprise = np.abs(values[rows].astype(np.float64) - mean) / np.sqrt(
        np.where(np.isfinite(variance), variance, np.maximum(values.var(0), 1e-12))
    )
    columns = surprise.argmax(1)
    each = np.arange(len(rows))
    expected = trained.unscaled(mean)[each, columns]
    table: dict[str, Array] = {
        "row": rows,
        "elbo": elbo[rows],
        "deviations": (median - elbo[rows]) / spread,
        "column": np.asarray(column_names, dtype=object)[columns],
        "value": given.flat[rows, columns],
        "expected": expected,
    }
    if given.container == "pandas":
        import pandas as pd  # whoever hands in a DataFrame has it

        return pd.DataFrame(table, index=given.index[rows])
    if given.container == "polars":
        import polars as pl  # the same

        return pl.DataFrame({name: values.tolist() for name, values in table.items()})
    return table
