"""The paper as formulas: identities, Gaussians, the ELBO and its terms, what a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elboverse.faces import found_in

if TYPE_CHECKING:
    from elboverse.theory.elbo import (
        ClosedForm,
        Moments,
        Terms,
        batch_terms,
        closed_form,
        moments,
        point_terms,
        terms_of,
    )
    from elboverse.theory.gaussian import DiagonalGaussian
    from elboverse.theory.identities import (
        DROP_THRESHOLD,
        LOG_2PI,
        LOG_2PI_E,
        LOG_VAR_FLOOR,
        PAPER_THRESHOLD,
        STANDARD_NORMAL_ENTROPY,
        decoder_residual,
        entropy_drop,
        entropy_sum,
        gaussian_entropy,
        gaussian_kl,
        gaussian_log_likelihood,
        is_at_floor,
        prior_residual,
    )
    from elboverse.theory.model import Constrainable, Model, SamplingFree, VarianceParameters

__all__ = [
    "DROP_THRESHOLD",
    "LOG_2PI",
    "LOG_2PI_E",
    "LOG_VAR_FLOOR",
    "PAPER_THRESHOLD",
    "STANDARD_NORMAL_ENTROPY",
    "ClosedForm",
    "Constrainable",
    "DiagonalGaussian",
    "Model",
    "Moments",
    "SamplingFree",
    "Terms",
    "VarianceParameters",
    "batch_terms",
    "closed_form",
    "decoder_residual",
    "entropy_drop",
    "entropy_sum",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "is_at_floor",
    "moments",
    "point_terms",
    "prior_residual",
    "terms_of",
]

_HOMES = {
    "ClosedForm": "elboverse.theory.elbo",
    "Constrainable": "elboverse.theory.model",
    "DROP_THRESHOLD": "elboverse.theory.identities",
    "DiagonalGaussian": "elboverse.theory.gaussian",
    "LOG_2PI": "elboverse.theory.identities",
    "LOG_2PI_E": "elboverse.theory.identities",
    "LOG_VAR_FLOOR": "elboverse.theory.identities",
    "Model": "elboverse.theory.model",
    "Moments": "elboverse.theory.elbo",
    "PAPER_THRESHOLD": "elboverse.theory.identities",
    "STANDARD_NORMAL_ENTROPY": "elboverse.theory.identities",
    "SamplingFree": "elboverse.theory.model",
    "Terms": "elboverse.theory.elbo",
    "VarianceParameters": "elboverse.theory.model",
    "batch_terms": "elboverse.theory.elbo",
    "closed_form": "elboverse.theory.elbo",
    "decoder_residual": "elboverse.theory.identities",
    "entropy_drop": "elboverse.theory.identities",
    "entropy_sum": "elboverse.theory.identities",
    "gaussian_entropy": "elboverse.theory.identities",
    "gaussian_kl": "elboverse.theory.identities",
    "gaussian_log_likelihood": "elboverse.theory.identities",
    "is_at_floor": "elboverse.theory.identities",
    "moments": "elboverse.theory.elbo",
    "point_terms": "elboverse.theory.elbo",
    "prior_residual": "elboverse.theory.identities",
    "terms_of": "elboverse.theory.elbo",
}


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
