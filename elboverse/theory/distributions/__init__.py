"""Distributions of the entropy view: decoders p(x|z), one family per file; posteriors and priors over latents."""

from __future__ import annotations

from elboverse.theory.distributions.base import DecoderDistribution, DecoderTerms
from elboverse.theory.distributions.bernoulli import Bernoulli
from elboverse.theory.distributions.beta import Beta
from elboverse.theory.distributions.categorical import Categorical
from elboverse.theory.distributions.continuous_bernoulli import ContinuousBernoulli
from elboverse.theory.distributions.gaussian_decoder import GaussianDecoder
from elboverse.theory.distributions.laplace import GeneralisedNormal, Laplace
from elboverse.theory.distributions.latent import (
    FullGaussian,
    FullGaussianPrior,
    GaussianMixture,
    LaplacePrior,
    VampPrior,
    second_moments,
    variance_along,
)
from elboverse.theory.distributions.negative_binomial import NegativeBinomial
from elboverse.theory.distributions.poisson import Poisson, PoissonSoftmax, PoissonWithLibrary
from elboverse.theory.distributions.positive import Exponential, Gamma, GammaFixedShape, LogNormal
from elboverse.theory.distributions.student_t import StudentT

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "DecoderDistribution",
    "DecoderTerms",
    "Exponential",
    "FullGaussian",
    "FullGaussianPrior",
    "Gamma",
    "GammaFixedShape",
    "GaussianDecoder",
    "GaussianMixture",
    "GeneralisedNormal",
    "Laplace",
    "LaplacePrior",
    "LogNormal",
    "NegativeBinomial",
    "Poisson",
    "PoissonSoftmax",
    "PoissonWithLibrary",
    "StudentT",
    "VampPrior",
    "second_moments",
    "variance_along",
]
