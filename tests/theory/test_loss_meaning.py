"""Losses as their implementations write them, trained to the optimum on PCA data that they are said to mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from elboverse.errors import ConfigError
from elboverse.theory import loss_meaning

POINTS, DIMENSION, LATENTS = 100, 6, 3
SPREAD = torch.tensor([2.0, 1.2, 0.8, 0.5, 0.4, 0.3], dtype=torch.float64)

# Each is written as its implementation writes it, from the squared error (B, D) and the KL divergence (B, H).
WRITTEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse-mean": lambda error, kl: error.mean() + kl.sum(1).mean(),
    "mse-batchmean": lambda error, kl: error.sum(1).mean() + kl.sum(1).mean(),
    "mse-mean-kl-mean": lambda error, kl: error.mean() + kl.mean(),
    "mse-sum": lambda error, kl: error.sum() + kl.sum(),
    "half-mse-batchmean": lambda error, kl: (0.5 * error.sum(1) + kl.sum(1)).mean(0),
    "pytorch-vae": lambda error, kl: error.mean() + 0.00025 * kl.sum(1).mean(0),
}


def pca_data(name: str = "") -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(POINTS, DIMENSION, generator=generator, dtype=torch.float64) * SPREAD
    scale = 0.1 if name == "pytorch-vae" else 1.0  # its σ² is 0.00075
    return scale * (x - x.mean(0))


def trained(x: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return W Wᵀ of a linear VAE at the optimum of a loss, which is computed without sampling."""
    generator = torch.Generator().manual_seed(4)
    decoder = (0.5 * torch.randn(DIMENSION, LATENTS, generator=generator, dtype=torch.float64)).requires_grad_()
    encoder = (0.5 * torch.randn(LATENTS, DIMENSION, generator=generator, dtype=torch.float64)).requires_grad_()
    log_var = torch.zeros(LATENTS, dtype=torch.float64, requires_grad=True)
    parameters = [decoder, encoder, log_var]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=2000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    first: list[float] = []

    def closure() -> Tensor:
        optimiser.zero_grad()
        mean = x @ encoder.mT
        error = (x - mean @ decoder.mT).square() + decoder.square() @ log_var.exp()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        value = loss(error, kl)
        first.append(float(value.detach()))
        value = value / abs(first[0])  # the same stopping rule for losses of any size
        value.backward()
        return value

    optimiser.step(closure)
    return (decoder @ decoder.mT).detach()


def meaning(name: str, kl_weight: float | None = None) -> loss_meaning.LossMeaning:
    x = pca_data(name)
    eigenvalues = torch.linalg.eigvalsh(x.mT @ x / POINTS).flip(0).numpy()
    form = loss_meaning.form_of(name, kl_weight=kl_weight)
    return loss_meaning.explain(form, DIMENSION, LATENTS, batch_size=POINTS, eigenvalues=eigenvalues)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_loss_ends_at_the_optimum_of_the_gaussian_vae_that_it_is_said_to_be(name: str) -> None:
    x, found = pca_data(name), meaning(name)
    variance = found.effective_variance
    assert variance is not None
    gaussian = trained(x, lambda error, kl: (error.sum(1) / (2 * variance) + kl.sum(1)).mean())
    theirs = trained(x, WRITTEN[name])
    torch.testing.assert_close(theirs, gaussian, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_the_latents_said_to_survive_are_those_that_the_trained_decoder_uses(name: str) -> None:
    found = meaning(name)
    assert found.collapse is not None
    used = np.linalg.eigvalsh(trained(pca_data(name), WRITTEN[name]).numpy())[::-1][:LATENTS]
    assert (used > 1e-3).sum() == found.collapse.survives.sum()
    assert found.collapse.fully_collapsed == bool((used < 1e-3).all())
    expected = np.maximum(found.collapse.eigenvalues[:LATENTS] - found.effective_variance, 0)
    np.testing.assert_allclose(used, expected, atol=5e-4)


def test_the_effective_beta_gives_the_variance_that_a_beta_vae_learns() -> None:
    found = meaning("half-mse-batchmean")
    assert found.beta is not None
    assert found.effective_variance == 1.0
    assert found.collapse is not None
    assert found.beta * found.collapse.squared_error == pytest.approx(1.0, abs=1e-12)


def test_the_default_of_pytorch_vae_means_a_variance_of_one_and_a_half() -> None:
    form = loss_meaning.form_of("pytorch-vae")
    found = loss_meaning.explain(form, 64 * 64 * 3, 128)
    assert found.effective_variance == pytest.approx(1.536)


def test_means_in_both_terms_mean_d_over_two_h() -> None:
    found = loss_meaning.explain(loss_meaning.form_of("mse-mean-kl-mean"), 784, 2)
    assert found.effective_variance == pytest.approx(784 / 4)


def test_a_cross_entropy_averaged_over_dimensions_is_a_beta_vae_with_beta_d() -> None:
    assert loss_meaning.explain(loss_meaning.form_of("bce-mean"), 784, 20).beta == pytest.approx(784)
    assert loss_meaning.explain(loss_meaning.form_of("bce-sum"), 784, 20, batch_size=128).beta == pytest.approx(1)


def test_a_mean_beside_a_sum_over_the_batch_depends_on_the_batch_size_and_says_so() -> None:
    form = loss_meaning.form_of("mse-mean-kl-sum")
    small, large = (loss_meaning.explain(form, 10, 2, batch_size=size) for size in (1, 100))
    assert large.effective_variance == pytest.approx(100 * small.effective_variance)  # type: ignore[operator]
    assert "changes with the batch size" in " ".join(large.sentences())


def test_an_absolute_error_is_a_laplace_likelihood_of_fixed_scale() -> None:
    assert loss_meaning.explain(loss_meaning.form_of("kl-vae"), 10, 2).effective_scale == pytest.approx(1e-6)


def test_an_unknown_loss_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'mse-mean'\?.*expected one of .*pytorch-vae"):
        loss_meaning.form_of("mse_mean")


def test_all_wrong_numbers_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)dimension: got 0.*latent_dim: got -1"):
        loss_meaning.explain(loss_meaning.form_of("mse-mean"), 0, -1)
    with pytest.raises(ConfigError, match=r"kl_weight: got nan; expected a finite number ≥ 0"):
        loss_meaning.form_of("mse-mean", kl_weight=float("nan"))
