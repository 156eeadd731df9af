from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elboverse.theory import identities

TERMS = st.floats(-100, 100)
LATENTS = st.lists(st.tuples(TERMS, TERMS, TERMS), min_size=1, max_size=6)


def test_gaussian_entropy_is_that_of_a_standard_normal_where_the_log_variance_is_zero() -> None:
    assert identities.gaussian_entropy(0.0) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), rel=1e-15)
    assert identities.gaussian_entropy(0.0) == identities.STANDARD_NORMAL_ENTROPY


def test_gaussian_entropy_grows_by_log_two_when_the_standard_deviation_doubles() -> None:
    grown = identities.gaussian_entropy(math.log(4.0)) - identities.gaussian_entropy(0.0)
    assert grown == pytest.approx(math.log(2), rel=1e-14)


def test_thresholds_are_those_of_the_theory() -> None:
    assert pytest.approx(0.4189, abs=5e-5) == identities.DROP_THRESHOLD
    assert identities.gaussian_entropy(math.log(0.4326)) == pytest.approx(identities.PAPER_THRESHOLD, abs=5e-5)


def test_elbo_and_entropy_sum_are_the_sums_over_latents() -> None:
    kl, encoder, prior = np.array([[1.0, 2.0]]), np.array([[0.5, 0.25]]), np.array([1.5, 1.0])
    assert identities.elbo(np.array([-3.0]), kl) == pytest.approx([-6.0])
    assert identities.entropy_sum(np.array([4.0]), encoder, prior) == pytest.approx([-4.0 + 0.75 - 2.5])


@settings(deadline=None)
@given(TERMS, TERMS, LATENTS)
def test_elbo_minus_entropy_sum_is_the_sum_of_the_residuals(
    log_likelihood: float, decoder_entropy: float, latents: list[tuple[float, float, float]]
) -> None:
    kl, encoder, prior = np.array(latents).T
    gap = identities.elbo(log_likelihood, kl) - identities.entropy_sum(decoder_entropy, encoder, prior)
    residuals = identities.decoder_residual(log_likelihood, decoder_entropy)
    residuals += identities.prior_residual(kl, encoder, prior).sum()
    assert gap == pytest.approx(residuals, abs=1e-9)


def test_entropy_drop_equals_the_kl_where_the_prior_residual_is_zero() -> None:
    tau_squared, alpha_squared = 0.3, 1.7
    second_moment = alpha_squared  # R_h = ½(1 − m_h/α²) = 0
    kl = 0.5 * (second_moment / alpha_squared - 1 - math.log(tau_squared / alpha_squared))
    encoder, prior = (identities.gaussian_entropy(math.log(v)) for v in (tau_squared, alpha_squared))
    assert identities.entropy_drop(encoder, prior) == pytest.approx(kl, rel=1e-12)
    assert identities.prior_residual(kl, encoder, prior) == pytest.approx(0.0, abs=1e-12)


def test_entropy_drop_does_not_change_when_a_latent_is_rescaled() -> None:
    scale = 2 * math.log(7.0)
    encoder, prior = (identities.gaussian_entropy(log_var) for log_var in (-2.0, 0.5))
    encoder_scaled, prior_scaled = (identities.gaussian_entropy(log_var + scale) for log_var in (-2.0, 0.5))
    drop = identities.entropy_drop(encoder, prior)
    assert identities.entropy_drop(encoder_scaled, prior_scaled) == pytest.approx(drop, rel=1e-12)


def test_numpy_arrays_and_torch_tensors_give_the_same_numbers() -> None:
    stream = np.random.default_rng(0)
    likelihood, entropy = stream.normal(size=(2, 5))
    kl, encoder, prior = stream.normal(size=(3, 5, 3))

    def all_identities(*arrays: identities.Array) -> list[identities.Array]:
        likelihood, entropy, kl, encoder, prior = arrays
        return [
            identities.elbo(likelihood, kl),
            identities.entropy_sum(entropy, encoder, prior),
            identities.decoder_residual(likelihood, entropy),
            identities.prior_residual(kl, encoder, prior),
            identities.gaussian_entropy(kl),
        ]

    arrays = (likelihood, entropy, kl, encoder, prior)
    pairs = zip(all_identities(*arrays), all_identities(*map(torch.from_numpy, arrays)), strict=True)
    for from_numpy, from_torch in pairs:
        np.testing.assert_allclose(from_torch.numpy(), from_numpy, rtol=1e-14, atol=1e-14)
