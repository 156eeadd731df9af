"""Posteriors and priors against torch's own distributions and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from elboverse.theory.distributions import FullGaussian, FullGaussianPrior, GaussianMixture, LaplacePrior, VampPrior


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lower(*shape: int, seed: int = 1) -> Tensor:
    raw = normal(*shape, seed=seed)
    return raw.tril(-1) + torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())


def posterior() -> FullGaussian:
    return FullGaussian(normal(4, 3), lower(4, 3, 3))


def prior() -> FullGaussianPrior:
    return FullGaussianPrior(normal(3, seed=5), lower(3, 3, seed=6))


def mixture() -> GaussianMixture:
    return GaussianMixture(normal(2, seed=7), normal(2, 3, seed=8), normal(2, 3, seed=9))


def test_the_chain_rule_entropies_of_a_full_gaussian_sum_to_its_entropy() -> None:
    q = posterior()
    reference = MultivariateNormal(q.mean, scale_tril=q.scale_tril)
    torch.testing.assert_close(q.entropy().sum(-1), reference.entropy())
    z = q.sample(normal(5, 4, 3, seed=2))
    torch.testing.assert_close(q.log_prob(z), reference.log_prob(z))


def test_the_margins_of_a_full_gaussian_have_more_entropy_than_the_whole() -> None:
    q = posterior()
    margins = 0.5 * (math.log(2 * math.pi * math.e) + q.marginal_variance.log())
    assert (margins.sum(-1) >= q.entropy().sum(-1)).all()


def test_the_density_of_a_full_gaussian_prior_is_torchs() -> None:
    p = prior()
    z = normal(5, 4, 3, seed=3)
    reference = MultivariateNormal(p.mean, scale_tril=p.scale_tril)
    torch.testing.assert_close(p.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(p.entropy().sum(), reference.entropy())


@pytest.mark.parametrize("p", [prior(), LaplacePrior(normal(3, seed=4) * 0.3)], ids=["full", "laplace"])
def test_the_cross_entropy_in_closed_form_is_the_average_over_samples(p: FullGaussianPrior | LaplacePrior) -> None:
    q = posterior()
    z = q.sample(normal(40_000, 4, 3, seed=2))
    values = -p.log_prob(z)
    closed = p.cross_entropy(q, z).sum(-1)
    error = values.std(0) / math.sqrt(len(z))
    assert ((values.mean(0) - closed).abs() / error).max() < 5


def test_the_density_of_a_mixture_is_torchs() -> None:
    p = mixture()
    z = normal(5, 4, 3, seed=3)
    components = Independent(Normal(p.means, (0.5 * p.log_vars).exp()), 1)
    reference = MixtureSameFamily(Categorical(logits=p.log_weights), components)
    torch.testing.assert_close(p.log_prob(z), reference.log_prob(z))


def test_the_augmented_residual_of_a_mixture_is_zero_on_average_over_its_own_samples() -> None:
    p = mixture()
    z = p.sample(normal(200_000, 1, 3, seed=3))
    values = p.entropy() - p.component_entropy(z[:, None]).mean() + p.log_prob(z).mean()
    assert abs(float(values)) < 0.02


def test_samples_of_a_mixture_have_its_moments() -> None:
    p = mixture()
    z = p.sample(normal(200_000, 3, seed=3))
    weights = p.log_weights.softmax(-1)
    mean = weights @ p.means
    second = weights @ (p.means.square() + p.log_vars.exp())
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(z.square().mean(0), second, rtol=0.03, atol=0.05)


def test_a_vamp_prior_is_a_mixture_with_equal_weights() -> None:
    p = mixture()
    z = normal(5, 4, 3, seed=3)
    vamp = VampPrior(p.means, p.log_vars)
    torch.testing.assert_close(vamp.log_prob(z), p._replace(log_weights=torch.zeros(2)).log_prob(z))
