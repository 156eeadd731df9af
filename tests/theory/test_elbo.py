from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import MODELS, build_model, normal, randomise, sigma_points
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from elboverse.contracts import SamplingFree, VarianceParameters
from elboverse.theory.elbo import ClosedForm, Moments, Terms, batch_terms, closed_form, moments, point_terms, terms_of
from elboverse.theory.gaussian import DiagonalGaussian

SAMPLED = tuple(name for name in MODELS if name != "linear-vae")
CLOSED_FORM = ("vae-1", "vae-2", "linear-vae")


class Shifted(nn.Module):
    """A model with ln σ² shifted by a number and ln α² by one number per latent: its derivatives are −R_σ and −R_h."""

    def __init__(self, inner: Any, decoder_shift: Tensor, prior_shift: Tensor) -> None:
        super().__init__()
        self.inner, self.decoder_shift, self.prior_shift = inner, decoder_shift, prior_shift

    def encode(self, x: Tensor) -> DiagonalGaussian:
        return self.inner.encode(x)

    def decode(self, z: Tensor) -> DiagonalGaussian:
        decoder = self.inner.decode(z)
        return DiagonalGaussian(decoder.mean, decoder.log_var + self.decoder_shift)

    def prior(self) -> DiagonalGaussian:
        prior = self.inner.prior()
        return DiagonalGaussian(prior.mean, prior.log_var + self.prior_shift)

    def variance_parameters(self) -> VarianceParameters:
        return VarianceParameters()


class ShiftedSamplingFree(Shifted):
    def expected_squared_error(self, x: Tensor, encoder: DiagonalGaussian) -> Tensor:
        return self.inner.expected_squared_error(x, encoder)

    def decoder_log_variance(self) -> Tensor:
        return self.inner.decoder_log_variance() + self.decoder_shift


def random_case(
    name: str,
    *,
    dimension: int = 4,
    latent_dim: int = 3,
    batch: int = 6,
    samples: int = 2,
    hidden: int = 5,
    seed: int = 0,
) -> tuple[Any, Tensor, Tensor]:
    """Return a model with random parameters, points and noise."""
    model = build_model(name, dimension, latent_dim=latent_dim, network={"name": "mlp", "hidden": [hidden]})
    randomise(model, seed)
    return model, normal(seed + 1, batch, dimension), normal(seed + 2, samples, batch, latent_dim)


