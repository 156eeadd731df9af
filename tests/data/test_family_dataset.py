"""Points of a likelihood with a known decoder: their true log-likelihood, and a run on them from end to end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.family_runs import LIKELIHOODS, assert_calibrated_and_below_the_truth, walked

from elboverse.builtin.datasets.family import FamilyOptions, Truth, truth_of
from elboverse.components.registry import discover
from elboverse.config.structuring import build_converter, structure_selection
from elboverse.contracts import Data
from elboverse.seeding import generator

REGISTRY = discover({"ELBOVERSE_LOAD_PLUGINS": ""})


def options(likelihood: dict[str, Any], **more: Any) -> FamilyOptions:
    table = {"name": "family", "likelihood": likelihood, **more}
    found: FamilyOptions = structure_selection(build_converter(REGISTRY), REGISTRY, "dataset", table).options
    return found


def drawn(likelihood: str, count: int, **more: Any) -> tuple[Truth, torch.Tensor]:
    truth = truth_of(options(LIKELIHOODS[likelihood], **more), 0)
    return truth, truth.draw(count, generator(0, "test"))


@pytest.mark.parametrize("latent", [1, 2])
def test_the_true_log_likelihood_of_gaussian_points_is_that_of_their_gaussian(latent: int) -> None:
    truth, x = drawn("gaussian", 50, latent=latent)
    weight, variance = truth.weights[0], truth.likelihood.log_var.detach().exp()
    covariance = weight @ weight.T + variance * torch.eye(6, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(truth.biases[0], covariance).log_prob(x)
    torch.testing.assert_close(truth.log_density(x), expected, rtol=0, atol=1e-5)


def test_the_true_probabilities_of_all_binary_points_sum_to_one() -> None:
    truth, _ = drawn("bernoulli", 1)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    assert float(truth.log_density(every).exp().sum()) == pytest.approx(1, abs=1e-9)


def test_the_true_probabilities_of_counts_with_one_total_sum_to_the_probability_of_that_total() -> None:
    truth, _ = drawn("poisson-softmax", 1, dimension=3)
    total = 7
    every = [(a, b, total - a - b) for a in range(total + 1) for b in range(total + 1 - a)]
    density = truth.log_density(torch.tensor(every, dtype=torch.float64)).exp().sum()
    poisson = math.exp(total * math.log(total) - total - math.lgamma(total + 1))
    assert float(density) == pytest.approx(poisson, rel=1e-9)


@pytest.mark.parametrize("likelihood", ["laplace", "gamma", "poisson", "student-t", "continuous-bernoulli"])
def test_the_true_log_likelihood_is_the_average_over_draws_of_the_latents(likelihood: str) -> None:
    truth, x = drawn(likelihood, 5, signal=0.5)
    z = torch.randn(200_000, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        weights = truth.decode(z).log_prob(x)
    ratio = (weights - truth.log_density(x)).exp()
    error = ratio.std(0) / math.sqrt(len(z))
    assert ((ratio.mean(0) - 1).abs() / error).max() < 4


def test_counts_that_depend_on_a_total_without_summing_to_one_have_no_truth() -> None:
    selection = structure_selection(
        build_converter(REGISTRY),
        REGISTRY,
        "dataset",
        {"name": "family", "likelihood": "negative-binomial", "points": 9},
    )
    data: Data = selection.build(0)
    assert data.train_log_likelihood is None
    assert any("true log-likelihood does not exist" in note for note in data.notes)


@pytest.mark.parametrize("likelihood", ["poisson"])
def test_a_run_of_a_likelihood_on_its_own_points_ends_calibrated_and_below_the_truth(
    likelihood: str, tmp_path: Path
) -> None:
    run = walked(likelihood, tmp_path, epochs=60, points=2000)
    assert_calibrated_and_below_the_truth(run, likelihood)
