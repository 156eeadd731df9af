"""The bare loops that elboverse is measured against: same network, loss and fused Adam, and nothing recorded.

They are written as one writes a VAE by hand: one function of the batch, differentiated automatically.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

__all__ = ["BareVAE", "bare_loop", "elbo"]


class BareVAE(nn.Module):
    """A VAE-1 with one hidden layer: D-hidden-2H and back, one learned decoder variance.

    Args:
        dimension: D.
        latent_dim: H.
        hidden: width of the hidden layer.
    """

    def __init__(self, dimension: int, latent_dim: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dimension, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden), nn.LeakyReLU(), nn.Linear(hidden, dimension))
        self.log_var = nn.Parameter(torch.tensor(-4.0))


def elbo(model: BareVAE, x: Tensor) -> Tensor:
    """Return the ELBO of a batch (B, D) with one sample per point."""
    mean, log_var = model.encoder(x).chunk(2, dim=-1)
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    squares = (x - model.decoder(z)).square().sum(-1)
    dimension = x.shape[-1]
    log_likelihood = -0.5 * (dimension * (math.log(2 * math.pi) + model.log_var) + squares * (-model.log_var).exp())
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)
    return (log_likelihood - kl).mean()


def bare_loop(points: Tensor, batch_size: int, latent_dim: int, hidden: int, steps: int) -> float:
    """Train for some steps and return the seconds that they took."""
    model = BareVAE(points.shape[1], latent_dim, hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    per_epoch = len(points) // batch_size
    started = time.perf_counter()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(points))
        first = step % per_epoch * batch_size
        x = points[order[first : first + batch_size]]
        loss = -elbo(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started
