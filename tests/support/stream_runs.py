"""Runs on a stream, written without training: estimates as given, or as the streaming experiment finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elboverse.runfile import RunWriter
from elboverse.theory import identities
from elboverse.theory.linear_optimum import linear_optimum

DIMENSION = 10
BATCH_SIZE = 10
REGIMES = (6, 2, 4)
"""How many latents generate each regime of the streaming experiment."""


def eigenvalues(latents: int) -> list[float]:
    """Return those of x = U diag(s) ε + 0.1 η, s the first entries of linspace(1, 5, 10), falling."""
    scales = np.zeros(DIMENSION)
    scales[:latents] = np.linspace(1, 5, DIMENSION)[:latents]
    return sorted((scales**2 + 0.01).tolist(), reverse=True)


def describe_stream(points_per_regime: int) -> dict[str, Any]:
    """Return how a run file describes the stream."""
    return {
        "points_per_pass": points_per_regime * len(REGIMES),
        "regimes": [
            {
                "name": f"{latents} latents",
                "first_point": number * points_per_regime,
                "latents": latents,
                "log_likelihood": None,
                "covariance_eigenvalues": eigenvalues(latents),
            }
            for number, latents in enumerate(REGIMES)
        ],
    }


def write_estimates(
    path: Path,
    elbo: NDArray[Any],
    entropy_sum: NDArray[Any],
    *,
    latent_dim: int = 2,
    model: str = "linear-vae",
    stream: Mapping[str, Any] | None = None,
    batch_size: int = BATCH_SIZE,
    every: int = 1,
    status: str = "finished",
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write a run whose ELBO and entropy sum are as given, shape (T, R), and return its path.

    Args:
        path: of the run file.
        elbo: per point.
        entropy_sum: per point.
        latent_dim: H.
        model: its name.
        stream: as a run file describes one; None for ordinary data.
        batch_size: B.
        every: steps between two of the rows.
        status: of the run.
        seed: of the config.
        data: further entries of the document on the data.
        checkpoint: arrays by path.
    """
    steps, replicas = every * np.arange(len(elbo)), elbo.shape[1]
    entropies = np.full((*elbo.shape, latent_dim), identities.STANDARD_NORMAL_ENTROPY)
    scalars = {
        "beta": np.ones_like(elbo),
        "elbo": elbo,
        "log_likelihood": elbo,
        "decoder_entropy": -entropy_sum,
        "decoder_log_var": np.zeros_like(elbo),
    }
    per_latent = {
        "kl": np.zeros_like(entropies),
        "encoder_entropy": entropies,
        "prior_entropy": entropies,
        "prior_log_var": np.zeros_like(entropies),
    }
    documents = {
        "config": {
            "name": "stream",
            "seed": seed,
            "model": {"name": model, "latent_dim": latent_dim},
            "training": {"batch_size": batch_size},
        },
        "environment": {},
        "components": [],
        "data": {"train_points": 1000, "dimension": DIMENSION, "fingerprint": "ab", **(data or {})}
        | ({} if stream is None else {"stream": stream}),
    }
    with RunWriter(path, documents=documents, replicas=replicas, latent_dim=latent_dim, dtype="float64") as writer:
        writer.append_rows(steps, scalars, per_latent)
        writer.snapshot(status, checkpoint or {}, int(steps[-1]) + 1)
    return path


def write_stream_runs(
    folder: Path,
    *,
    steps_per_regime: int = 300,
    latent_dims: Sequence[int] = (2, 4, 6),
    steps: int | None = None,
    replicas: int = 1,
) -> list[Path]:
    """Write linear VAEs that follow the stream to the optimum of each regime, and return their paths.

    The batches' noise in the ELBO is common to the models, as it is on one stream; that of the entropy sum is not.

    Args:
        folder: of the files.
        steps_per_regime: of each of the three.
        latent_dims: H of each model.
        steps: how many are recorded; a whole pass by default.
        replicas: R.
    """
    total = steps_per_regime * len(REGIMES) if steps is None else steps
    shape = (total, replicas)
    regime, since = np.divmod(np.arange(total), steps_per_regime)
    left = np.exp(-since / (0.04 * steps_per_regime))[:, None]
    common = np.random.default_rng(0).normal(size=shape)
    paths = []
    for latent_dim in latent_dims:
        generator = np.random.default_rng(latent_dim)
        optima = np.array([linear_optimum(np.array(eigenvalues(latents)), latent_dim).elbo for latents in REGIMES])  # type: ignore[union-attr]
        target = optima[regime % len(REGIMES)][:, None]
        entropy_sum = target - 12 * left + 0.06 * generator.normal(size=shape)
        elbo = target - 40 * left + 0.9 * common + 0.3 * generator.normal(size=shape)
        paths.append(
            write_estimates(
                folder / f"h{latent_dim}.h5",
                elbo,
                entropy_sum,
                latent_dim=latent_dim,
                stream=describe_stream(steps_per_regime * BATCH_SIZE),
            )
        )
    return paths
