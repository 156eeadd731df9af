from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.perturbed_linear import PerturbedLinear

from elboverse.theory import importance

EIGENVALUES = np.array([4.0, 2.0])


def perturbed(shift: float = 0.0, ratio: float = 1.0) -> PerturbedLinear:
    return PerturbedLinear(EIGENVALUES, dimension=5, decoder_variance=0.5, shift=shift, ratio=ratio)


def test_every_bound_equals_the_log_likelihood_where_the_encoder_is_the_posterior() -> None:
    model = perturbed()
    x, _ = model.simulate(50, seed=1)
    weights = model.log_weights(x, 20, seed=2)
    for samples in (1, 7, 20):
        np.testing.assert_allclose(importance.bound(weights, samples), model.log_likelihood(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(importance.jackknife(weights), model.log_likelihood(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shift", "ratio"), [(0.5, 1.0), (0.0, 1.6), (0.3, 0.8)])
def test_the_gap_of_one_sample_is_the_kl_divergence_from_the_posterior(shift: float, ratio: float) -> None:
    model = perturbed(shift, ratio)
    x, _ = model.simulate(4000, seed=3)
    gap = importance.mean_of(model.log_likelihood(x) - importance.bound(model.log_weights(x, 8, seed=4), 1))
    assert abs(gap.value - model.gap) < 3 * gap.standard_error


@pytest.mark.parametrize(("shift", "ratio"), [(0.5, 1.0), (0.0, 1.6), (0.3, 0.8)])
def test_the_effective_sample_size_tells_the_variance_of_the_weights(shift: float, ratio: float) -> None:
    model = perturbed(shift, ratio)
    x, _ = model.simulate(300, seed=5)
    share = importance.mean_of(importance.effective_sample_size(model.log_weights(x, 4000, seed=6)) / 4000)
    assert share.value == pytest.approx(1 / (1 + model.weight_variance), rel=0.01)


def test_the_bound_rises_with_the_number_of_samples_and_its_bias_is_half_its_variance() -> None:
    model = perturbed(0.3, 1.4)
    x, _ = model.simulate(4000, seed=7)
    weights, exact = model.log_weights(x, 100, seed=8), model.log_likelihood(x)
    gaps = [float((exact - importance.bound(weights, samples)).mean()) for samples in (1, 2, 10, 100)]
    assert gaps == sorted(gaps, reverse=True)
    found = importance.mean_of(exact - importance.bound(weights))
    predicted = float(importance.monte_carlo_variance(weights).mean()) / 2
    assert abs(found.value - predicted) < 3 * found.standard_error
    assert predicted == pytest.approx(model.weight_variance / 200, rel=0.05)


def test_the_variance_between_repetitions_is_the_one_that_a_single_one_tells() -> None:
    model = perturbed(0.3, 1.4)
    x = np.repeat(model.simulate(1, seed=9)[0], 4000, axis=0)
    weights = model.log_weights(x, 50, seed=10)
    spread = float(importance.bound(weights).var())
    assert float(importance.monte_carlo_variance(weights).mean()) == pytest.approx(spread, rel=0.1)


def test_the_jackknife_is_closer_to_the_log_likelihood_than_the_bound() -> None:
    model = perturbed(0.5, 1.5)
    x, _ = model.simulate(20000, seed=11)
    weights, exact = model.log_weights(x, 8, seed=12), model.log_likelihood(x)
    bound_bias = importance.mean_of(exact - importance.bound(weights))
    jackknife_bias = importance.mean_of(exact - importance.jackknife(weights))
    assert abs(jackknife_bias.value) + 2 * jackknife_bias.standard_error < bound_bias.value / 2


def test_the_jackknife_is_right_where_one_weight_carries_almost_all() -> None:
    weights = np.array([[0.0, -60.0, -61.0]])
    whole = np.logaddexp.reduce(weights[0]) - np.log(3)
    without = [np.logaddexp.reduce(np.delete(weights[0], i)) - np.log(2) for i in range(3)]
    assert importance.jackknife(weights)[0] == pytest.approx(3 * whole - 2 * np.mean(without), abs=1e-12)


def test_simulated_points_bracket_the_log_likelihood() -> None:
    model = perturbed(0.5, 1.5)
    x, latents = model.simulate(20000, seed=13)
    weights, exact = model.log_weights(x, 8, seed=14), model.log_likelihood(x)
    truth = model.log_weight(x, latents[:, None])[:, 0]
    above = importance.mean_of(importance.upper_bound(weights, truth) - exact)
    below = importance.mean_of(importance.bound(weights) - exact)
    assert above.value > 3 * above.standard_error
    assert below.value < -3 * below.standard_error


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_the_pareto_shape_is_that_of_weights_with_a_pareto_tail(shape: float) -> None:
    draws = stats.genpareto.rvs(shape, size=(100, 4000), random_state=15)
    found = importance.mean_of(importance.pareto_shape(np.log(draws)))
    assert abs(found.value - shape) < 0.02 + 3 * found.standard_error


def test_the_pareto_shape_warns_of_a_narrow_encoder_where_the_effective_sample_size_is_blind() -> None:
    narrow = perturbed(0.0, 0.3)
    x, _ = narrow.simulate(200, seed=16)
    weights = narrow.log_weights(x, 1000, seed=17)
    assert (importance.pareto_shape(weights) > 0.5).mean() > 0.9
    wide = perturbed(0.0, 1.3)
    assert (importance.pareto_shape(wide.log_weights(x, 1000, seed=18)) < 0.5).all()


def test_the_pareto_shape_of_equal_weights_is_minus_infinity_and_of_few_not_a_number() -> None:
    assert np.isneginf(importance.pareto_shape(np.zeros((2, 100)))).all()
    assert np.isnan(importance.pareto_shape(np.zeros((2, 10)))).all()


@pytest.mark.parametrize(("samples", "limit"), [(10, 0.0), (100, 0.5), (10000, 0.7)])
def test_the_limit_of_the_pareto_shape_grows_with_the_samples_up_to_seven_tenths(samples: int, limit: float) -> None:
    assert importance.pareto_limit(samples) == pytest.approx(limit)


@pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.0), (0.8, 0.6)])
def test_calibration_finds_the_shift_and_the_width_of_the_encoder(shift: float, ratio: float) -> None:
    model = perturbed(shift, ratio)
    x, latents = model.simulate(20000, seed=19)
    variance = np.broadcast_to(model.encoder_variance, latents.shape)
    found = importance.calibration(latents, model.encoder_mean(x), variance)
    assert (np.abs(found.mean + shift / np.sqrt(ratio)) < 3 * found.mean_standard_error).all()
    assert (np.abs(found.square - (1 + shift**2) / ratio) < 3 * found.square_standard_error).all()


def test_a_bound_of_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 11; expected 1 … 10"):
        importance.bound(np.zeros((2, 10)), 11)
