"""The stationary points of the linear VAE in closed form (Tipping and Bishop 1999; Lucas et al. 2019), for tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class PCA:
    """The principal components of data: mean x̄ (D,), eigenvalues λ (D,) descending, axes u_i as columns (D, D)."""

    mean: Tensor
    eigenvalues: Tensor
    axes: Tensor


def principal_components(x: Tensor) -> PCA:
    """Return the principal components of points (N, D), the covariance divided by N."""
    mean = x.mean(0)
    eigenvalues, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return PCA(mean, eigenvalues.flip(0), axes.flip(1))


def noise_variance(pca: PCA, active: Iterable[int], beta: float = 1.0) -> float:
    """Return σ² = Σ_{i∉A} λ_i/(D − |A|β) for an index set A; with β = 1 the mean of the eigenvalues left out."""
    chosen = set(active)
    left_out = [float(value) for index, value in enumerate(pca.eigenvalues) if index not in chosen]
    return sum(left_out) / (len(pca.eigenvalues) - beta * len(chosen))


def maximum_log_likelihood(pca: PCA, active: Sequence[int]) -> float:
    """Return −½[D ln 2πe + Σ_A ln λ + (D − |A|) ln σ²_A] in nats per point."""
    dimension = len(pca.eigenvalues)
    logs = pca.eigenvalues[list(active)].log().sum().item()
    rest = (dimension - len(active)) * math.log(noise_variance(pca, active))
    return -0.5 * (dimension * math.log(2 * math.pi * math.e) + logs + rest)


def set_stationary(model: Any, pca: PCA, active: Sequence[int], variance: float, beta: float = 1.0) -> None:
    """Set a linear VAE, or a VAE with an affine network, to the stationary point with these active components.

    W_h = √(λ_h − βσ²) u_h, V_h = √(λ_h − βσ²)/λ_h u_hᵀ, b = −V x̄, μ = x̄, τ²_h = βσ²/λ_h; latents beyond |A| are
    collapsed: W_h = 0, V_h = 0, τ²_h = 1.

    Args:
        model: a `LinearVAE`, or a `NetworkVAE` with an affine network.
        pca: of the data.
        active: the index set A.
        variance: σ².
        beta: β of the β-ELBO.
    """
    latent_dim = len(model.prior().mean)
    weight = torch.zeros(len(pca.mean), latent_dim, dtype=pca.mean.dtype)
    encoder = weight.T.clone()
    log_var = torch.zeros(latent_dim, dtype=pca.mean.dtype)
    for latent, index in enumerate(active):
        eigenvalue, axis = pca.eigenvalues[index], pca.axes[:, index]
        length = (eigenvalue - beta * variance).sqrt()
        weight[:, latent] = length * axis
        encoder[latent] = length / eigenvalue * axis
        log_var[latent] = math.log(beta * variance) - eigenvalue.log()
    with torch.no_grad():
        model.decoder_log_var.fill_(math.log(variance))
        output = model.output if hasattr(model, "output") else model.decoder
        output.weight.copy_(weight)
        output.bias.copy_(pca.mean)
        offset = -encoder @ pca.mean
        if hasattr(model, "encoder_head"):
            model.encoder_head.weight.copy_(torch.cat((encoder, torch.zeros_like(encoder))))
            model.encoder_head.bias.copy_(torch.cat((offset, log_var)))
        else:
            model.encoder.weight.copy_(encoder)
            model.encoder.bias.copy_(offset)
            model.encoder_log_var.copy_(log_var)
