"""What a run says about its distributions: their names, whether the theorem holds, and the scale of each residual.

A residual R is the derivative of the ELBO along a temperature, and the second derivative is minus the varentropy V.
The relative mismatch of that temperature is about R/V, and setting it right would gain about R²/2V nats.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import numpy as np

from elboverse.runfile import Run

__all__ = ["RunFamily", "decoder_symbol", "family_of", "gain_over_no_latents", "varentropies", "varentropy_bound"]

_PRIOR_VARENTROPY: Final = {"LaplacePrior": 1.0}
"""V_h where it is not that of a Gaussian, ½."""

_SPOKEN: Final = {
    "DiagonalGaussian": "Gaussian",
    "ContinuousBernoulli": "continuous Bernoulli",
    "PoissonSoftmax": "Poisson (shares of the total)",
    "PoissonWithLibrary": "Poisson (with library size)",
    "NegativeBinomial": "negative binomial",
    "NegativeBinomialWithoutLibrary": "negative binomial",
    "GeneralisedNormal": "generalised normal",
    "StudentT": "Student's t",
    "GammaFixedShape": "gamma (fixed shape)",
    "LogNormal": "log-normal",
    "FullGaussian": "full Gaussian",
    "FullGaussianPrior": "full Gaussian",
    "GaussianMixture": "mixture of Gaussians",
    "LaplacePrior": "Laplace",
    "VampPrior": "VampPrior",
}


@attrs.frozen
class RunFamily:
    """The distributions of a run's model.

    Args:
        decoder: what p(x|z) is called, such as ``"Bernoulli"``.
        encoder: what q(z|x) is called.
        prior: what p(z) is called.
        decoder_theorem: empty where the decoder's residual vanishes at stationary points, else why it need not.
        prior_theorem: the same for the prior's residuals.
        factorised: whether prior residuals belong to single latents.
        is_gaussian: whether all three are diagonal Gaussians.
    """

    decoder: str = "Gaussian"
    encoder: str = "Gaussian"
    prior: str = "Gaussian"
    decoder_theorem: str = ""
    prior_theorem: str = ""
    factorised: bool = True
    is_gaussian: bool = True

    @property
    def no_certificate(self) -> str:
        """A sentence that says where theory ends; empty where the ELBO equals the entropy sum at stationary points."""
        reasons = "; ".join(reason for reason in (self.decoder_theorem, self.prior_theorem) if reason)
        return f"Calibration, no certificate: {reasons}." if reasons else ""

    @property
    def described(self) -> str:
        """What the model is, in words."""
        return f"{self.decoder} decoder, {self.prior} prior"


def family_of(run: Run) -> RunFamily:
    """Return what a run says about its distributions; one that says nothing is of three diagonal Gaussians."""
    document = _document(run)
    if not document:
        return RunFamily()

    def word(key: str) -> str:
        name = document.get(key)
        return _SPOKEN.get(name, name) if isinstance(name, str) else "unknown"

    def theorem(side: str) -> str:
        sentences = document.get("theorem")
        sentence = sentences.get(side) if isinstance(sentences, dict) else ""
        return sentence if isinstance(sentence, str) else ""

    return RunFamily(
        decoder=word("decoder"),
        encoder=word("encoder"),
        prior=word("prior"),
        decoder_theorem=theorem("decoder"),
        prior_theorem=theorem("prior"),
        factorised=document.get("factorised") is not False,
        is_gaussian=document.get("gaussian") is not False,
    )


def decoder_symbol(run: Run) -> str:
    """Return what the decoder's residual is called: R_σ of a Gaussian, R_dec of any other decoder."""
    return "R_σ" if family_of(run).decoder == "Gaussian" else "R_dec"


def varentropy_bound(decoder: str) -> str:
    """Return where V is only a bound, in a sentence; empty where it is exact."""
    if decoder != "negative binomial":
        return ""
    return (
        "Of the negative binomial, V = θ²ψ′(θ) − θ is that of the rates, an upper bound on what counts tell about θ: a "
        "dispersion is off by at least R/V."
    )


def varentropies(run: Run, split: str, dimension: int) -> tuple[float, float]:
    """Return V of the decoder and V_h of the prior, in nats squared, at the last evaluation of a split.

    V is D/2 of a Gaussian decoder; of another one it was evaluated, and is 0 where it is not known, so that its
    tolerance is 0.

    Args:
        run: the run.
        split: which points were evaluated.
        dimension: D.
    """
    document = _document(run)
    prior = document.get("prior")
    of_prior = _PRIOR_VARENTROPY.get(prior, 0.5) if isinstance(prior, str) else 0.5
    if "decoder_varentropy" in run.evaluation_names(split, stored=True):
        values = np.asarray(run.evaluation(split, "decoder_varentropy"))[-1]
        return float(np.median(values)), of_prior
    return (0.5 * dimension if family_of(run).decoder == "Gaussian" else 0.0), of_prior


def gain_over_no_latents(run: Run, split: str, replica: int | None = None) -> float | None:
    """Return ELBO − ELBO_0 at the last evaluation of a split, in nats; None where the run does not know ELBO_0.

    ELBO_0 is the log-likelihood of the best model without latents, fitted on training points. The gain is 0 at full
    posterior collapse.

    Args:
        run: the run.
        split: ``"train"`` or ``"held_out"``.
        replica: which; by default the median of those whose ELBO_0 is known, the first few.
    """
    known = _document(run).get("without_latents")
    found = known.get(split) if isinstance(known, dict) else None
    values = [found] * run.replicas if isinstance(found, int | float) else found if isinstance(found, list) else []
    if split not in run.splits or not values or not all(isinstance(value, int | float) for value in values):
        return None
    last = np.asarray(run.evaluation(split, "elbo"))[-1]
    gains = [float(elbo) - float(value) for elbo, value in zip(last, values, strict=False)]
    if replica is None:
        return float(np.median(gains))
    return gains[replica] if replica < len(gains) else None


def _document(run: Run) -> dict[str, Any]:
    family = run.documents.get("family")
    return family if isinstance(family, dict) else {}
