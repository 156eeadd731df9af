"""scvi-tools: a trained model's `qz`, `px` and `pz`, recorded as one evaluation.

    record_scvi("runs/mine", model)

The likelihood is the model's own: `nb` has the entropy of its rate (docs/families.md), `zinb` is estimated from draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elboverse.integrations.recording import record

__all__ = ["elbo_terms", "record_scvi"]


def elbo_terms(model: Any, indices: Any = None, batch_size: int = 512) -> list[tuple[Tensor, Any, Any, Tensor]]:
    """Return counts, q(z|x), p(x|z) and z of batches of cells, with `px` as the module gives it.

    Args:
        model: a trained `scvi.model.SCVI` or one whose module gives the same.
        indices: of cells; all by default.
        batch_size: of the batches.
    """
    loader = model._make_data_loader(model.adata, indices=indices, batch_size=batch_size)  # noqa: SLF001 - the way in
    module = model.module.eval()
    found = []
    with torch.no_grad():
        for tensors in loader:
            inference, generative = module(tensors, compute_loss=False)
            x = tensors["X"]
            found.append((x, inference["qz"], generative["px"], inference["z"]))
    return found


def record_scvi(path: str | Path, model: Any, indices: Any = None, seed: int = 0, **options: Any) -> None:
    """Record the terms of each batch of cells of a trained model.

    Args:
        path: of the recording, as of `elboverse.record`.
        model: as of `elbo_terms`.
        indices: of cells; all by default.
        seed: of the samples.
        options: further arguments of `elboverse.record`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        terms = elbo_terms(model, indices)
    with record(path, **options) as run:
        for x, q, p, z in terms:
            run.step(x, q, p, z=z)
