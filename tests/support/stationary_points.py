"""Small models of any family, points for them, and the stationary points that they are driven to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from support.builders import built_ins
from torch import Tensor

from elboverse.config.structuring import build_converter, structure_selection
from elboverse.theory import families


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(likelihood: dict[str, Any], seed: int = 0, **options: Any) -> Any:
    """Return a small VAE in float64 with weights that are not small."""
    table = {
        "name": "vae",
        "latent_dim": 2,
        "likelihood": likelihood,
        "network": {"name": "mlp", "hidden": [5], "activation": "tanh"},
        **options,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return structure_selection(build_converter(built_ins()), built_ins(), "model", table).build((6,)).double()


def points(likelihood: dict[str, Any], count: int = 12, seed: int = 3, spread: float = 0.7) -> Tensor:
    """Return points that the likelihood is defined on, with some structure to learn."""
    signal = noise(count, 2, seed=seed) @ noise(2, 6, seed=seed + 1) + spread * noise(count, 6, seed=seed + 2)
    name = likelihood["name"]
    if name == "bernoulli":
        return (signal > 0).to(signal)
    if name == "categorical":
        return torch.nn.functional.one_hot(signal.unflatten(-1, (2, 3)).argmax(-1), 3).to(signal).flatten(-2)
    if name in {"poisson", "poisson-softmax", "negative-binomial"}:
        return (2 * (0.4 * signal).exp()).floor()
    if name in {"beta", "continuous-bernoulli"}:
        return torch.sigmoid(signal)
    return (0.4 * signal).exp() if name in {"gamma", "log-normal", "exponential"} else signal


def stationary(
    model: Any, x: Tensor, draws: Tensor, penalty: Callable[[], Tensor] | None = None, beta: float = 1.0
) -> tuple[families.FamilyTerms, float]:
    """Return the terms and the gradient norm where L-BFGS and a few Newton steps end, with all points, fixed noise."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=400,
        tolerance_grad=1e-10,
        tolerance_change=0,
        history_size=60,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        terms = families.family_terms(model, x, draws)
        value = -(terms.log_likelihood - beta * terms.kl.sum())
        return value if penalty is None else value + penalty()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    def gradient() -> Tensor:
        found = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True)
        parts = zip(found, parameters, strict=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in parts])

    for _ in range(5):
        optimiser.step(closure)
    sizes = [parameter.numel() for parameter in parameters]
    norm = float(gradient().detach().norm())
    for _ in range(6):
        flat = gradient()
        rows = [torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True) for one in flat]
        parts = [
            [torch.zeros_like(p) if g is None else g for g, p in zip(row, parameters, strict=True)] for row in rows
        ]
        hessian = torch.stack([torch.cat([part.flatten() for part in row]) for row in parts])
        move = torch.linalg.pinv(hessian, rtol=1e-13, hermitian=True) @ flat.detach()
        before = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, part in zip(parameters, move.split(sizes), strict=True):
                parameter.sub_(part.view_as(parameter))
        after = float(gradient().detach().norm())
        if not after < norm:
            with torch.no_grad():
                for parameter, kept in zip(parameters, before, strict=True):
                    parameter.copy_(kept)
            break
        norm = after
    with torch.no_grad():
        return families.family_terms(model, x, draws), norm
