"""The datasets of the paper on the line and in the plane. t ~ U(…) and ε ~ N(0, I) are drawn anew for every point."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from elboverse.builtin.datasets.generated import GeneratedOptions, normal, prepared, uniform, with_noise
from elboverse.contracts import Data
from elboverse.seeding import generator
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.theory.identities import LOG_2PI

__all__ = [
    "build_circle",
    "build_cosine",
    "build_eight",
    "build_eight_gaussians",
    "build_line",
    "build_one_gaussian",
]

PLANE: Final = ("x", "y")


def build_one_gaussian(options: GeneratedOptions, seed: int) -> Data:
    """Return points 3 + noise·ε on the line, with their true log-likelihood."""
    stream = generator(seed, "data", "1dgauss")
    points = with_noise(torch.full((options.points, 1), 3.0, dtype=torch.float64), options.noise, stream)

    def log_density(x: Tensor) -> Tensor:
        return DiagonalGaussian(torch.full_like(x[:1], 3.0), _log_variance(options.noise)).log_prob(x)

    return prepared(points, options, seed, what="1dgauss", names=PLANE[:1], log_density=log_density)


def build_line(options: GeneratedOptions, seed: int) -> Data:
    """Return points (t, 1.5 t + 2) + noise·ε, t ~ U(0, 3)."""
    stream = generator(seed, "data", "line")
    t = uniform(stream, options.points, high=3.0)
    return _curve("line", t, 1.5 * t + 2.0, options, seed, stream)


def build_cosine(options: GeneratedOptions, seed: int) -> Data:
    """Return points (t, cos t + 1) + noise·ε, t ~ U(0, 3π)."""
    stream = generator(seed, "data", "cosine")
    t = uniform(stream, options.points, high=3.0 * math.pi)
    return _curve("cosine", t, t.cos() + 1.0, options, seed, stream)


def build_eight(options: GeneratedOptions, seed: int) -> Data:
    """Return points (cos t, sin t cos t)/2 + noise·ε, t ~ U(−π/2, 2π): the lemniscate of Gerono.

    The range is one and a quarter times around, so the last quarter is twice as dense as the rest.
    """
    stream = generator(seed, "data", "eight")
    t = uniform(stream, options.points, low=-0.5 * math.pi, high=2.0 * math.pi)
    return _curve("eight", 0.5 * t.cos(), 0.5 * t.sin() * t.cos(), options, seed, stream)


def build_circle(options: GeneratedOptions, seed: int) -> Data:
    """Return points r (cos t, sin t), r = 1 + noise·ε, t ~ U(0, 2π), with their true log-likelihood.

    The noise is on the radius alone. A point at distance ρ from the origin comes from r = ρ or from r = −ρ on the
    far side, so its density is [N(ρ; 1, noise²) + N(−ρ; 1, noise²)]/(2πρ).
    """
    stream = generator(seed, "data", "circle")
    t = uniform(stream, options.points, high=2.0 * math.pi)
    radius = 1.0 + options.noise * normal(stream, options.points)
    points = torch.stack((radius * t.cos(), radius * t.sin()), 1)

    def log_density(x: Tensor) -> Tensor:
        distance = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        radial = DiagonalGaussian(torch.ones_like(distance[:1]), _log_variance(options.noise))
        return torch.logaddexp(radial.log_prob(distance), radial.log_prob(-distance)) - LOG_2PI - distance[:, 0].log()

    return prepared(points, options, seed, what="circle", names=PLANE, log_density=log_density)


def build_eight_gaussians(options: GeneratedOptions, seed: int) -> Data:
    """Return points c_k + noise·ε with their true log-likelihood.

    The centres c_k = 0.4 (cos kπ/4, sin kπ/4) + 1, k = 0 … 7, are drawn with equal probability.
    """
    stream = generator(seed, "data", "8gauss")
    angle = torch.arange(8, dtype=torch.float64) * (0.25 * math.pi)
    centres = 0.4 * torch.stack((angle.cos(), angle.sin()), 1) + 1.0
    chosen = torch.randint(8, (options.points,), generator=stream)
    points = with_noise(centres[chosen], options.noise, stream)

    def log_density(x: Tensor) -> Tensor:
        components = DiagonalGaussian(centres, _log_variance(options.noise)).log_prob(x[:, None])
        return torch.logsumexp(components, 1) - math.log(len(centres))

    return prepared(points, options, seed, what="8gauss", names=PLANE, log_density=log_density)


def _curve(what: str, x: Tensor, y: Tensor, options: GeneratedOptions, seed: int, stream: torch.Generator) -> Data:
    points = with_noise(torch.stack((x, y), 1), options.noise, stream)
    return prepared(points, options, seed, what=what, names=PLANE)


def _log_variance(noise: float) -> Tensor:
    return torch.tensor(2.0 * math.log(noise), dtype=torch.float64)
