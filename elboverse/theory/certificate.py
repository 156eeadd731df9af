"""Whether an objective is stationary: residuals, their scales, what they cost, and what can be decided about them.

A residual R is the derivative of the ELBO with respect to the logarithm of a temperature, such as −∂ELBO/∂ln σ², and
V is minus the second derivative (the varentropy; D/2 for a Gaussian decoder, ½ for each Gaussian latent). Near the
optimum

    relative mismatch  δ = R/V          what it costs  R²/2V nats

so a tolerance on the mismatch, δ₀, is a tolerance δ₀V on the residual. Two questions are kept apart:

* *Is the training objective stationary?* Over all training points R is the objective's own gradient; its only error is
  that of the Monte-Carlo samples, none where the ELBO is exact.
* *Does the model fit new data as it is calibrated?* Over held-out points R has the sampling error of those points.

Vanishing residuals are necessary, not sufficient, so two more facts belong to a certificate: what full-batch steps
still gain, and whether a collapsed latent could escape (a saddle). All quantities are in nats per data point.

Sources: Damm et al., AISTATS 2023, Theorems 1 to 3; Lucas et al., NeurIPS 2019, for the saddles of the linear VAE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

__all__ = [
    "TOLERANCE",
    "Certificate",
    "Residual",
    "Verdict",
    "adam_bias",
    "certificates",
    "escape_gain",
    "judged",
    "sgd_bias",
    "told",
    "worst",
]

Verdict = Literal["stationary", "undecided", "not stationary", "not judged"]

TOLERANCE: Final = 0.02
"""The relative mismatch of a variance that still counts as stationary, if not told otherwise."""

SMALLEST_MISMATCH: Final = 1e-5
"""A relative mismatch below this is not worth a number."""

LEAST_GAIN: Final = 1e-3
"""Nats below which what a collapsed latent gains at first is not worth a number."""

UNEXPLAINED: Final = 0.1
"""Share of the variance below which decoder means are called the same for all points."""

_SEVERITY: Final[dict[Verdict, int]] = {"not judged": 0, "stationary": 1, "undecided": 2, "not stationary": 3}


def judged(value: float, standard_error: float, tolerance: float) -> Verdict:
    """Return whether a residual R is zero within a tolerance, two standard errors either way.

    ``"stationary"`` if |R| + 2 SE ≤ tolerance, ``"not stationary"`` if |R| − 2 SE > tolerance, else ``"undecided"``,
    which is also the verdict where the standard error is not a number.

    Args:
        value: R in nats.
        standard_error: SE in nats; 0 where R is exact.
        tolerance: in nats.

    Example:
        >>> judged(0.01, 0.001, 0.02), judged(0.01, 0.03, 0.02), judged(0.1, 0.03, 0.02)
        ('stationary', 'undecided', 'not stationary')
    """
    if abs(value) + 2 * standard_error <= tolerance:
        return "stationary"
    if abs(value) - 2 * standard_error > tolerance:
        return "not stationary"
    return "undecided"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst of some verdicts; ``"not judged"`` if there is none.

    Example:
        >>> worst(["stationary", "undecided"])
        'undecided'
    """
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict], default="not judged")


def escape_gain(eigenvalue: float, variance: float) -> float:
    """Return the nats that one more latent of a linear VAE gains at fixed σ², ½(λ/σ² − 1 − ln λ/σ²); 0 if λ ≤ σ².

    Where it is positive, a point with a collapsed latent is a saddle: the curvature along W_h = s u, V_h = s uᵀ/σ² is
    positive exactly where λ > σ² (Lucas et al. 2019).

    Args:
        eigenvalue: λ, the largest variance of the reconstruction errors along a direction.
        variance: σ² > 0 of the decoder.

    Example:
        >>> round(escape_gain(2.0, 1.0), 4)
        0.1534
    """
    ratio = eigenvalue / variance
    return 0.5 * (ratio - 1.0 - math.log(ratio)) if ratio > 1.0 else 0.0


