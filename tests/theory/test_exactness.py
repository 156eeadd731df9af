"""A whole run against the exact optimum of probabilistic PCA, from a shipped config to the run file."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from support.builders import built_ins
from support.pca_optimum import PCA, maximum_log_likelihood, noise_variance, principal_components

import elboverse
from elboverse.config import load
from elboverse.runfile import Run

LATENTS = (0, 1)


@pytest.fixture(scope="module")
def optimum() -> PCA:
    """Return the principal components of the training data."""
    return principal_components(load("linear-pca", registry=built_ins()).dataset.build(0).train)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return the finished run of the shipped config."""
    with elboverse.train(load("linear-pca", registry=built_ins()), out=tmp_path_factory.mktemp("linear-pca")) as run:
        yield run


def last(run: Run, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return what the last evaluation on all training points found."""
    assert run.evaluation_points("train") == 10_000
    return np.asarray(run.evaluation("train", name)[-1, 0])


def test_elbo_reaches_the_maximum_log_likelihood_within_a_thousandth_of_a_nat(run: Run, optimum: PCA) -> None:
    missing = maximum_log_likelihood(optimum, LATENTS) - float(last(run, "elbo"))
    assert 0 <= missing < 1e-3


def test_every_encoder_entropy_reaches_its_closed_form(run: Run, optimum: PCA) -> None:
    variance = noise_variance(optimum, LATENTS)
    expected = 0.5 * (2 * math.pi * math.e * variance / optimum.eigenvalues[list(LATENTS)]).log()
    np.testing.assert_allclose(np.sort(last(run, "encoder_entropy")), np.sort(expected.numpy()), atol=1e-2)


def test_decoder_variance_reaches_the_mean_of_the_eigenvalues_left_out(run: Run, optimum: PCA) -> None:
    assert float(last(run, "decoder_log_var")) == pytest.approx(math.log(noise_variance(optimum, LATENTS)), abs=1e-2)


def test_entropy_sum_meets_the_elbo(run: Run) -> None:
    assert abs(float(last(run, "gap"))) < 0.01
    np.testing.assert_allclose(last(run, "prior_residual"), 0.0, atol=0.01)


def test_held_out_elbo_comes_near_the_likelihood_of_the_generating_distribution(run: Run) -> None:
    held_out = float(run.evaluation("held_out", "elbo")[-1, 0])
    standard_error = float(run.evaluation("held_out", "elbo_standard_error")[-1, 0])
    assert held_out == pytest.approx(run.data["held_out_log_likelihood"], abs=4 * standard_error)
