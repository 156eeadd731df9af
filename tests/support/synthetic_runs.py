"""Runs that look like training, without any: terms that obey the gap identity and settle as those of a VAE do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elboverse.runfile import RunWriter
from elboverse.theory import identities

Values = NDArray[Any]

DIMENSION = 20
TRAIN_POINTS = 25_000
BATCH_SIZE = 1000
LOG_LIKELIHOOD = 12.5


def terms(
    steps: Values, replicas: int, latent_dim: int, *, active: int, noise: float, prior_log_var: float, seed: int
) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return scalars (T, R) and per-latent terms (T, R, H) of a training that settles within some hundred steps.

    Latents 0, 3, 6, … of the first replica are active, and other ones of the others.
    """
    generator = np.random.default_rng(seed)
    shape = (len(steps), replicas)
    left = np.exp(-steps / (15 + 0.05 * max(400, steps.max())))[:, None]
    strengths = np.zeros((replicas, latent_dim))
    every_third = np.concatenate([np.arange(first, latent_dim, 3) for first in range(3)])
    for replica in range(replicas):
        chosen = (every_third[:active] + replica) % latent_dim
        strengths[replica, chosen] = np.linspace(2.2, 0.5, active) * (1 + 0.05 * replica)
    prior = np.full((*shape, latent_dim), prior_log_var) * (1 - left[..., None])
    drop = strengths * (1 - left[..., None] ** 2) + 0.02 * left[..., None]
    encoder_entropy = identities.gaussian_entropy(prior) - drop
    residual = -0.4 * left[..., None] + noise * 0.02 * generator.normal(size=(*shape, latent_dim))
    decoder_log_var = -4.0 * (1 - left) + np.zeros(shape)
    decoder_entropy = DIMENSION * identities.gaussian_entropy(decoder_log_var)
    decoder_residual = -30.0 * left**3 + noise * 0.6 * generator.normal(size=shape)
    kl = drop - residual
    log_likelihood = decoder_residual - decoder_entropy
    scalars = {
        "beta": np.ones(shape),
        "elbo": identities.elbo(log_likelihood, kl),
        "log_likelihood": log_likelihood,
        "decoder_entropy": decoder_entropy,
        "decoder_log_var": decoder_log_var,
    }
    per_latent = {
        "kl": kl,
        "encoder_entropy": encoder_entropy,
        "prior_entropy": identities.gaussian_entropy(prior),
        "prior_log_var": prior,
    }
    return scalars, per_latent


def write_run(
    path: Path,
    *,
    steps: int = 400,
    latent_dim: int = 4,
    replicas: int = 1,
    active: int = 2,
    model: str = "vae-1",
    splits: Sequence[str] = ("train", "held_out"),
    evaluations: int = 5,
    evaluate_until: int | None = None,
    points: int = 10_000,
    prior_log_var: float = 0.0,
    status: str = "finished",
    data: dict[str, Any] | None = None,
    elbo: float | None = None,
    spike: tuple[int, float] | None = None,
    seed: int = 0,
) -> Path:
    """Write a run and return its path.

    Args:
        path: of the run file.
        steps: recorded steps.
        latent_dim: H.
        replicas: R.
        active: number of active latents.
        model: name of the model in the config.
        splits: what is evaluated.
        evaluations: how often, from step 0 to the last; a single one is made at the end.
        evaluate_until: step of the last evaluation; the end by default.
        points: how many points are evaluated.
        prior_log_var: what every ln α² settles at.
        status: of the run.
        data: further entries of the document on the data.
        elbo: what every recorded ELBO is, in place of one that fits the other terms.
        spike: a step and what is added to its ELBO.
        seed: of the noise.
    """
    documents = {
        "config": {"name": "synthetic", "model": {"name": model}, "training": {"batch_size": BATCH_SIZE}},
        "environment": {},
        "components": [],
        "data": {
            "train_points": TRAIN_POINTS,
            "dimension": DIMENSION,
            "held_out_log_likelihood": LOG_LIKELIHOOD,
            **(data or {}),
        },
    }
    settings: dict[str, Any] = {"active": active, "prior_log_var": prior_log_var, "seed": seed}
    with RunWriter(path, documents=documents, replicas=replicas, latent_dim=latent_dim) as writer:
        if steps:
            recorded = np.arange(steps)
            scalars, per_latent = terms(recorded, replicas, latent_dim, noise=1.0, **settings)
            if elbo is not None:
                scalars["elbo"][:] = elbo
            if spike is not None:
                scalars["elbo"][spike[0]] += spike[1]
            writer.append_rows(recorded, scalars, per_latent)
        last = steps if evaluate_until is None else evaluate_until
        evaluated = np.unique(np.linspace(0, last, evaluations).round().astype(int))
        if evaluations == 1:
            evaluated = np.array([last])
        for split in splits if evaluations else ():
            every = terms(evaluated, replicas, latent_dim, noise=0.05, **settings)
            for index, step in enumerate(evaluated):
                scalars, per_latent = ({name: values[index] for name, values in part.items()} for part in every)
                epoch = int(step) // (TRAIN_POINTS // BATCH_SIZE)
                writer.append_evaluation(split, int(step), epoch, points, *_evaluation(scalars, per_latent))
        writer.snapshot(status, {}, steps)
    return path


def _evaluation(
    scalars: dict[str, Values], per_latent: dict[str, Values]
) -> tuple[dict[str, Values], dict[str, Values]]:
    kl, encoder, prior = (per_latent[name] for name in ("kl", "encoder_entropy", "prior_entropy"))
    one = np.ones_like(scalars["elbo"])
    return (
        {
            **{name: scalars[name] for name in ("elbo", "log_likelihood", "decoder_entropy")},
            "decoder_residual": identities.decoder_residual(scalars["log_likelihood"], scalars["decoder_entropy"]),
            "gap": scalars["elbo"] - identities.entropy_sum(scalars["decoder_entropy"], encoder, prior),
            "elbo_standard_error": 0.03 * one,
            "entropy_sum_standard_error": 0.01 * one,
            "decoder_residual_standard_error": 0.03 * one,
            "gap_standard_error": 0.035 * one,
        },
        {
            "kl": kl,
            "encoder_entropy": encoder,
            "prior_entropy": prior,
            "prior_residual": identities.prior_residual(kl, encoder, prior),
            "prior_residual_standard_error": np.full_like(kl, 0.002),
            "mean_variance": 1 - np.exp(2 * (encoder - prior)),
        },
    )