def sgd_bias(learning_rate: float, weight: float, bias: float, decoder: float) -> float:
    """Return the mean R_h that mini-batch SGD leaves, −(lr/4)(E‖g_V‖² + E‖g_b‖² − E‖g_W‖²).

    Args:
        learning_rate: constant.
        weight: E‖g_V‖² of the encoder mean's weights of latent h.
        bias: E g_b² of its bias.
        decoder: E‖g_W‖² of the column h of the decoder's first linear layer.
    """
    return -0.25 * learning_rate * (weight + bias - decoder)


def adam_bias(learning_rate: float, weight: float, bias: float, decoder: float) -> float:
    """Return the mean R_h that Adam with a constant rate leaves, −(lr/4)(Σ rms g_V + rms g_b − Σ rms g_W) (derived).

    With u = m̂/√v̂ in place of g, stationarity of E Σ_i √v_i θ²_i gives E[g_i θ_i] = −(lr/2) rms(g_i) for every momentum,
    where SGD has −(lr/2) E g²_i; the rest is the scaling symmetry of a latent, as for `sgd_bias`.

    Args:
        learning_rate: constant.
        weight: Σ √E g² over the encoder mean's weights of latent h.
        bias: √E g² of its bias.
        decoder: Σ √E g² over the column h of the decoder's first linear layer.
    """
    return -0.25 * learning_rate * (weight + bias - decoder)


@attrs.frozen(kw_only=True)
class Residual:
    """One residual of the objective.

    Args:
        name: ``"R_σ"``, ``"R_0"``, ``"R_1"``, …
        value: R in nats.
        scale: V in nats, positive.
        standard_error: of R, in nats; that of the Monte-Carlo samples on training data.
        must_vanish: whether it does at a stationary point; if not, it is a calibration and not judged.
        expected: the bias that the learning rate leaves, in nats, where it is known.
    """

    name: str
    value: float
    scale: float
    standard_error: float = 0.0
    must_vanish: bool = True
    expected: float | None = None

    @property
    def mismatch(self) -> float:
        """R/V, the relative mismatch of the temperature; of a Gaussian, 1 − s²/σ² or 1 − m_h/α²_h."""
        return self.value / self.scale

    @property
    def cost(self) -> float:
        """R²/2V in nats: what a re-calibrated temperature would gain."""
        return self.value**2 / (2 * self.scale)

    def verdict(self, tolerance: float) -> Verdict:
        """Return the verdict at a tolerance on the relative mismatch."""
        if not self.must_vanish:
            return "not judged"
        return judged(self.value, self.standard_error, tolerance * self.scale)


