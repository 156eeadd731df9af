"""Residuals at the last evaluation, their standard errors, and a verdict on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs
import numpy as np

from elboverse.analysis.family import decoder_symbol, family_of, varentropies
from elboverse.analysis.reading import Array, Reading, at
from elboverse.components.registry import normalised
from elboverse.errors import AnalysisError

if TYPE_CHECKING:
    from elboverse.runfile import Run

__all__ = ["SEVERITY", "Residuals", "Verdict", "read_residuals", "verdict"]

Verdict = Literal["stationary", "undecided", "not stationary", "not judged"]


SEVERITY: Final[dict[Verdict, int]] = {"not judged": 0, "stationary": 1, "undecided": 2, "not stationary": 3}


@attrs.frozen(eq=False)
class Residuals:
    """The terms of the gap through the evaluations, in nats per point; the standard errors are over points.

    Q quantities: R_σ, then R_h for each latent, then the gap.

    Args:
        split: ``"train"`` or ``"held_out"``.
        steps: number of updates before each evaluation, shape (E,).
        values: shape (E, R, Q).
        standard_errors: shape (E, R, Q); not a number where one point was evaluated.
        tolerances: in nats, shape (Q,).
        decoder_is_fixed: the model does not learn σ², so that R_σ and the gap need not vanish.
        decoder_symbol: what the decoder's residual is called: R_σ of a Gaussian, R_dec of any other.
        prior_is_judged: whether theory says that the prior's residuals vanish.
    """

    split: str
    steps: Array
    values: Array
    standard_errors: Array
    tolerances: Array
    decoder_is_fixed: bool
    decoder_symbol: str = "R_σ"
    prior_is_judged: bool = True

    @property
    def names(self) -> list[str]:
        """What the quantities are called: R_σ or R_dec, R_0, R_1, …, gap."""
        return [self.decoder_symbol, *(f"R_{h}" for h in range(self.values.shape[2] - 2)), "gap"]

    def verdict(self, evaluation: int, replica: int, quantity: int) -> Verdict:
        """Return the verdict on one quantity of one evaluation of one of the replicas read."""
        last = self.values.shape[2] - 1
        if self.decoder_is_fixed and quantity in {0, last}:
            return "not judged"
        if not self.prior_is_judged and quantity > 0:
            return "not judged"
        return verdict(
            float(self.values[evaluation, replica, quantity]),
            float(self.standard_errors[evaluation, replica, quantity]),
            float(self.tolerances[quantity]),
        )

    def worst_replica(self, quantity: int) -> int:
        """Return the replica with the worst verdict on a quantity at the last evaluation, then the largest value."""
        return max(
            range(self.values.shape[1]),
            key=lambda r: (SEVERITY[self.verdict(-1, r, quantity)], abs(self.values[-1, r, quantity])),
        )


def verdict(value: float, standard_error: float, tolerance: float) -> Verdict:
    """Return whether a residual R is zero within a tolerance, two standard errors either way.

    ``"stationary"`` if |R| + 2 SE ≤ tolerance, ``"not stationary"`` if |R| − 2 SE > tolerance, else ``"undecided"``,
    which is also the verdict where the standard error is not a number.

    Args:
        value: R in nats.
        standard_error: SE in nats.
        tolerance: in nats.
    """
    if abs(value) + 2 * standard_error <= tolerance:
        return "stationary"
    if abs(value) - 2 * standard_error > tolerance:
        return "not stationary"
    return "undecided"


def read_residuals(reading: Reading, tolerance: float) -> Residuals:
    """Return the residuals of the last evaluation, judged.

    Raises:
        AnalysisError: no evaluation is recorded.
    """
    run = reading.run
    split = next((split for split in ("train", "held_out") if reading.evaluated(split)), None)
    if split is None:
        raise AnalysisError(
            f"{run.path}: no evaluation is recorded (status: {run.status}), and stationarity needs one; "
            f"let the run train until its next evaluation (training.evaluate_every)"
        )
    dimension = at(run.data, "dimension")
    if not isinstance(dimension, int) or dimension < 1:
        raise AnalysisError(f"{run.path}: data.dimension is {dimension!r}, and the tolerance needs it: an integer ≥ 1")
    residuals, errors = (
        np.concatenate(
            [
                reading.evaluation(split, f"decoder_residual{suffix}")[..., None],
                reading.evaluation(split, f"prior_residual{suffix}"),
                reading.evaluation(split, f"gap{suffix}")[..., None],
            ],
            axis=-1,
        )
        for suffix in ("", "_standard_error")
    )
    if run.evaluation_points(split) < 2:
        errors = np.full_like(errors, np.nan)
    latents = run.latent_dim
    decoder, prior = varentropies(run, split, dimension)
    in_nats = tolerance * np.array([decoder, *[prior] * latents, decoder + prior * latents])
    found = reading.certificates()
    if found and split == "train":  # over all training points, with the error of Monte-Carlo samples alone
        for r, one in enumerate(found):
            values = np.array([residual.value for residual in one.residuals])
            sampled = np.array([residual.standard_error for residual in one.residuals])
            residuals[-1, r] = [*values, values.sum()]
            errors[-1, r] = [*sampled, np.sqrt((sampled**2).sum())]
    return Residuals(
        split,
        run.evaluation_steps(split),
        residuals,
        errors,
        in_nats,
        _decoder_is_fixed(run),
        decoder_symbol(run),
        not family_of(run).prior_theorem,
    )


def _decoder_is_fixed(run: Run) -> bool:
    """Return whether the model does not learn σ²: what the run recorded, and in files that do not say, its name."""
    if family_of(run).decoder_theorem:
        return True
    learned = at(run.documents, "model", "learns_decoder_variance")
    if isinstance(learned, bool):
        return not learned
    model = at(run.config, "model", "name")
    return isinstance(model, str) and normalised(model) == "vae0"
