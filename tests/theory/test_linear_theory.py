from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import build_model, normal, randomise, sigma_points
from support.pca_optimum import PCA, maximum_log_likelihood, noise_variance, principal_components, set_stationary
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.func import functional_call

from elboverse.theory.elbo import batch_terms, point_terms
from elboverse.training.replicated import BoundModel

SPECTRUM = torch.tensor([4.0, 2.5, 1.9, 0.4, 0.2], dtype=torch.float64)
D, H = 5, 3


def data_with(spectrum: Tensor, points: int = 60) -> tuple[Tensor, PCA]:
    """Return points whose covariance has exactly these eigenvalues."""
    raw = principal_components(sample := normal(0, points, len(spectrum)))
    rotation, _ = torch.linalg.qr(normal(1, len(spectrum), len(spectrum)))
    white = (sample - raw.mean) @ raw.axes / raw.eigenvalues.sqrt()
    x = white * spectrum.sqrt() @ rotation.T + normal(2, len(spectrum))
    return x, principal_components(x)


X, COMPONENTS = data_with(SPECTRUM)

STATIONARY = [
    active
    for size in range(H + 1)
    for active in itertools.combinations(range(D), size)
    if all(SPECTRUM[index] > noise_variance(COMPONENTS, active) for index in active)
]
"""Every index set A that belongs to a stationary point: the maximum (0, 1, 2) and the saddles."""


def linear_vae(active: tuple[int, ...] = (0, 1, 2), variance: float | None = None, beta: float = 1.0) -> Any:
    model = build_model("linear-vae", D, latent_dim=H)
    variance = noise_variance(COMPONENTS, active, beta) if variance is None else variance
    set_stationary(model, COMPONENTS, active, variance, beta)
    return model


def largest_gradient(objective: Tensor, model: Any, *, without: str | None = None) -> float:
    parameters = [parameter for name, parameter in model.named_parameters() if name != without]
    return max(float(gradient.abs().max()) for gradient in torch.autograd.grad(objective, parameters))


def test_test_data_have_the_spectrum_that_they_should() -> None:
    torch.testing.assert_close(COMPONENTS.eigenvalues, SPECTRUM, rtol=1e-12, atol=1e-12)
    assert (0, 1, 2) in STATIONARY
    assert len(STATIONARY) == 8


@pytest.mark.parametrize("active", STATIONARY, ids=str)
def test_elbo_is_the_entropy_sum_and_the_formula_at_every_stationary_point(active: tuple[int, ...]) -> None:
    terms = batch_terms(linear_vae(active), X, None)
    expected = maximum_log_likelihood(COMPONENTS, active)
    assert terms.elbo.item() == pytest.approx(expected, abs=1e-10)
    assert terms.entropy_sum.item() == pytest.approx(expected, abs=1e-10)
    assert terms.decoder_residual.item() == pytest.approx(0.0, abs=1e-10)
    assert terms.prior_residual.abs().max().item() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("active", STATIONARY, ids=str)
def test_gradient_vanishes_at_every_stationary_point(active: tuple[int, ...]) -> None:
    model = linear_vae(active)
    assert largest_gradient(batch_terms(model, X, None).elbo, model) < 1e-10


@pytest.mark.parametrize("name", ["vae-1", "vae-2"])
@pytest.mark.parametrize("active", [(0, 1, 2), (0, 2), ()], ids=str)
def test_vae_with_an_affine_network_has_the_same_stationary_points(name: str, active: tuple[int, ...]) -> None:
    model = build_model(name, D, latent_dim=H, network="affine")
    set_stationary(model, COMPONENTS, active, noise_variance(COMPONENTS, active))
    if name == "vae-2":
        with torch.no_grad():
            model.prior_log_var.zero_()
    terms = batch_terms(model, X, sigma_points(len(X), H))
    expected = maximum_log_likelihood(COMPONENTS, active)
    assert terms.elbo.item() == pytest.approx(expected, abs=1e-10)
    assert terms.entropy_sum.item() == pytest.approx(expected, abs=1e-10)
    assert largest_gradient(terms.elbo, model) < 1e-10


