"""A linear VAE at its exact optimum, with an encoder that is off by known amounts: all of it in closed form."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class PerturbedLinear:
    """x = W z + σ ε, z ~ N(0, I), W with orthogonal columns; q(z|x) = N(ν(x) + δ τ, r τ²), ν and τ² of the posterior.

    Args:
        eigenvalues: λ_h > σ² of the covariance, shape (H,).
        dimension: D.
        decoder_variance: σ².
        shift: δ, in standard deviations of the posterior.
        ratio: r.
    """

    eigenvalues: Array
    dimension: int
    decoder_variance: float
    shift: float = 0.0
    ratio: float = 1.0

    @property
    def latent_dim(self) -> int:
        return len(self.eigenvalues)

    @property
    def directions(self) -> Array:
        return np.linalg.qr(np.random.default_rng(7).normal(size=(self.dimension, self.dimension)))[0][
            :, : self.latent_dim
        ]

    @property
    def weight(self) -> Array:
        return self.directions * np.sqrt(self.eigenvalues - self.decoder_variance)

    @property
    def posterior_variance(self) -> Array:
        return self.decoder_variance / self.eigenvalues

    @property
    def encoder_variance(self) -> Array:
        return self.ratio * self.posterior_variance

    def encoder_mean(self, x: Array) -> Array:
        projection = self.directions * np.sqrt(self.eigenvalues - self.decoder_variance) / self.eigenvalues
        return x @ projection + self.shift * np.sqrt(self.posterior_variance)

    def simulate(self, count: int, seed: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        latents = rng.normal(size=(count, self.latent_dim))
        noise = np.sqrt(self.decoder_variance) * rng.normal(size=(count, self.dimension))
        return latents @ self.weight.T + noise, latents

    def log_weight(self, x: Array, latents: Array) -> Array:
        """ln p(x|z) + ln p(z) − ln q(z|x) for latents (N, K, H)."""
        mean, variance = self.encoder_mean(x)[:, None], self.encoder_variance
        decoded = latents @ self.weight.T
        return (
            normal_log_density(x[:, None], decoded, np.full(self.dimension, self.decoder_variance))
            + normal_log_density(latents, 0.0, np.ones(self.latent_dim))
            - normal_log_density(latents, mean, variance)
        )

    def log_weights(self, x: Array, samples: int, seed: int) -> Array:
        noise = np.random.default_rng(seed).normal(size=(len(x), samples, self.latent_dim))
        return self.log_weight(x, self.encoder_mean(x)[:, None] + np.sqrt(self.encoder_variance) * noise)

    def log_likelihood(self, x: Array) -> Array:
        covariance = self.weight @ self.weight.T + self.decoder_variance * np.eye(self.dimension)
        _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
        return -0.5 * (log_determinant + (x * np.linalg.solve(covariance, x.T).T).sum(-1))

    @property
    def gap(self) -> float:
        """ln p(x) − ELBO(x) = KL(q ‖ posterior), the same for every x."""
        return float(0.5 * self.latent_dim * (self.shift**2 + self.ratio - 1 - np.log(self.ratio)))

    @property
    def weight_variance(self) -> float:
        """χ²(posterior ‖ q), for r > ½."""
        one = self.ratio / np.sqrt(2 * self.ratio - 1) * np.exp(self.shift**2 / (2 * self.ratio - 1))
        return float(one**self.latent_dim - 1)


def normal_log_density(value: Array, mean: Array | float, variance: Array) -> Array:
    return np.asarray(-0.5 * (np.log(2 * np.pi * variance) + (value - mean) ** 2 / variance).sum(-1))
