"""Where the gap ln p(x) − ELBO comes from: the family of q, or the encoder, which has to serve all points at once.

With q*_x the best diagonal Gaussian for the point x alone,

    approximation = ln p(x) − ELBO[q*_x],    amortisation = ELBO[q*_x] − ELBO[q(·|x)]

(Cremer, Li and Duvenaud 2018). ln p(x) is not known: the importance-weighted bound stands for it, so that the
approximation gap is a lower bound on the true one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import attrs
import numpy as np
import torch
from torch import Tensor

from elboverse.integrations.decoders import decoded
from elboverse.integrations.encoders import Posterior, latent_terms
from elboverse.integrations.points import Array, Callables, filled, still
from elboverse.theory import importance
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["Gaps", "gap_split"]

POINTS: Final = 128
STEPS: Final = 300
SAMPLES: Final = 8
FINAL_SAMPLES: Final = 256
LEARNING_RATE: Final = 0.05


@attrs.frozen
class Gaps:
    """Both parts, in nats per point.

    Args:
        approximation: L_k − ELBO[q*_x].
        amortisation: ELBO[q*_x] − ELBO[q(·|x)].
        points: of how many points.
    """

    approximation: importance.Mean
    amortisation: importance.Mean
    points: int


def gap_split(
    model: Callables,
    x: Tensor,
    bounds: Array,
    log_var: float | None,
    seed: int,
    progress: Callable[[str], None],
) -> Gaps | None:
    """Return the two parts of the gap; None where q is not a diagonal Gaussian.

    Args:
        model: its callables.
        x: points, shape (n, …).
        bounds: L_k of the same points, shape (n,).
        log_var: ln σ² where the decoder gives a mean alone.
        seed: of the samples.
        progress: told what is being done.
    """
    with still(model.encode, model.decode, seed=seed):
        q = model.encoded_at(x)
        if not q.is_diagonal:
            return None
        first = (q.mean.detach().clone(), q.of.log_var.expand_as(q.mean).detach().clone())
        best = [part.clone().requires_grad_() for part in first]
        optimiser = torch.optim.Adam(best, lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=LEARNING_RATE / 100)
        for step in range(STEPS):
            if step % 100 == 0:
                progress(f"the best q of each of {len(x):,} points, step {step} of {STEPS}")
            with torch.enable_grad():
                loss = -_elbo(model, x, best[0], best[1], SAMPLES, log_var).sum()
                gradients = torch.autograd.grad(loss, best)
            for part, gradient in zip(best, gradients, strict=True):
                part.grad = gradient
            optimiser.step()
            schedule.step()
        state = torch.random.get_rng_state()
        found = _elbo(model, x, best[0].detach(), best[1].detach(), FINAL_SAMPLES, log_var)
        torch.random.set_rng_state(state)  # the same noise for both, so that their difference has little of it
        encoder = _elbo(model, x, first[0], first[1], FINAL_SAMPLES, log_var)
    best_elbo, encoder_elbo = (np.asarray(part.double().cpu().numpy()) for part in (found, encoder))
    return Gaps(importance.mean_of(bounds - best_elbo), importance.mean_of(best_elbo - encoder_elbo), len(x))


def _elbo(model: Callables, x: Tensor, mean: Tensor, log_var: Tensor, samples: int, decoder: float | None) -> Tensor:
    """Return the ELBO of each point with q = N(mean, e^log_var), shape (n,)."""
    q = Posterior(DiagonalGaussian(mean, log_var), mean)
    prior = model.current_prior(q)
    at_once = samples if torch.is_grad_enabled() else max(1, min(samples, (1 << 22) // max(1, x.numel())))
    total, left, kl = torch.zeros(len(x), dtype=mean.dtype, device=mean.device), samples, None
    while left:
        z = q.sample(min(at_once, left))
        repeated = x.repeat(len(z), *[1] * (x.ndim - 1))
        p = decoded(filled(model.decoded_at(z), decoder), repeated, "decode")
        total = total + p.log_prob(repeated).reshape(len(z), -1).sum(0)
        part = latent_terms(q, prior, z).kl.sum(1) * (len(z) / samples)
        kl = part if kl is None else kl + part
        left -= len(z)
    if kl is None or math.isnan(float(total.detach().sum())):
        return total / samples
    return total / samples - kl