def terms_by_torch_distributions(model: Any, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """Return ELBO, H_sum and residuals of a sampled model, each from its definition."""
    q, prior = model.encode(x), model.prior()
    encoder = Normal(q.mean, (q.log_var.expand_as(q.mean) / 2).exp())
    z = encoder.mean + encoder.stddev * noise
    p = model.decode(z)
    decoder = Normal(p.mean, (p.log_var.expand_as(p.mean) / 2).exp())
    prior_normal = Normal(prior.mean, (prior.log_var / 2).exp())
    return {
        "log_likelihood": decoder.log_prob(x).sum(-1).mean(),
        "decoder_entropy": decoder.entropy().sum(-1).mean(),
        "kl": kl_divergence(encoder, prior_normal).mean(0),
        "encoder_entropy": encoder.entropy().mean(0),
        "prior_entropy": prior_normal.entropy(),
        "decoder_residual": 0.5 * (1 - ((x - decoder.mean) / decoder.stddev).square()).sum(-1).mean(),
        "prior_residual": 0.5 * (1 - (encoder.mean.square() + encoder.variance).mean(0) / prior_normal.variance),
        "decoder_log_var": decoder.variance.log().mean(),
    }


@pytest.mark.parametrize("name", SAMPLED)
def test_terms_equal_their_definitions_by_torch_distributions(name: str) -> None:
    model, x, noise = random_case(name)
    terms = batch_terms(model, x, noise)
    for term, expected in terms_by_torch_distributions(model, x, noise).items():
        torch.testing.assert_close(getattr(terms, term), expected, rtol=1e-12, atol=1e-12, msg=term)


@pytest.mark.parametrize("name", SAMPLED)
def test_terms_of_points_are_those_of_the_gaussians(name: str) -> None:
    model, x, noise = random_case(name, samples=1)
    terms = point_terms(model, x, noise[0])
    q = model.encode(x)
    p = model.decode(q.sample(noise[0]))
    torch.testing.assert_close(terms.log_likelihood, p.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms.kl, q.kl(model.prior()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms.encoder_entropy, q.entropy(), rtol=1e-12, atol=1e-12)
    entropy = p.entropy().expand_as(p.mean).sum(-1)
    torch.testing.assert_close(terms.decoder_entropy.expand_as(entropy), entropy, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(MODELS),
    dimension=st.integers(1, 6),
    latent_dim=st.integers(1, 5),
    batch=st.integers(1, 7),
    samples=st.integers(1, 4),
    hidden=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_gap_is_the_sum_of_the_residuals_at_any_parameters(
    name: str, dimension: int, latent_dim: int, batch: int, samples: int, hidden: int, seed: int
) -> None:
    model, x, noise = random_case(
        name, dimension=dimension, latent_dim=latent_dim, batch=batch, samples=samples, hidden=hidden, seed=seed
    )
    wrapper = ShiftedSamplingFree if isinstance(model, SamplingFree) else Shifted
    decoder_shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    prior_shift = torch.zeros(latent_dim, dtype=torch.float64, requires_grad=True)
    terms = batch_terms(wrapper(model, decoder_shift, prior_shift), x, noise)
    by_decoder, by_prior = torch.autograd.grad(terms.elbo, (decoder_shift, prior_shift))

    q, prior = model.encode(x), model.prior()
    if wrapper is ShiftedSamplingFree:
        error = (x - model.decoder(q.mean)).square().sum(-1) + q.variance @ model.decoder.weight.square().sum(0)
        residual = 0.5 * (dimension - error.mean() / model.decoder_log_var.exp())
    else:
        p = model.decode(q.sample(noise))
        residual = 0.5 * (1 - (x - p.mean).square() / p.variance).sum(-1).mean()
    second_moment = (q.mean.square() + q.variance).mean(0)
    prior_residual = 0.5 * (1 - second_moment / prior.variance)

    def close(actual: Tensor, expected: Tensor) -> None:
        scale = 1 + float(terms.elbo.detach().abs())
        torch.testing.assert_close(actual.detach(), expected.detach(), rtol=1e-9, atol=1e-9 * scale)

    close(terms.elbo - terms.entropy_sum, residual + prior_residual.sum())
    close(terms.decoder_residual, residual)
    close(terms.prior_residual, prior_residual)
    close(-by_decoder, residual)
    close(-by_prior, prior_residual)


@pytest.mark.parametrize("name", MODELS)
def test_batch_terms_are_the_means_of_point_terms(name: str) -> None:
    model, x, noise = random_case(name)
    batch, points = batch_terms(model, x, noise), point_terms(model, x, noise)
    for field in attrs.fields(Terms):
        value = getattr(points, field.name)
        per_batch = getattr(batch, field.name)
        mean = value.mean(0) if value.ndim > per_batch.ndim else value
        torch.testing.assert_close(per_batch, mean, rtol=1e-12, atol=1e-12, msg=field.name)


@pytest.mark.parametrize("name", SAMPLED)
def test_terms_of_k_samples_are_the_average_of_those_of_single_samples(name: str) -> None:
    model, x, noise = random_case(name, samples=5)
    together = batch_terms(model, x, noise)
    singles = [batch_terms(model, x, sample) for sample in noise]
    for field in attrs.fields(Terms):
        average = torch.stack([getattr(single, field.name) for single in singles]).mean(0)
        torch.testing.assert_close(getattr(together, field.name), average, rtol=1e-12, atol=1e-12, msg=field.name)


@pytest.mark.parametrize("name", MODELS)
def test_given_variances_equal_the_models_own_set_to_them(name: str) -> None:
    model, x, noise = random_case(name)
    names = model.variance_parameters()
    given_variances = ClosedForm(
        decoder=torch.tensor(0.3, dtype=torch.float64) if names.decoder else None,
        prior=normal(5, 3) if names.prior else None,
    )
    terms = batch_terms(model, x, noise, given_variances)
    with torch.no_grad():
        for parameter, value in ((names.decoder, given_variances.decoder), (names.prior, given_variances.prior)):
            if parameter is not None and value is not None:
                model.get_parameter(parameter).copy_(value)
    torch.testing.assert_close(terms.elbo, batch_terms(model, x, noise).elbo, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_no_other_variances_give_a_higher_elbo_than_the_closed_form(name: str) -> None:
    model, x, noise = random_case(name)
    best = closed_form(model, moments(model, x, noise, average_points=True))
    highest = batch_terms(model, x, noise, best).elbo
    assert best.decoder is not None
    for sign in (-0.01, 0.01):
        moved = attrs.evolve(best, decoder=best.decoder + sign)
        assert batch_terms(model, x, noise, moved).elbo < highest
        if best.prior is not None:
            for latent in range(3):
                prior = best.prior.clone()
                prior[latent] += sign
                assert batch_terms(model, x, noise, attrs.evolve(best, prior=prior)).elbo < highest
    assert highest > batch_terms(model, x, noise).elbo


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_closed_form_variances_leave_no_residual_where_a_variance_is_learned(name: str) -> None:
    model, x, noise = random_case(name)
    terms = batch_terms(model, x, noise, closed_form(model, moments(model, x, noise, average_points=True)))
    assert terms.decoder_residual.item() == pytest.approx(0.0, abs=1e-12)
    if name == "vae-2":
        torch.testing.assert_close(terms.elbo, terms.entropy_sum, rtol=1e-12, atol=1e-12)


def test_gradient_of_the_elbo_at_the_closed_form_is_that_of_the_entropy_sum_with_it_substituted() -> None:
    model, x, noise = random_case("vae-2")
    found = moments(model, x, noise, average_points=True)
    held = terms_of(found, closed_form(model, found)).elbo
    assert found.squared_error is not None
    substituted = ClosedForm(found.squared_error.mean().log(), found.encoder_second_moment.log())
    entropy_sum = terms_of(found, substituted).entropy_sum
    weights = [weight for name, weight in model.named_parameters() if "log_var" not in name]
    by_elbo = torch.autograd.grad(held, weights, retain_graph=True)
    by_entropy_sum = torch.autograd.grad(entropy_sum, weights)
    for ours, theirs in zip(by_elbo, by_entropy_sum, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_closed_form_of_a_diagonal_variance_is_one_number_per_dimension() -> None:
    model, x, noise = random_case("vae-1")
    model.decoder_log_var = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    best = closed_form(model, moments(model, x, noise, average_points=True))
    error = (x - model.decode(model.encode(x).sample(noise)).mean).square().mean((0, 1))
    assert best.decoder is not None
    torch.testing.assert_close(best.decoder, error.log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["vae-0", "vae-3"])
def test_models_without_a_closed_form_have_none(name: str) -> None:
    model, x, noise = random_case(name)
    best = closed_form(model, moments(model, x, noise, average_points=True))
    assert best.decoder is None
    assert best.prior is None


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sampled_model_without_noise_is_refused(name: str) -> None:
    model, x, _ = random_case(name)
    with pytest.raises(ValueError, match="noise of shape"):
        batch_terms(model, x, None)


@pytest.mark.parametrize("name", MODELS)
def test_an_encoder_that_is_known_already_gives_the_same_moments(name: str) -> None:
    model, x, noise = random_case(name)
    ours = moments(model, x, noise, average_points=True)
    theirs = moments(model, x, noise, average_points=True, encoder=model.encode(x))
    for field in attrs.fields(Moments):
        value, other = getattr(ours, field.name), getattr(theirs, field.name)
        assert (value is None and other is None) or torch.equal(value, other), field.name


def test_linear_elbo_is_the_formula_with_the_datas_mean_and_covariance() -> None:
    model, x, _ = random_case("linear-vae", batch=50)
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    W, mu, V, b = model.decoder.weight, model.decoder.bias, model.encoder.weight, model.encoder.bias  # noqa: N806
    tau_squared, sigma_squared = model.encoder_log_var.exp(), model.decoder_log_var.exp()
    A = torch.eye(4, dtype=torch.float64) - W @ V  # noqa: N806
    e = A @ mean - W @ b - mu
    error = torch.trace(A @ covariance @ A.T) + e.square().sum() + (tau_squared * W.square().sum(0)).sum()
    second_moment = (V @ covariance @ V.T).diagonal() + (V @ mean + b).square() + tau_squared
    expected = (
        -0.5 * 4 * torch.log(2 * math.pi * sigma_squared)
        - error / (2 * sigma_squared)
        - 0.5 * (second_moment - 1 - tau_squared.log()).sum()
    )
    torch.testing.assert_close(batch_terms(model, x, None).elbo, expected, rtol=1e-12, atol=1e-12)


class Sampled(nn.Module):
    """A linear VAE that hides that its ELBO is known exactly."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.encode, self.decode, self.prior = inner.encode, inner.decode, inner.prior
        self.variance_parameters = inner.variance_parameters


def test_linear_elbo_is_the_average_over_sigma_points() -> None:
    model, x, _ = random_case("linear-vae")
    exact, sampled = batch_terms(model, x, None), batch_terms(Sampled(model), x, sigma_points(len(x), 3))
    torch.testing.assert_close(exact.elbo, sampled.elbo, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(exact.entropy_sum, sampled.entropy_sum, rtol=1e-12, atol=1e-12)


def test_linear_elbo_is_the_limit_of_monte_carlo() -> None:
    model, x, _ = random_case("linear-vae")
    noise = normal(3, 20_000, len(x), 3)
    with torch.no_grad():
        q = model.encode(x)
        draws = model.decode(q.sample(noise)).log_prob(x) - q.kl(model.prior()).sum(-1)
        exact = point_terms(model, x, None).elbo
    standard_error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() < 4 * standard_error).all()
