"""The entropy view of every likelihood, prior and posterior: the identity, its derivatives, and stationary points."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stationary_points import built, noise, points, stationary

from elboverse.components.registry import discover
from elboverse.config import from_table
from elboverse.errors import ConfigError
from elboverse.running.assembly import build_experiment
from elboverse.theory import families
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, StepSettings

REGISTRY = discover({"ELBOVERSE_LOAD_PLUGINS": ""})

LIKELIHOODS: dict[str, dict[str, Any]] = {
    "gaussian": {"name": "gaussian"},
    "gaussian per dimension": {"name": "gaussian", "variance": "per-dimension"},
    "bernoulli": {"name": "bernoulli"},
    "categorical": {"name": "categorical", "categories": 3},
    "continuous-bernoulli": {"name": "continuous-bernoulli"},
    "poisson": {"name": "poisson"},
    "poisson with library": {"name": "poisson", "library": True},
    "poisson-softmax": {"name": "poisson-softmax"},
    "negative-binomial": {"name": "negative-binomial"},
    "negative-binomial without library": {"name": "negative-binomial", "mean": "log"},
    "laplace": {"name": "laplace"},
    "generalised-normal": {"name": "generalised-normal", "power": 3.0},
    "student-t": {"name": "student-t"},
    "gamma": {"name": "gamma"},
    "gamma with fixed shape": {"name": "gamma", "shape": "fixed"},
    "beta": {"name": "beta"},
    "log-normal": {"name": "log-normal"},
    "exponential": {"name": "exponential"},
}

PRIORS: dict[str, dict[str, Any]] = {
    "standard-normal": {"name": "standard-normal"},
    "diagonal": {"name": "diagonal"},
    "full": {"name": "full"},
    "laplace": {"name": "laplace", "learned": True},
    "laplace fixed": {"name": "laplace"},
    "mixture": {"name": "mixture", "components": 3},
}


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_elbo_and_entropy_sum_differ_by_the_residuals(likelihood: str, prior: str, posterior: str) -> None:
    model = built(LIKELIHOODS[likelihood], prior=PRIORS[prior], posterior=posterior)
    terms = families.family_terms(model, points(LIKELIHOODS[likelihood]), noise(4, 12, 2, seed=9))
    residuals = terms.decoder_residual + terms.prior_residual.sum()
    assert float((terms.elbo - terms.entropy_sum - residuals).detach()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("prior", ["standard-normal", "mixture"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_step_has_the_gradient_of_the_elbo(likelihood: str, prior: str) -> None:
    model = built(LIKELIHOODS[likelihood], prior=PRIORS[prior])
    x, draws, beta = points(LIKELIHOODS[likelihood]), noise(3, 12, 2, seed=9), torch.tensor(0.5, dtype=torch.float64)
    terms = families.family_terms(model, x, draws)
    loss = -(terms.log_likelihood - beta * terms.kl.sum())
    parameters = list(model.parameters())
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    step = SingleStep(model, StepSettings(general=True, samples_at_once=2, tape=False))
    columns, _ = step._gradients(x, draws, beta)
    for parameter, gradient in zip(parameters, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(columns[0], terms.log_likelihood.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(columns[1], terms.log_reference.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(columns[2], terms.decoder_entropy.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_replicas_do_what_single_models_do(likelihood: str) -> None:
    models = [built(LIKELIHOODS[likelihood], seed=seed) for seed in (1, 2)]
    singles = [SingleStep(copy.deepcopy(model), StepSettings(general=True)) for model in models]
    both = ReplicatedStep(models, StepSettings(general=True))
    x, beta = points(LIKELIHOODS[likelihood]), torch.ones((), dtype=torch.float64)
    for turn in range(3):
        draws = noise(12, 2, seed=turn)
        together = both(x.expand(2, *x.shape), draws.expand(2, *draws.shape), beta).clone()
        apart = torch.stack([single(x, draws, beta).clone() for single in singles])
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


DIRECTIONS: dict[str, list[tuple[str, float]]] = {
    "laplace": [("likelihood.log_scale", -1.0)],
    "generalised-normal": [("likelihood.log_scale", -1 / 3)],
    "gaussian": [("likelihood.log_var", -1.0)],
    "gaussian per dimension": [("likelihood.log_var", -1.0)],
    "gamma": [("likelihood.log_shape", 1.0)],
    "beta": [("likelihood.log_concentration", 1.0)],
    "log-normal": [("likelihood.log_var", -1.0)],
    "negative-binomial": [("likelihood.log_dispersion", 1.0)],
    "negative-binomial without library": [("likelihood.log_dispersion", 1.0)],
    "exponential": [("outputs.0.bias", 1.0)],
    "gamma with fixed shape": [("outputs.0.bias", 1.0)],
}
"""The parameters along which the decoder's residual is the derivative; the scale of the last layer for the others."""


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS if name != "student-t"])
def test_the_decoder_residual_is_the_derivative_along_the_temperature(likelihood: str) -> None:
    model = built(LIKELIHOODS[likelihood])
    terms = families.family_terms(model, points(LIKELIHOODS[likelihood]), noise(4, 12, 2, seed=9))
    named = dict(model.named_parameters())
    if likelihood in DIRECTIONS:
        pairs = [(named[name], torch.full_like(named[name], factor)) for name, factor in DIRECTIONS[likelihood]]
    else:
        pairs = [(named[f"outputs.0.{part}"], named[f"outputs.0.{part}"].detach()) for part in ("weight", "bias")]
    gradients = torch.autograd.grad(terms.elbo, [parameter for parameter, _ in pairs])
    derivative = sum(float((gradient * along).sum()) for gradient, (_, along) in zip(gradients, pairs, strict=True))
    assert float(terms.decoder_residual.detach()) == pytest.approx(derivative, abs=1e-9)


