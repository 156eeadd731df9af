"""The same VAE under JAX: one jitted `lax.scan` per epoch, Adam by hand, the averages of a row recorded for each step.

JAX is not a dependency: `nox -s "peers(jax)"` runs this in an environment of its own, in turns with the program's loop.
"""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

__all__ = ["jax_loop"]

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def jax_loop(points: npt.NDArray[np.float32], batch_size: int, latent_dim: int, hidden: int, steps: int) -> float:
    """Train for some steps and return the seconds that they took, without the time of compiling.

    Args:
        points: shape (N, D).
        batch_size: B.
        latent_dim: H.
        hidden: width of the hidden layers.
        steps: a whole number of epochs.
    """
    count, dimension = points.shape
    per_epoch = count // batch_size
    sizes = ((dimension, hidden), (hidden, 2 * latent_dim), (latent_dim, hidden), (hidden, dimension))
    keys = jax.random.split(jax.random.key(0), len(sizes))
    layers = [
        (jax.random.uniform(key, size, minval=-1, maxval=1) / math.sqrt(size[0]), jnp.zeros(size[1]))
        for key, size in zip(keys, sizes, strict=True)
    ]
    parameters: Any = (layers, jnp.float32(-4.0))
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    data = jnp.asarray(points)

    def terms(parameters: Any, x: Any, noise: Any) -> Any:
        """Return −ELBO and a row's averages: squared error, ln σ², and KL, ln τ² and m per latent."""
        (first, second, third, fourth), log_var = parameters
        features = jax.nn.leaky_relu(x @ first[0] + first[1]) @ second[0] + second[1]
        mean, encoder_log_var = features[:, :latent_dim], features[:, latent_dim:]
        z = mean + jnp.exp(0.5 * encoder_log_var) * noise
        decoded = jax.nn.leaky_relu(z @ third[0] + third[1]) @ fourth[0] + fourth[1]
        squares = jnp.square(x - decoded).sum(-1).mean()
        log_likelihood = -0.5 * (dimension * (math.log(2 * math.pi) + log_var) + squares * jnp.exp(-log_var))
        kl = 0.5 * (jnp.square(mean) + jnp.exp(encoder_log_var) - 1 - encoder_log_var).mean(0)
        row = (squares, log_var, kl, encoder_log_var.mean(0))
        return kl.sum() - log_likelihood, row

    def step(state: Any, inputs: Any) -> Any:
        parameters, first, second, number = state
        index, key = inputs
        noise = jax.random.normal(key, (batch_size, latent_dim))
        gradients, row = jax.grad(terms, has_aux=True)(parameters, data[index], noise)
        number = number + 1
        first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradients)
        rate = RATE * jnp.sqrt(1 - BETA_2**number) / (1 - BETA_1**number)
        parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, first, second)
        return (parameters, first, second, number), row

    @jax.jit
    def epoch(state: Any, key: Any) -> Any:
        order = jax.random.permutation(key, count)[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        return jax.lax.scan(step, state, (order, jax.random.split(key, per_epoch)))

    state = (parameters, zeros, zeros, jnp.float32(0.0))
    jax.block_until_ready(epoch(state, jax.random.key(1)))  # compiled
    rows = []
    started = time.perf_counter()
    for number in range(max(1, steps // per_epoch)):
        state, row = epoch(state, jax.random.key(number))
        rows.append(jax.tree.map(np.asarray, row))
    return (time.perf_counter() - started) * steps / (max(1, steps // per_epoch) * per_epoch)
