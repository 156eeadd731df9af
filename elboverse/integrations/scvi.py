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

__all__ = ["callables", "elbo_terms", "record_scvi"]


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


def callables(model: Any, indices: Any = None) -> tuple[Tensor, Any, Any]:
    """Return counts, encode and decode of a trained model, as `Recording.evaluate` takes them.

    A cell's batch, covariates and library size are found by its row, so that `encode` takes consecutive rows of the
    counts, and `decode` latents of the cells that were encoded last.

    Args:
        model: as of `elbo_terms`.
        indices: of cells; all by default.
    """
    loader = list(model._make_data_loader(model.adata, indices=indices))  # noqa: SLF001 - the way in
    whole = {
        key: torch.cat([part[key] for part in loader]) for key, value in loader[0].items() if isinstance(value, Tensor)
    }
    module = model.module
    counts = whole["X"].contiguous()
    last: dict[str, Any] = {}

    def encode(x: Tensor) -> Any:
        first = x.storage_offset() // counts.shape[1]
        last["tensors"] = {key: value[first : first + len(x)] for key, value in whole.items()}
        last["inference"] = module.inference(**module._get_inference_input(last["tensors"]))  # noqa: SLF001
        return last["inference"]["qz"]

    def decode(z: Tensor) -> Any:
        repeats = len(z) // len(last["tensors"]["X"])
        tensors, inference = (_repeated(last[name], repeats) for name in ("tensors", "inference"))
        given = module._get_generative_input(tensors, inference | {"z": z})  # noqa: SLF001
        return module.generative(**given)["px"]

    return counts, encode, decode


def _repeated(values: dict[str, Any], times: int) -> dict[str, Any]:
    return {
        key: value.repeat(times, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value
        for key, value in values.items()
    }


def record_scvi(path: str | Path, model: Any, indices: Any = None, seed: int = 0, **options: Any) -> None:
    """Record the terms of each batch of cells of a trained model, and evaluate them, with standard errors.

    Args:
        path: of the recording, as of `elboverse.record`.
        model: as of `elbo_terms`.
        indices: of cells; all by default.
        seed: of the samples.
        options: further arguments of `elboverse.record`.
    """
    with torch.random.fork_rng(devices=[]), record(path, **options) as run:
        torch.manual_seed(seed)
        for x, q, p, z in elbo_terms(model, indices):
            run.step(x, q, p, z=z)
        counts, encode, decode = callables(model, indices)
        run.evaluate(encode, decode, counts, split="train")
