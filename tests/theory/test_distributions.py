"""Every decoder distribution against the identity, automatic differentiation, quadrature and its own samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from mpmath import mp, mpf
from torch import Tensor

from elboverse.theory import distributions as families


def counts(noise: Tensor) -> Tensor:
    return (noise.abs() * 4).floor()


def unit(noise: Tensor) -> Tensor:
    return torch.sigmoid(noise)


def one_hot(noise: Tensor) -> Tensor:
    grouped = noise.unflatten(-1, (2, 3))
    return torch.nn.functional.one_hot(grouped.argmax(-1), 3).to(noise).flatten(-2)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


CASES: dict[str, tuple[Callable[[Tensor, Tensor], families.DecoderDistribution], Callable[[Tensor], Tensor]]] = {
    "gaussian": (families.GaussianDecoder, lambda n: n),
    "bernoulli": (lambda o, t: families.Bernoulli(4 * o), lambda n: (n > 0).to(n)),
    "categorical": (lambda o, t: families.Categorical(o.unflatten(-1, (2, 3))), one_hot),
    "continuous-bernoulli": (lambda o, t: families.ContinuousBernoulli(5 * o), unit),
    "poisson": (lambda o, t: families.Poisson(o), counts),
    "poisson-library": (lambda o, t: families.PoissonWithLibrary(o, scalar(0.7)), counts),
    "poisson-softmax": (lambda o, t: families.PoissonSoftmax(o, scalar(2.0)), counts),
    "negative-binomial": (lambda o, t: families.NegativeBinomial(o, t, scalar(0.5)), counts),
    "laplace": (families.Laplace, lambda n: n),
    "generalised-normal": (lambda o, t: families.GeneralisedNormal(o, t, scalar(3.0)), lambda n: n),
    "student-t": (lambda o, t: families.StudentT(o, t, t + 1.5), lambda n: n),
    "gamma": (families.Gamma, lambda n: n.exp()),
    "gamma-fixed": (lambda o, t: families.GammaFixedShape(o, scalar(2.5)), lambda n: n.exp()),
    "beta": (lambda o, t: families.Beta(o, t + 3), unit),
    "log-normal": (families.LogNormal, lambda n: n.exp()),
    "exponential": (lambda o, t: families.Exponential(o), lambda n: n.exp()),
}


def drawn(name: str, samples: int = 3) -> tuple[families.DecoderDistribution, Tensor]:
    generator = torch.Generator().manual_seed(7)
    outputs = torch.randn(samples, 5, 6, generator=generator, dtype=torch.float64)
    shared = torch.randn(6, generator=generator, dtype=torch.float64) * 0.5
    build, values = CASES[name]
    distribution = build(outputs, shared)
    value = values(torch.randn(5, 6, generator=generator, dtype=torch.float64))
    given = getattr(distribution, "given", None)
    return (distribution if given is None else given(value)), value


@pytest.mark.parametrize("name", CASES)
def test_the_log_density_is_reference_minus_entropy_plus_residual(name: str) -> None:
    distribution, value = drawn(name)
    residual = distribution.residual_terms(value).sum(-1)
    identity = distribution.log_reference(value) - distribution.entropy() + residual
    torch.testing.assert_close(distribution.log_prob(value), identity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_derivatives_of_the_log_density(name: str) -> None:
    distribution, value = drawn(name)
    fields = [field.clone().requires_grad_() for field in distribution]  # type: ignore[attr-defined]
    rebuilt = type(distribution)(*fields)
    gradients = torch.autograd.grad(-rebuilt.log_prob(value).sum(), fields, allow_unused=True)
    terms = distribution.terms(value)
    for score, gradient in zip(terms.score, gradients, strict=True):
        if score is not None:
            torch.testing.assert_close(score, gradient, rtol=1e-9, atol=1e-9)
    samples = len(distribution.mean)
    torch.testing.assert_close(terms.log_prob, distribution.log_prob(value).sum(), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(terms.entropy, distribution.entropy().sum(), rtol=1e-12, atol=1e-9)
    reference = distribution.log_reference(value)
    expected = reference.sum() * (samples if reference.ndim == 1 else 1)
    torch.testing.assert_close(terms.log_reference, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_residual_is_zero_on_average_over_its_own_samples_with_the_stated_variance(name: str) -> None:
    distribution, _ = drawn(name, samples=1)
    noise = torch.randn(20_000, 1, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    value = distribution.sample(noise)
    given = getattr(distribution, "given", None)
    residual = distribution.residual_terms(value)
    error = residual.std(0) / math.sqrt(len(noise))
    assert (residual.mean(0).abs() / error).max() < 5
    if given is None:
        varentropy = distribution.varentropy_terms().expand_as(residual[0])
        spread = residual.square()
        assert ((spread.mean(0) - varentropy).abs() / (spread.std(0) / math.sqrt(len(noise)))).max() < 6


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_mean_that_is_stated(name: str) -> None:
    distribution, _ = drawn(name, samples=1)
    noise = torch.randn(20_000, 1, 5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    value = distribution.sample(noise)
    error = value.std(0) / math.sqrt(len(noise))
    assert ((value.mean(0) - distribution.mean).abs() / error.clamp_min(1e-6)).max() < 5


@pytest.mark.parametrize("name", CASES)
def test_a_sample_is_a_function_of_its_noise(name: str) -> None:
    distribution, _ = drawn(name, samples=1)
    noise = torch.randn(2, 1, 5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(distribution.sample(noise), distribution.sample(noise))
    assert not torch.equal(distribution.sample(noise), distribution.sample(noise.flip(0)).flip(0)) or name in {
        "gaussian", "bernoulli", "categorical", "continuous-bernoulli", "laplace", "exponential", "log-normal"
    }  # fmt: skip


@pytest.mark.parametrize("logit", [-700.0, -40.0, -0.049, -1e-9, 0.0, 1e-9, 0.051, 40.0, 700.0])
def test_the_continuous_bernoulli_is_exact_at_any_logit(logit: float) -> None:
    mp.dps = 40
    eta = mpf(logit)
    log_normaliser = mp.log(mp.expm1(eta) / eta) if eta else mpf(0)
    derivative = 1 / (1 - mp.exp(-eta)) - 1 / eta if eta else mpf("0.5")
    distribution = families.ContinuousBernoulli(torch.tensor([logit], dtype=torch.float64))
    assert float(distribution.entropy()) == pytest.approx(
        float(log_normaliser - eta * derivative), rel=1e-12, abs=1e-14
    )
    assert float(distribution.mean[0]) == pytest.approx(float(derivative), rel=1e-12)


def test_the_bernoulli_entropy_is_stable_at_large_logits() -> None:
    logits = torch.tensor([-800.0, -50.0, 50.0, 800.0], dtype=torch.float64)
    terms = families.Bernoulli(logits).entropy_terms()
    expected = [0.0, 51 * math.exp(-50), 51 * math.exp(-50), 0.0]
    torch.testing.assert_close(terms, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_replicas_are_seen_through_by_vmap() -> None:
    outputs = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    found = torch.func.vmap(families.Bernoulli)(outputs)
    assert isinstance(found, families.Bernoulli)
    assert torch.equal(found.logits, outputs)


def test_categorical_draws_are_one_hot() -> None:
    distribution, _ = drawn("categorical", samples=1)
    value = distribution.sample(torch.randn(50, 1, 5, 6, generator=torch.Generator().manual_seed(2)))
    assert torch.equal(value.unflatten(-1, (2, 3)).sum(-1), torch.ones(50, 1, 5, 2).to(value))