def test_entropies_kl_and_moments_at_the_optimum_are_the_closed_forms() -> None:
    model, variance = linear_vae(), noise_variance(COMPONENTS, (0, 1, 2))
    terms, q = batch_terms(model, X, None), model.encode(X)
    active = COMPONENTS.eigenvalues[:H]
    for ours, expected in (
        (terms.encoder_entropy, 0.5 * (2 * math.pi * math.e * variance / active).log()),
        (terms.kl, 0.5 * (active / variance).log()),
        (q.mean.square().mean(0) + q.variance, torch.ones(H, dtype=torch.float64)),
        (q.mean.var(0, correction=0), 1 - variance / active),
        (terms.decoder_entropy, torch.tensor(D / 2 * math.log(2 * math.pi * math.e * variance), dtype=torch.float64)),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_encoder_at_the_optimum_is_the_exact_posterior() -> None:
    model, variance = linear_vae(), noise_variance(COMPONENTS, (0, 1, 2))
    weight = model.decoder.weight.detach()
    marginal = MultivariateNormal(COMPONENTS.mean, weight @ weight.T + variance * torch.eye(D, dtype=torch.float64))
    with torch.no_grad():
        q = model.encode(X)
        z = q.sample(normal(5, 4, len(X), H))
        log_weight = model.decode(z).log_prob(X) + model.prior().log_prob(z) - q.log_prob(z)
        elbo = point_terms(model, X, None).elbo
    torch.testing.assert_close(log_weight, marginal.log_prob(X).expand_as(log_weight), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_weight.logsumexp(0) - math.log(4), elbo, rtol=1e-10, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.floats(1e-4, 2.0))
def test_no_parameters_near_or_far_give_a_higher_elbo_than_the_optimum(seed: int, step: float) -> None:
    model, away = linear_vae(), build_model("linear-vae", D, latent_dim=H)
    randomise(away, seed)
    with torch.no_grad():
        for parameter, direction in zip(model.parameters(), away.parameters(), strict=True):
            parameter.add_(step * direction)
    assert batch_terms(model, X, None).elbo.item() < maximum_log_likelihood(COMPONENTS, (0, 1, 2))


@pytest.mark.parametrize("active", [active for active in STATIONARY if active != (0, 1, 2)], ids=str)
def test_every_other_stationary_point_is_a_saddle(active: tuple[int, ...]) -> None:
    hessian = hessian_of_elbo(linear_vae(active), frozen=None)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[-1] > 1e-3
    assert eigenvalues[0] < -1e-3


def hessian_of_elbo(model: Any, frozen: str | None) -> Tensor:
    """Return the Hessian of the ELBO with respect to all parameters but the frozen one."""
    names = [name for name, _ in model.named_parameters() if name != frozen]
    values = [model.get_parameter(name).detach() for name in names]
    sizes = [value.numel() for value in values]
    bound = BoundModel(model, lambda inner: batch_terms(inner, X, None).elbo)

    def elbo(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), values, strict=True)
        parameters = {f"model.{name}": part.reshape(value.shape) for name, part, value in parts}
        result: Tensor = functional_call(bound, parameters, ())
        return result

    hessian: Tensor = torch.autograd.functional.hessian(elbo, torch.cat([value.flatten() for value in values]))
    return hessian


def fixed_variance_optimum(variance: float) -> tuple[tuple[int, ...], float, float]:
    """Return the active set, the ELBO and the gap at the optimum for a fixed σ², when there are latents for all."""
    active = tuple(index for index in range(D) if SPECTRUM[index] > variance)
    ratio = SPECTRUM / variance
    inside, outside = ratio[list(active)], ratio[[index for index in range(D) if index not in active]]
    elbo = -0.5 * (D * math.log(2 * math.pi * variance) + (1 + inside.log()).sum() + outside.sum()).item()
    return active, elbo, 0.5 * (1 - outside).sum().item()


