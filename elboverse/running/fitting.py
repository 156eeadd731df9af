"""Training in memory: a config is trained without a run's folder, for those who keep the result themselves."""

from __future__ import annotations

from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.components.registry import attributed
from elboverse.config import ExperimentConfig
from elboverse.contracts.records import Evaluation
from elboverse.running.assembly import build_experiment, selections

__all__ = ["Fitted", "fitted"]

Array = npt.NDArray[Any]

_IN_A_ROW: Final = 3
"""How many evaluations one after the other must be stationary, since one may be so by chance."""


@attrs.frozen(eq=False, kw_only=True)
class Fitted:
    """What training in memory ends with.

    Args:
        config: as a table.
        data: what the run file would say of the data.
        state: the model's parameters, name → array.
        steps: updates done.
        stopped: whether it ended because it was stationary.
        held_out_elbo: of the last evaluation, in nats per scaled point; NaN where nothing is held out.
    """

    config: dict[str, Any]
    data: dict[str, Any]
    state: dict[str, Array]
    steps: int
    stopped: bool
    held_out_elbo: float


def fitted(config: ExperimentConfig, tolerance: float | None = None) -> Fitted:
    """Return what a config trains to, nothing written.

    Args:
        config: of one replica.
        tolerance: end once the certificate of stationarity holds on the training points: in evaluation after
            evaluation, every residual R_σ, R_h is below so many nats and the ELBO changes by less; None trains to the
            end.

    Raises:
        ConfigError, DataError, PluginError, NonFiniteError: as for `train`.
    """
    in_a_row, stopped, held_out, before = 0, False, float("nan"), float("inf")
    with attributed(selections(config)):
        experiment = build_experiment(config)
        for records in experiment.loop.rounds():
            for record in records:
                if not isinstance(record, Evaluation):
                    continue
                if record.split == "held_out":
                    held_out = float(record.scalars["elbo"][0])
                elif tolerance is not None:
                    elbo = float(record.scalars["elbo"][0])
                    still = abs(elbo - before) < tolerance and bool((np.abs(_residuals(record)) < tolerance).all())
                    in_a_row, before = in_a_row + 1 if still else 0, elbo
            if in_a_row >= _IN_A_ROW:
                stopped = True
                break
    state = experiment.loop.state()
    return Fitted(
        config=dict(experiment.documents["config"]),
        data=dict(experiment.documents["data"]),
        state={name.removeprefix("model/"): one[0] for name, one in state.items() if name.startswith("model/")},
        steps=experiment.loop.done,
        stopped=stopped,
        held_out_elbo=held_out,
    )


def _residuals(record: Evaluation) -> Array:
    found = {**record.scalars, **record.per_latent}
    return np.concatenate([np.ravel(found[name][0]) for name in ("decoder_residual", "prior_residual")])
