"""Points of probabilistic PCA, whose best VAE is known in closed form (docs/theory.md, "Linear VAE"), and a ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import torch
from torch import Tensor

from elboverse.builtin.datasets.generated import GeneratedOptions, normal, prepared, require_size, uniform, with_noise
from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.seeding import generator
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["PCAOptions", "build_pca", "build_pca_ring", "generating_parameters"]


@attrs.frozen(kw_only=True)
class PCAOptions(GeneratedOptions):
    """Options of the datasets ``pca`` and ``pca-ring``.

    Args:
        points: N, points in all, those held out included.
        noise: standard deviation of the Gaussian noise on every dimension; 0 for none.
        scaling: as for every generated dataset, but none by default: the generating parameters stay visible.
        latent: H, the number of generating latents.
        dimension: D.
    """

    points: int = attrs.field(default=20_000, validator=in_range(minimum=2, maximum=100_000_000))
    noise: float = attrs.field(default=0.1, validator=in_range(minimum=0))
    scaling: Literal["min-max", "standard", "none"] = "none"
    latent: int = attrs.field(default=2, validator=in_range(minimum=1))
    dimension: int = attrs.field(default=10, validator=in_range(minimum=1))

    def __attrs_post_init__(self) -> None:
        require_size(max(self.points, self.dimension), max(self.dimension, self.latent))


def generating_parameters(options: PCAOptions, seed: int) -> tuple[Tensor, Tensor]:
    """Return W, shape (D, H), and μ, shape (D,), both ~ U(0, 1); they depend on the seed, D and H alone.

    They are the same for ``pca`` and ``pca-ring``.
    """
    stream = generator(seed, "data", "pca", "parameters")
    return uniform(stream, options.dimension, options.latent), uniform(stream, options.dimension)


def build_pca(options: PCAOptions, seed: int) -> Data:
    """Return points W z + μ + noise·η, z and η ~ N(0, I), with the log-likelihood under N(μ, W Wᵀ + noise² I)."""
    weight, mean = generating_parameters(options, seed)

    def log_density(x: Tensor) -> Tensor:
        axes, singular, _ = torch.linalg.svd(weight)  # principal axes: stable however small the noise is
        variances = torch.full_like(mean, options.noise**2)
        variances[: len(singular)] += singular.square()
        return DiagonalGaussian(torch.zeros_like(mean), variances.log()).log_prob((x - mean) @ axes)

    return _embedded("pca", options, seed, log_density=log_density)


def build_pca_ring(options: PCAOptions, seed: int) -> Data:
    """Return points W r(z) + μ + noise·η, z and η ~ N(0, I), where r(z) = z/10 + z/‖z‖.

    The latents of ``pca`` are drawn onto a ring (for H = 2) of mean radius 1 + √(π/2)/10: no linear decoder fits.
    """
    return _embedded("pca-ring", options, seed, bend=lambda z: z / 10 + torch.nn.functional.normalize(z, dim=1))


def _embedded(
    what: str,
    options: PCAOptions,
    seed: int,
    *,
    bend: Callable[[Tensor], Tensor] = lambda z: z,
    log_density: Callable[[Tensor], Tensor] | None = None,
) -> Data:
    """Return points W bend(z) + μ + noise·η, z and η ~ N(0, I), from the random stream of that dataset."""
    weight, mean = generating_parameters(options, seed)
    stream = generator(seed, "data", what)
    latents = bend(normal(stream, options.points, options.latent))
    points = with_noise(latents @ weight.T + mean, options.noise, stream)
    return prepared(points, options, seed, what=what, log_density=log_density)
