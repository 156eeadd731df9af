"""What probabilistic PCA itself says on the number of latents, against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from elboverse.theory.dimension import bayesian_information_criterion, laplace_evidence, maximum_log_likelihood
from elboverse.theory.linear_optimum import linear_optimum


def eigenvalues(points: int, dimension: int, latents: int) -> np.ndarray:
    generator = np.random.default_rng(latents)
    x = 2 * generator.normal(size=(points, latents)) @ generator.normal(size=(latents, dimension))
    x += generator.normal(size=x.shape)
    return np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]


@pytest.mark.parametrize(("points", "dimension", "latents"), [(300, 10, 4), (100, 6, 1), (2000, 20, 8)])
def test_the_evidence_is_that_of_scikit_learn_up_to_rounding(points: int, dimension: int, latents: int) -> None:
    module = pytest.importorskip("sklearn.decomposition._pca")
    values = eigenvalues(points, dimension, latents)
    for number in range(1, dimension):
        expected = module._assess_dimension(values, number, points)
        assert laplace_evidence(values, points, number) == pytest.approx(expected, rel=1e-10, abs=1e-8)


@pytest.mark.parametrize("latents", [1, 4, 8])
def test_evidence_and_bic_find_the_true_number_where_it_is_plain(latents: int) -> None:
    values = eigenvalues(3000, 12, latents)
    assert max(range(1, 12), key=lambda h: laplace_evidence(values, 3000, h)) == latents
    assert min(range(12), key=lambda h: bayesian_information_criterion(values, 3000, h)) == latents


def test_the_maximum_log_likelihood_is_the_elbo_at_the_optimum_of_the_linear_vae() -> None:
    values = eigenvalues(500, 8, 3)
    for number in (1, 3, 5):
        optimum = linear_optimum(values, number)
        assert optimum is not None
        assert maximum_log_likelihood(values, number) == pytest.approx(optimum.elbo, abs=1e-10)
