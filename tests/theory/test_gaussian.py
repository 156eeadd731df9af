from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import normal
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from elboverse.theory.gaussian import DiagonalGaussian

DIMENSION = 3
SAMPLES = 200_000


def gaussian(seed: int, *batch: int) -> DiagonalGaussian:
    return DiagonalGaussian(normal(seed, *batch, DIMENSION), normal(seed + 1, *batch, DIMENSION))


def reference(gaussian: DiagonalGaussian) -> Normal:
    return Normal(gaussian.mean, gaussian.log_var.exp().sqrt())


def is_mean_within_four_standard_errors(samples: Tensor, expected: Tensor) -> bool:
    standard_error = samples.std(0) / math.sqrt(len(samples))
    return bool(((samples.mean(0) - expected).abs() < 4 * standard_error).all())


def test_log_density_equals_that_of_torch_distributions() -> None:
    q, value = gaussian(0, 5), normal(9, 7, 5, DIMENSION)
    torch.testing.assert_close(q.log_prob(value), reference(q).log_prob(value).sum(-1), rtol=1e-12, atol=1e-12)


def test_entropy_equals_that_of_torch_distributions() -> None:
    q = gaussian(0, 5)
    torch.testing.assert_close(q.entropy(), reference(q).entropy(), rtol=1e-12, atol=1e-12)


def test_kl_equals_that_of_torch_distributions() -> None:
    q, p = gaussian(0, 5), gaussian(10, 5)
    torch.testing.assert_close(q.kl(p), kl_divergence(reference(q), reference(p)), rtol=1e-12, atol=1e-12)


def test_kl_to_the_standard_normal_is_the_formula_of_kingma_and_welling() -> None:
    q = gaussian(0, 5)
    standard = DiagonalGaussian(torch.zeros(DIMENSION).double(), torch.zeros(DIMENSION).double())
    expected = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log())
    torch.testing.assert_close(q.kl(standard), expected, rtol=1e-12, atol=1e-12)


def test_samples_have_the_mean_and_the_variance() -> None:
    q = gaussian(0)
    z = q.sample(normal(20, SAMPLES, DIMENSION))
    assert is_mean_within_four_standard_errors(z, q.mean)
    assert is_mean_within_four_standard_errors((z - q.mean).square(), q.variance)


def test_sample_is_the_mean_plus_the_standard_deviation_times_the_noise() -> None:
    q, noise = gaussian(0, 5), normal(20, 4, 5, DIMENSION)
    torch.testing.assert_close(q.sample(noise), q.mean + q.variance.sqrt() * noise, rtol=1e-12, atol=1e-12)


def test_entropy_is_minus_the_expected_log_density_of_samples() -> None:
    q = gaussian(0)
    log_density = q.log_prob(q.sample(normal(20, SAMPLES, DIMENSION)))
    assert is_mean_within_four_standard_errors(-log_density, q.entropy().sum())


def test_kl_is_the_expected_log_ratio_of_samples() -> None:
    q, p = gaussian(0), gaussian(10)
    z = q.sample(normal(20, SAMPLES, DIMENSION))
    assert is_mean_within_four_standard_errors(q.log_prob(z) - p.log_prob(z), q.kl(p).sum())


def test_density_integrates_to_one() -> None:
    q = DiagonalGaussian(torch.tensor([0.7]).double(), torch.tensor([-1.3]).double())
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    assert torch.trapezoid(q.log_prob(grid[:, None]).exp(), grid).item() == pytest.approx(1.0, abs=1e-12)


def test_gradients_of_every_formula_are_right() -> None:
    tensors = [normal(seed, 2, DIMENSION).requires_grad_() for seed in range(5)]

    def formulas(mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor, value: Tensor) -> Tensor:
        q, p = DiagonalGaussian(mean, log_var), DiagonalGaussian(other_mean, other_log_var)
        return torch.cat((q.log_prob(value), q.kl(p).flatten(), q.entropy().flatten(), q.sample(value).flatten()))

    assert torch.autograd.gradcheck(formulas, tensors)


@pytest.mark.parametrize("shape", [(), (DIMENSION,), (5, DIMENSION)])
def test_log_var_of_any_shape_acts_as_if_it_were_expanded(shape: tuple[int, ...]) -> None:
    mean, log_var, value, noise = (
        normal(0, 5, DIMENSION),
        normal(1, *shape),
        normal(2, 5, DIMENSION),
        normal(3, 4, 5, 3),
    )
    short, full = DiagonalGaussian(mean, log_var), DiagonalGaussian(mean, log_var.expand(5, DIMENSION).clone())
    other = gaussian(10, 5)
    for ours, theirs in (
        (short.log_prob(value), full.log_prob(value)),
        (short.sample(noise), full.sample(noise)),
        (short.kl(other), full.kl(other)),
        (other.kl(short), other.kl(full)),
        (short.entropy().expand(5, DIMENSION), full.entropy()),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(-8, 8), st.floats(-5, 5), st.floats(-8, 8))
def test_kl_is_never_negative(mean: float, log_var: float, other_mean: float, other_log_var: float) -> None:
    q, p = (
        DiagonalGaussian(torch.tensor([m], dtype=torch.float64), torch.tensor([v], dtype=torch.float64))
        for m, v in ((mean, log_var), (other_mean, other_log_var))
    )
    assert q.kl(p).item() >= -1e-12


def test_kl_to_itself_is_zero() -> None:
    q = gaussian(0, 5)
    assert torch.equal(q.kl(q), torch.zeros_like(q.mean))


def test_kl_of_a_very_narrow_gaussian_grows_as_half_the_log_precision() -> None:
    standard = DiagonalGaussian(torch.zeros(1).double(), torch.zeros(1).double())
    narrow = DiagonalGaussian(torch.zeros(1).double(), torch.tensor([-600.0]).double())
    assert narrow.kl(standard).item() == pytest.approx(300.0 - 0.5, rel=1e-12)


def test_log_density_stays_finite_in_float32_at_the_narrowest_learned_variance() -> None:
    q = DiagonalGaussian(torch.zeros(1), torch.tensor([-23.0]))
    assert math.isfinite(q.log_prob(torch.ones(1)).item())
    assert q.log_prob(torch.zeros(1)).item() == pytest.approx(11.5 - 0.5 * math.log(2 * math.pi), rel=1e-6)