@pytest.mark.parametrize("variance", [1.0, 2.0, 3.0, 6.0])
def test_optimum_for_a_fixed_variance_has_the_elbo_and_the_gap_of_the_formula(variance: float) -> None:
    active, elbo, gap = fixed_variance_optimum(variance)
    model = build_model("vae-0", D, latent_dim=H, network="affine")
    set_stationary(model, COMPONENTS, active, variance)
    terms = batch_terms(model, X, sigma_points(len(X), H))
    assert terms.elbo.item() == pytest.approx(elbo, abs=1e-10)
    assert (terms.elbo - terms.entropy_sum).item() == pytest.approx(gap, abs=1e-10)
    assert gap > 0.1
    assert largest_gradient(terms.elbo, model) < 1e-10


@pytest.mark.parametrize("variance", [1.0, 2.0, 3.0, 6.0])
def test_optimum_for_a_fixed_variance_is_a_maximum(variance: float) -> None:
    active, _, _ = fixed_variance_optimum(variance)
    hessian = hessian_of_elbo(linear_vae(active, variance), frozen="decoder_log_var")
    assert torch.linalg.eigvalsh(hessian)[-1] < 1e-9


@pytest.mark.parametrize(("factor", "stable"), [(0.95, False), (1.05, True)])
def test_full_collapse_is_stable_only_if_the_variance_is_above_the_largest_eigenvalue(
    factor: float, stable: bool
) -> None:
    hessian = hessian_of_elbo(linear_vae((), factor * SPECTRUM[0].item()), frozen="decoder_log_var")
    largest = torch.linalg.eigvalsh(hessian)[-1].item()
    assert (largest < -1e-3) if stable else (largest > 1e-3)


@pytest.mark.parametrize(
    ("beta", "active"), [(0.5, (0, 1, 2)), (1.5, (0, 1, 2)), (1.6, (0, 1)), (2.0, (0,)), (4.0, ())]
)
def test_beta_elbo_is_stationary_at_its_optimum_and_there_the_elbo_is_the_entropy_sum(
    beta: float, active: tuple[int, ...]
) -> None:
    variance = noise_variance(COMPONENTS, active, beta)
    assert all((SPECTRUM[index] > beta * variance) == (index in active) for index in range(H))
    model = linear_vae(active, variance, beta)
    terms = batch_terms(model, X, None)
    assert terms.elbo.item() == pytest.approx(terms.entropy_sum.item(), abs=1e-10)
    assert largest_gradient(terms.log_likelihood - beta * terms.kl.sum(), model) < 1e-10


def test_elbo_itself_is_not_stationary_at_the_optimum_of_a_beta_elbo() -> None:
    model = linear_vae((0, 1, 2), beta=1.5)
    assert largest_gradient(batch_terms(model, X, None).elbo, model) > 0.01


def is_variance(samples: Tensor, expected: float) -> bool:
    """Return whether the sample variance is within four standard errors of the expected one."""
    squares = (samples - samples.mean()).square()
    standard_error = squares.std() / math.sqrt(len(samples))
    return abs(float(squares.mean()) - expected) < 4 * float(standard_error)


def test_spread_of_the_elbo_over_points_and_over_single_samples_is_the_formula() -> None:
    count = 200_000
    population = PCA(torch.zeros(D, dtype=torch.float64), SPECTRUM, torch.eye(D, dtype=torch.float64))
    x = normal(3, count, D) * SPECTRUM.sqrt()
    variance = noise_variance(population, range(H))
    exact = build_model("linear-vae", D, latent_dim=H)
    sampled = build_model("vae-1", D, latent_dim=H, network="affine")
    for model in (exact, sampled):
        set_stationary(model, population, range(H), variance)
    c = 1 - variance / SPECTRUM[:H]
    over_points = 0.5 * (H + (SPECTRUM[H:] / variance).square().sum().item())
    over_samples = (c * variance / SPECTRUM[:H] + c.square() / 2).sum().item()
    with torch.no_grad():
        without_samples = point_terms(exact, x, None).elbo
        with_samples = point_terms(sampled, x, normal(4, count, H)).elbo
    assert is_variance(without_samples, over_points)
    assert is_variance(with_samples, over_points + over_samples)
    assert is_variance(with_samples - without_samples, over_samples)
    assert not is_variance(with_samples, over_points)
