"""The criteria by which a latent is active, side by side: where they agree, and how counts move with their thresholds.

At the optimum of a linear VAE they are functions of one another; elsewhere they need not agree. The last two need each
point's encoder, and so the trained model:

    (ε, δ)-collapse:       Pr_x[KL_h(x) < ε] ≥ 1 − δ
    mutual information:    I_h = KL_h − KL(q̄_h ‖ p_h),  q̄_h(z) = mean_n q(z|x_n)

Sources: Damm et al. 2023; Burda et al. 2016 (active units); Lucas et al. 2019 ((ε, δ)-collapse); Hoffman and Johnson
2016 (the mutual information as rate minus marginal KL).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from elboverse.analysis.final_latents import FinalLatents
from elboverse.analysis.reading import Array, Reading
from elboverse.contracts import Table
from elboverse.theory import identities

if TYPE_CHECKING:
    from elboverse.analysis.trained import TrainedModel

__all__ = [
    "ACTIVE_UNIT_VARIANCE",
    "Criterion",
    "agreement_table",
    "mutual_information",
    "of_model",
    "recorded",
    "sweep_table",
]

ACTIVE_UNIT_VARIANCE: Final = 0.01
"""Var_x E_q[z_h] above which Burda et al. (2016) call a latent unit active."""

_ENTROPIES: Final = (0.0, 0.5, 1.0, 1.25, 1.4)
_FACTORS: Final = (0.1, 0.5, 1.0, 2.0, 4.0)

_POINTS: Final = 10_000
_MIXED: Final = 1000


@attrs.frozen(eq=False, kw_only=True)
class Criterion:
    """A criterion and the latents that are active by it.

    Args:
        key: in JSON.
        name: with its threshold, in words.
        threshold: below or above which a latent is active.
        values: that are compared with it, shape (R, H).
        standard_errors: of these, where they are estimated by sampling, shape (R, H).
        active: shape (R, H).
        sweep: other thresholds, and how many latents would be active by them, each of shape (R,).
    """

    key: str
    name: str
    threshold: float
    values: Array
    standard_errors: Array | None = None
    active: Array
    sweep: Sequence[tuple[float, Array]]

    def table(self) -> dict[str, Any]:
        """Return it as JSON values; replicas in their order."""
        errors = self.standard_errors
        return {
            "criterion": self.key,
            "threshold": self.threshold,
            "active": self.active.sum(1).tolist(),
            "values": self.values.tolist(),
            "standard_errors": None if errors is None else errors.tolist(),
            "sweep": [{"threshold": threshold, "active": counts.tolist()} for threshold, counts in self.sweep],
        }


def _at_least(key: str, name: str, threshold: float, values: Array, errors: Array | None = None) -> Criterion:
    """Return the criterion by which a latent is active from a threshold on."""
    return Criterion(
        key=key,
        name=f"{name} ≥ {threshold:.4g}",
        threshold=threshold,
        values=values,
        standard_errors=errors,
        active=values >= threshold,
        sweep=[(factor * threshold, (values >= factor * threshold).sum(1)) for factor in _FACTORS],
    )


def recorded(final: FinalLatents, threshold: float, drop_threshold: float) -> list[Criterion]:
    """Return the criteria that the run file alone decides.

    Args:
        final: the trained latents.
        threshold: of the encoder entropy, in nats.
        drop_threshold: of the entropy drop and of KL, which are equal at a stationary point, in nats.
    """
    entropy = final.encoder_entropy
    found = [
        Criterion(
            key="encoder_entropy",
            name=f"encoder entropy < {threshold:.4g}",
            threshold=threshold,
            values=entropy,
            active=entropy < threshold,
            sweep=[(level, (entropy < level).sum(1)) for level in sorted({*_ENTROPIES, threshold})],
        ),
        _at_least("entropy_drop", "entropy drop", drop_threshold, final.entropy_drop),
        _at_least("kl", "KL", drop_threshold, final.kl),
    ]
    if final.mean_variance is not None:
        variance = final.mean_variance
        found.append(_at_least("active_units", "variance of the mean", ACTIVE_UNIT_VARIANCE, variance))
    return found


def of_model(reading: Reading, drop_threshold: float, epsilon: float, delta: float) -> list[Criterion]:
    """Return the criteria that need the trained model; torch is imported now.

    Args:
        reading: the run; the model of each replica read is rebuilt.
        drop_threshold: of the mutual information, which equals KL at the optimum of a linear VAE, in nats.
        epsilon: ε in nats.
        delta: δ, a share of the points.

    Raises:
        AnalysisError: the trained model cannot be rebuilt.
    """
    from elboverse.analysis.trained import TrainedModel  # torch, which only these criteria need

    kls, informations, errors = [], [], []
    for replica in reading.replicas:
        trained = TrainedModel.of(reading.run, replica)
        kl, information, error = _measured(trained)
        kls.append(kl)
        informations.append(information)
        errors.append(error)

    def active(below: float) -> Array:
        return np.stack([(kl < below).mean(0) < 1 - delta for kl in kls])

    collapse = Criterion(
        key="epsilon_delta",
        name=f"not (ε, δ)-collapsed at ε = {epsilon:g}, δ = {delta:g}",
        threshold=epsilon,
        values=np.stack([(kl < epsilon).mean(0) for kl in kls]),
        active=active(epsilon),
        sweep=[(factor * epsilon, active(factor * epsilon).sum(1)) for factor in _FACTORS],
    )
    informative = _at_least(
        "mutual_information", "mutual information", drop_threshold, np.stack(informations), np.stack(errors)
    )
    return [collapse, informative]


def _measured(trained: TrainedModel) -> tuple[Array, Array, Array]:
    """Return KL_h(x) of points, (M, H), and the mutual information of each latent with its standard error, (H,)."""
    split = "held_out" if trained.count("held_out") else "train"
    means, variances = trained.posterior_moments(trained.points(split, slice(_POINTS)))
    ratio = variances / trained.prior_variance
    kl = identities.gaussian_kl(means**2 / trained.prior_variance + ratio, np.log(ratio))
    mixed = slice(_MIXED)
    noise = trained.noise(means[mixed].shape, "collapse", "mutual information")
    return kl, *mutual_information(means[mixed], variances[mixed], trained.prior_variance, noise)


def mutual_information(means: Array, variances: Array, prior_variance: Array, noise: Array) -> tuple[Array, Array]:
    """Return I(x; z_h) of each latent in nats and its standard error over points, both of shape (H,).

    mean_n [KL_h(x_n) − ln q̄_h(z_n) + ln p_h(z_n)], z_n ~ q(z_h|x_n), with q̄_h the mixture over the M points. Since z_n
    comes from a component of the mixture, no estimate exceeds ln M by more than its noise.

    Args:
        means: ν_h(x), shape (M, H).
        variances: τ²_h(x), shape (M, H).
        prior_variance: α²_h, shape (H,).
        noise: N(0, 1), shape (M, H).
    """
    z = means + np.sqrt(variances) * noise
    kl = identities.gaussian_kl((means**2 + variances) / prior_variance, np.log(variances / prior_variance))
    prior = -0.5 * (identities.LOG_2PI + np.log(prior_variance) + z**2 / prior_variance)
    aggregate = np.empty_like(z)
    for h in range(z.shape[1]):
        exponents = -0.5 * (
            identities.LOG_2PI + np.log(variances[:, h]) + np.square(z[:, h, None] - means[:, h]) / variances[:, h]
        )
        largest = exponents.max(1)
        aggregate[:, h] = largest + np.log(np.exp(exponents - largest[:, None]).mean(1))
    values = kl - aggregate + prior
    return values.mean(0), values.std(0) / np.sqrt(max(1, len(values) - 1))


def agreement_table(criteria: Sequence[Criterion]) -> Table:
    """Return for every two criteria on how many latents, of all replicas, they agree."""
    total = criteria[0].active.size
    rows = [
        (
            one.name,
            f"{np.median(one.active.sum(1)):g}",
            *(f"{int((one.active == other.active).sum())} of {total}" for other in criteria),
        )
        for one in criteria
    ]
    short = {
        "encoder_entropy": "encoder entropy",
        "active_units": "active units",
        "epsilon_delta": "(ε, δ)",
        "kl": "KL",
    }
    heads = [short.get(one.key, one.key.replace("_", " ")) for one in criteria]
    return Table(
        title="Agreement: on how many latents two criteria say the same",
        columns=("active by", "how many", *heads),
        rows=rows,
    )


def sweep_table(criteria: Sequence[Criterion]) -> Table:
    """Return how many latents are active by each criterion as its threshold moves: medians over replicas."""
    most = max(len(one.sweep) for one in criteria)
    rows = []
    for one in criteria:
        cells = [f"{float(np.median(counts)):g} at {threshold:.3g}" for threshold, counts in one.sweep]
        rows.append((one.name, *cells, *[None] * (most - len(cells))))
    return Table(
        title="Active latents as the threshold moves",
        columns=("active by", "how many", *[""] * (most - 1)),
        rows=rows,
    )