def test_the_residual_of_student_t_is_the_derivative_along_scale_and_degrees_of_freedom() -> None:
    model = built(LIKELIHOODS["student-t"])
    terms = families.family_terms(model, points(LIKELIHOODS["student-t"]), noise(4, 12, 2, seed=9))
    likelihood = model.likelihood
    by_df, by_scale = torch.autograd.grad(terms.elbo, [likelihood.log_df, likelihood.log_scale])
    df = likelihood.log_df.detach().exp()
    # ∂/∂ν = (1/ν) ∂/∂ln ν, and ln s² is twice the log scale
    expected = (df + 1) / df * (by_df - by_scale / 2)
    assert float(terms.decoder_residual.detach()) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "poisson", "poisson with library"])
def test_the_residual_of_each_dimension_is_the_derivative_along_its_row_of_the_last_layer(likelihood: str) -> None:
    model, x = built(LIKELIHOODS[likelihood]), points(LIKELIHOODS[likelihood])
    z = families.latents(model, x, noise(4, 12, 2, seed=9)).z.detach()
    decoder = families.decode(model, z, x)
    weight, bias = model.outputs[0].weight, model.outputs[0].bias
    by_weight, by_bias = torch.autograd.grad(decoder.log_prob(x).mean(), [weight, bias])
    expected = (weight * by_weight).sum(1) + bias * by_bias
    found = decoder.residual_terms(x).mean((0, 1))
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
    assert model.likelihood.by_dimension


def test_the_residual_of_each_gene_is_the_derivative_along_its_dispersion() -> None:
    model, x = built(LIKELIHOODS["negative-binomial"]), points(LIKELIHOODS["negative-binomial"])
    z = families.latents(model, x, noise(4, 12, 2, seed=9)).z.detach()
    decoder = families.decode(model, z, x)
    (expected,) = torch.autograd.grad(decoder.log_prob(x).mean(), model.likelihood.log_dispersion)
    torch.testing.assert_close(decoder.residual_terms(x).mean((0, 1)).detach(), expected, rtol=1e-9, atol=1e-9)


EXACT = [name for name in LIKELIHOODS if name != "laplace"]  # whose gradient has kinks and cannot be driven to zero


@pytest.mark.parametrize("likelihood", EXACT)
def test_the_elbo_equals_the_entropy_sum_at_a_stationary_point(likelihood: str) -> None:
    table = LIKELIHOODS[likelihood]
    for seed in range(6):  # from some starts a rate overflows in the first line search
        model = built(table, seed=seed, network={"name": "affine"}, latent_dim=1)
        terms, norm = stationary(model, points(table, 150, spread=3.0), noise(150, 1, seed=5))
        if norm < 1e-7:
            break
    assert norm < 1e-7
    assert float(terms.elbo - terms.entropy_sum) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"prior": "diagonal", "posterior": "diagonal"},
        {"prior": "full", "posterior": "diagonal"},
        {"prior": "standard-normal", "posterior": "full"},
        {"prior": "laplace", "posterior": "diagonal"},
        {"prior": "laplace fixed", "posterior": "diagonal"},
        {"prior": "mixture", "posterior": "diagonal"},
    ],
    ids=lambda options: " and ".join(options.values()),
)
def test_priors_and_posteriors_are_exact_at_a_stationary_point(options: dict[str, str]) -> None:
    model = built(
        {"name": "bernoulli"},
        network={"name": "affine"},
        latent_dim=2,
        prior=PRIORS[options["prior"]],
        posterior=options["posterior"],
    )
    terms, norm = stationary(model, points({"name": "bernoulli"}, 200, spread=3.0), noise(200, 2, seed=5))
    assert norm < 1e-7
    assert float(terms.elbo - terms.entropy_sum) == pytest.approx(0, abs=1e-6)


def test_a_student_t_with_fixed_degrees_of_freedom_keeps_a_gap_at_its_stationary_point() -> None:
    table = {"name": "student-t", "learn_df": False, "initial_df": 3.0}
    model = built(table, network={"name": "affine"}, latent_dim=1)
    terms, norm = stationary(model, points(table, 150, spread=3.0), noise(150, 1, seed=5))
    assert norm < 1e-7
    assert abs(float(terms.elbo - terms.entropy_sum)) > 1e-3
    assert model.theorem["decoder"]


def test_training_until_stationary_is_refused_where_no_training_certificate_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "binary.npy", (noise(60, 4) > 0).double().numpy())
    table = {
        "model": {"name": "vae", "likelihood": "bernoulli"},
        "dataset": {"name": "array", "path": str(tmp_path / "binary.npy")},
        "training": {"epochs": 1, "batch_size": 10, "until": "stationary"},
    }
    with pytest.raises(ConfigError, match=r"training\.until: .*three diagonal Gaussians"):
        build_experiment(from_table(table, REGISTRY))
