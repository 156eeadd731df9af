"""The likelihoods: what the decoder's outputs say about a point."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["LIKELIHOODS"]

_HERE = "elboverse.builtin.likelihoods"


def _component(name: str, module: str, options: str, build: str, summary: str) -> Component:
    return Component(name, f"{_HERE}.{module}:{options}", f"{_HERE}.{module}:{build}", summary)


LIKELIHOODS = (
    _component("gaussian", "gaussian", "GaussianOptions", "build", "real numbers, normal noise"),
    _component("bernoulli", "logits", "LogitsOptions", "build_bernoulli", "binary data, 0 or 1"),
    _component("categorical", "logits", "CategoricalOptions", "build_categorical", "categories, as groups of 0 and 1"),
    _component("continuous-bernoulli", "logits", "GreyOptions", "build_continuous_bernoulli", "grey values in [0, 1]"),
    _component("poisson", "counts", "PoissonOptions", "build_poisson", "counts, with or without a library size"),
    _component(
        "poisson-softmax", "counts", "PoissonSoftmaxOptions", "build_poisson_softmax", "counts as shares of their total"
    ),
    _component(
        "negative-binomial",
        "counts",
        "NegativeBinomialOptions",
        "build_negative_binomial",
        "over-dispersed counts, such as cells by genes",
    ),
    _component("laplace", "tails", "ScaleOptions", "build_laplace", "real numbers, heavier tails"),
    _component(
        "generalised-normal",
        "tails",
        "GeneralisedNormalOptions",
        "build_generalised_normal",
        "real numbers, tails of a given power",
    ),
    _component("student-t", "tails", "StudentTOptions", "build_student_t", "real numbers with outliers"),
    _component("gamma", "positive", "GammaOptions", "build_gamma", "positive numbers"),
    _component("log-normal", "positive", "LogNormalOptions", "build_log_normal", "positive numbers, logarithms normal"),
    _component("exponential", "positive", "ExponentialOptions", "build_exponential", "waiting times"),
    _component("beta", "positive", "BetaOptions", "build_beta", "shares inside (0, 1)"),
)