@attrs.frozen(kw_only=True)
class Certificate:
    """What is known about the stationarity of one model's training objective.

    Args:
        residuals: over all training points.
        tolerance: δ₀ on the relative mismatch.
        points: N.
        samples: Monte-Carlo samples per point that the residuals took; 0 where they are exact.
        gain: ELBO in nats that a few full-batch steps still gain; None where it was not tried.
        gain_error: standard error of `gain`.
        steps: how many such steps.
        saddle: collapsed latents that could be active: the nats that one gains at first, by latent.
        explained: share of the data's variance that the decoder means explain; None where it means nothing.
        varies: whether the decoder variance depends on z, so that it can explain what the means do not.
        baseline: the ELBO of the best linear VAE with as many latents; None where it means nothing.
        elbo: over all training points.
        active: how many latents have a KL divergence that is not nearly zero.
        obstacle: why training with ``until = "stationary"`` ended without the certificate; empty if it did not.
    """

    residuals: tuple[Residual, ...]
    tolerance: float = TOLERANCE
    points: int
    samples: int = 0
    gain: float | None = None
    gain_error: float = 0.0
    steps: int = 0
    saddle: Mapping[int, float] = attrs.field(factory=dict)
    explained: float | None = None
    varies: bool = False
    baseline: float | None = None
    elbo: float = math.nan
    active: int = 0
    obstacle: str = ""

    @property
    def gain_tolerance(self) -> float:
        """½ δ₀² Σ V in nats: what mismatches of δ₀ in all variances together would cost."""
        return 0.5 * self.tolerance**2 * sum(residual.scale for residual in self.residuals)

    @property
    def is_rising(self) -> bool:
        """Whether full-batch steps still gain more than the tolerance is worth, beyond two standard errors."""
        return self.gain is not None and self.gain - 2 * self.gain_error > self.gain_tolerance

    @property
    def is_gain_unknown(self) -> bool:
        """Whether the residuals vanish, but what full-batch steps still gain is not known to the tolerance."""
        fits = worst([residual.verdict(self.tolerance) for residual in self.residuals]) == "stationary"
        bound = -math.inf if self.gain is None else self.gain + 2 * self.gain_error
        return fits and not self.saddle and not self.is_rising and bound > self.gain_tolerance

    @property
    def verdict(self) -> Verdict:
        """The worst verdict on a residual; ``"not stationary"`` too where the ELBO still rises, or at a saddle.

        Where the residuals vanish but the gain is known too poorly, it is ``"undecided"``.
        """
        if self.is_rising or self.saddle:
            return "not stationary"
        found = worst([residual.verdict(self.tolerance) for residual in self.residuals])
        return "undecided" if self.is_gain_unknown else found

    @property
    def is_unexplained(self) -> bool:
        """Whether a Σ(z) explains the data while the decoder means are nearly the same for all points."""
        means_alike = self.explained is not None and self.explained < UNEXPLAINED
        return self.varies and means_alike and not self.saddle and bool(self.active)

    @property
    def largest(self) -> Residual:
        """The residual with the worst verdict, then the largest mismatch."""
        found = [residual for residual in self.residuals if residual.must_vanish] or list(self.residuals)
        return max(found, key=lambda one: (_SEVERITY[one.verdict(self.tolerance)], abs(one.mismatch)))

    def sentence(self) -> str:
        """Return the verdict as one sentence that can be quoted."""
        one, tolerance = self.largest, f"{100 * self.tolerance:g} %"
        if self.saddle:
            which = ", ".join(str(latent) for latent in sorted(self.saddle))
            gain = max(self.saddle.values())
            which = f"latent{'s' if len(self.saddle) > 1 else ''} {which} collapsed"
            if gain < LEAST_GAIN:
                return (
                    f"Not a maximum: a collapsed saddle; {which} at a decoder variance that explains everything, where "
                    "the gradient says nothing about models with active latents."
                )
            return (
                f"Not a maximum: a collapsed saddle; {which} although the reconstruction errors leave a direction "
                f"along which the ELBO rises (by {gain:.2g} nats to first approximation)."
            )
        verdict = worst([residual.verdict(self.tolerance) for residual in self.residuals])
        if verdict == "not judged":
            return "Not judged: no variance of this model must be matched at a stationary point."
        if verdict == "not stationary":
            return (
                f"Not stationary: {one.name} = {_rounded(one.value, one.standard_error)} is "
                f"{abs(one.mismatch) / self.tolerance:z.1f} tolerances from zero; it costs {one.cost:.2g} nats."
            )
        if verdict == "undecided":
            return (
                f"Undecided: {one.name} = {_rounded(one.value, one.standard_error)} against a tolerance of "
                f"{self.tolerance * one.scale:.2g} nats, after {self.samples} samples of each point."
            )
        if self.is_rising:
            return (
                f"Not stationary: every variance fits within {tolerance}, but the ELBO still rises; {self.steps} "
                f"full-batch steps gain {_rounded(self.gain or 0.0, self.gain_error)} nats."
            )
        if self.is_gain_unknown:
            return (
                f"Undecided: every variance fits within {tolerance}, but {self.steps} full-batch steps gain "
                f"{_rounded(self.gain or 0.0, self.gain_error)} nats, against a tolerance of {self.gain_tolerance:.2g}."
            )
        still = ""
        if self.gain is not None:
            still = f", and full-batch steps gain no more than {max(self.gain, self.gain_tolerance / 100):.1g} nats"
        most = f"at most {100 * abs(one.mismatch):.2g} %, {one.cost:.1g} nats"
        if abs(one.mismatch) < SMALLEST_MISMATCH:
            most = f"to better than {100 * SMALLEST_MISMATCH:g} %"
        of = f"all {self.points:,} training points"
        return f"Stationary: over {of} every variance fits within {tolerance} ({most}){still}."

    def table(self) -> dict[str, Any]:
        """Return it as JSON values; `from_table` reads it back."""
        found = attrs.asdict(self)
        found["residuals"] = [attrs.asdict(residual) for residual in self.residuals]
        found["saddle"] = {str(latent): gain for latent, gain in self.saddle.items()}
        return {**found, "verdict": self.verdict, "sentence": self.sentence()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Certificate:
        """Return what `table` gave.

        Raises:
            ValueError: the table is none of a certificate.
        """
        try:
            names = {field.name for field in attrs.fields(cls)}
            known = {name: value for name, value in table.items() if name in names}
            known["residuals"] = tuple(Residual(**residual) for residual in table["residuals"])
            known["saddle"] = {int(latent): float(gain) for latent, gain in table.get("saddle", {}).items()}
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the table of a certificate: {error}") from error


def certificates(documents: Mapping[str, Any], step: int | None = None) -> list[Certificate]:
    """Return the certificates that a run file keeps, one per replica; none where it has none, or older ones.

    Args:
        documents: of the run file.
        step: number of updates that its checkpoint has; None takes certificates of any.
    """
    document = documents.get("certificate")
    if not isinstance(document, Mapping) or (step is not None and document.get("step") != step):
        return []
    try:
        return [Certificate.from_table(table) for table in document["replicas"]]
    except (KeyError, TypeError, ValueError):
        return []


def told(found: Sequence[Certificate], path: str, *, overfitted: bool = False) -> list[str]:
    """Return what certificates say in sentences: the verdict, and one thing to do next where there is one.

    Args:
        found: one per replica, at least one.
        path: of the run, as a shell takes it.
        overfitted: whether held-out points are fitted far worse, so that training longer would not help.
    """
    order = sorted(range(len(found)), key=lambda replica: _rank(found[replica]), reverse=True)
    first = found[order[0]]
    sentences = [first.sentence()]
    if len(found) > 1:
        count = sum(one.verdict == "stationary" for one in found)
        sentences = [f"{count} of {len(found)} replicas are stationary; the worst is {order[0]}. {first.sentence()}"]
    if first.obstacle and first.verdict != "stationary":
        sentences.append(f"Training ended because {first.obstacle}.")
    if first.baseline is not None and math.isfinite(first.elbo) and first.elbo < first.baseline - 0.01:
        sentences.append(
            f"The ELBO is {first.baseline - first.elbo:.3g} nats below that of the best linear VAE with as many "
            f"latents ({first.baseline:.4g})."
        )
    if first.is_unexplained:
        sentences.append(
            f"The decoder means explain {100 * (first.explained or 0.0):.2g} % of the variance: they are nearly the "
            "same for all points, and the latents in use shape the decoder variance Σ(z) instead. A model whose "
            "variance does not depend on z has to use the means (model=vae-1)."
        )
    if first.saddle:
        sentences.append(
            "Next: learn the variances, from small ones on, so that the latents can begin, `elboverse train --like "
            f"{path} --set training.variances=learned`; or begin the dead latents anew, `elboverse train --resume "
            f"{path} --until stationary`."
        )
    elif first.verdict == "not stationary" and not overfitted:
        sentences.append(f"Next: train longer, `elboverse train --resume {path} --until stationary`.")
    elif first.verdict == "undecided":
        sentences.append("Next: train with more samples, `--set training.samples=…`, or with a larger tolerance.")
    return sentences


def _rank(one: Certificate) -> tuple[float, float]:
    return (_SEVERITY[one.verdict], abs(one.largest.mismatch))


def _rounded(value: float, standard_error: float) -> str:
    """Return a value with its standard error, both to two digits of the error."""
    if not (math.isfinite(standard_error) and standard_error > 0):
        return f"{value:.2g}"
    digits = max(0, 1 - math.floor(math.log10(standard_error)))
    return f"{value:z.{digits}f} ± {standard_error:z.{digits}f}"
