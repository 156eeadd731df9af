"""Run files with a model whose parameters are known: as it is initialised, or at the exact optimum of THEORY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from support.builders import configure
from support.pca_optimum import PCA, noise_variance, principal_components, set_stationary

from elboverse.config import ExperimentConfig
from elboverse.contracts.records import Evaluation
from elboverse.runfile import RunWriter
from elboverse.running.assembly import build_experiment


def write_trained_run(
    path: Path, config: ExperimentConfig, change: Callable[[Any, Any], None] | None = None, **documents: Any
) -> Path:
    """Write a run as it would be saved at its end, with evaluations and a checkpoint but no rows, and return its path.

    Args:
        path: of the run file.
        config: in float64; of one replica, or of several without `change`.
        change: sets the parameters of the model, given it and its data.
        documents: entries to change in the document on the data.
    """
    experiment = build_experiment(config)
    loop = experiment.loop
    state, done = loop.state(), loop.plan.total_steps
    if change is not None:
        model = config.model.build(experiment.data.shape).double()
        change(model, experiment.data)
        state |= {f"model/{name}": value.detach().numpy()[None] for name, value in model.state_dict().items()}
    loop.load(state, done)
    stored = {**experiment.documents, "data": {**experiment.documents["data"], **documents}}
    replicas = config.training.replicas
    with RunWriter(
        path, documents=stored, replicas=replicas, latent_dim=experiment.latent_dim, dtype=config.training.dtype
    ) as writer:
        for record in next(loop.rounds()):
            if isinstance(record, Evaluation):
                writer.append_evaluation(
                    record.split, record.step, record.epoch, record.points, record.scalars, record.per_latent
                )
        writer.snapshot("finished", loop.state(), done)
    return path


def write_optimal_run(
    path: Path,
    *,
    latent_dim: int = 3,
    active: Sequence[int] = (0, 1),
    points: int = 400,
    dimension: int = 5,
    model: str = "linear-vae",
    held_out: float = 0.0,
) -> tuple[Path, PCA]:
    """Write a linear VAE at a stationary point on PCA data, and return the path and the data's principal components.

    Args:
        path: of the run file.
        latent_dim: H.
        active: the principal components that have a latent; the other latents are collapsed.
        points: N, those held out included.
        dimension: D.
        model: ``"linear-vae"``, or another with an affine network.
        held_out: share of the points that is held out.
    """
    dataset = {"name": "pca", "points": points, "dimension": dimension, "latent": 2, "held_out": held_out}
    config = configure(model, latent_dim=latent_dim, dataset=dataset, network={"name": "affine"})
    pca = principal_components(config.dataset.build(0).train.double())

    def change(built: Any, _data: Any) -> None:
        set_stationary(built, pca, list(active), noise_variance(pca, active))
        assert torch.isfinite(built.decoder_log_var)

    return write_trained_run(path, config, change), pca
