"""Control variates against the multiple correlation of normal variables, and against the linear VAE."""

from __future__ import annotations

import numpy as np
import pytest

from elboverse.theory.control_variates import fit_control_variates, residual_names

COVARIANCE = np.array([[4.0, 1.2, 0.8], [1.2, 1.0, 0.3], [0.8, 0.3, 0.5]])
"""Of the ELBO and two residuals."""


def normal(count: int, seed: int, mean: tuple[float, ...] = (-7.0, 0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed).multivariate_normal(mean, COVARIANCE, size=count)
    return drawn[:, 0], drawn[:, 1:]


def test_the_variance_left_is_that_of_the_multiple_correlation_and_the_mean_stays() -> None:
    expected = COVARIANCE[0, 0] - COVARIANCE[0, 1:] @ np.linalg.solve(COVARIANCE[1:, 1:], COVARIANCE[1:, 0])
    control = fit_control_variates(*normal(20_000, 1), 1)
    elbo, residuals = normal(200_000, 2)
    found = control.estimate(elbo, residuals)
    assert found.var() == pytest.approx(expected, rel=0.02)
    assert abs(found.mean() + 7) < 3 * np.sqrt(expected / 200_000)
    assert control.correlation == pytest.approx(1 - expected / COVARIANCE[0, 0], abs=0.01)
    np.testing.assert_allclose(control.coefficients, np.linalg.solve(COVARIANCE[1:, 1:], COVARIANCE[1:, 0]), atol=0.05)


def test_at_the_optimum_of_a_linear_vae_the_residuals_explain_all_of_the_elbo() -> None:
    latents, noise = 2, np.array([1.0, 1.0, 1.0])
    drawn = np.random.default_rng(3).normal(size=(5000, 5))
    # In the axes of the components, in units of λ: R_h = ½(1 − c_h u² − (1 − c_h)), and the ELBO has R_dec besides.
    c = 1 - 1 / np.array([4.0, 2.0])
    prior = 0.5 * c * (1 - drawn[:, :2] ** 2)
    decoder = 0.5 * ((1 - c) * (1 - drawn[:, :2] ** 2)).sum(1) + 0.5 * (noise - drawn[:, 2:] ** 2).sum(1)
    elbo = -3.0 + decoder + prior.sum(1)
    assert elbo.var() == pytest.approx(0.5 * (latents + 3), rel=0.06)  # ½[H + Σ_{j>H}(λ_j/σ²)²]
    control = fit_control_variates(elbo, np.column_stack([decoder, prior]), 5)
    assert control.is_stationary
    np.testing.assert_allclose(control.coefficients, 1, atol=1e-9)
    assert control.estimate(elbo, np.column_stack([decoder, prior])).var() < 1e-20


def test_a_residual_that_is_not_zero_is_named() -> None:
    control = fit_control_variates(*normal(5000, 4, (-7.0, 0.0, 0.3)), 1)
    assert not control.is_stationary
    assert residual_names(control.moving) == ["R_0"]


def test_a_constant_residual_gets_no_coefficient_and_few_rows_are_refused() -> None:
    elbo, residuals = normal(100, 5)
    control = fit_control_variates(elbo, np.column_stack([residuals, np.zeros(100)]), 1)
    assert control.coefficients[2] == 0
    with pytest.raises(ValueError, match="got 3 rows; expected more than 3"):
        fit_control_variates(elbo[:3], residuals[:3], 1)
