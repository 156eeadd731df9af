"""What the tests of the mathematics and of training share: built-in components, built by name in float64."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from elboverse.components.registry import Registry, discover
from elboverse.config import ExperimentConfig, from_table

MODELS = ("vae-0", "vae-1", "vae-2", "vae-3", "linear-vae")
"""The five built-in models."""

VARIANTS = (
    *((name, None, "learned") for name in MODELS if name != "vae-2"),
    *((name, None, "optimal") for name in ("vae-1", "linear-vae")),
    *(("vae-2", constraint, mode) for constraint in ("rescale", "regularize") for mode in ("learned", "optimal")),
    ("vae-1", "regularize", "learned"),
    ("linear-vae", "regularize", "learned"),
)
"""Models with the constraints and the variance modes that they train with."""


@functools.cache
def built_ins() -> Registry:
    """Return the built-in components alone."""
    return discover({"ELBOVERSE_LOAD_PLUGINS": ""})


def configure(
    model: str,
    constraint: dict[str, Any] | str | None = None,
    *,
    latent_dim: int = 2,
    network: dict[str, Any] | str | None = None,
    dataset: dict[str, Any] | None = None,
    annealing: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> ExperimentConfig:
    """Return the config of a small run; by default an MLP with one hidden layer of eight units."""
    chosen: dict[str, Any] = {"name": model, "latent_dim": latent_dim} | (options or {})
    if model != "linear-vae":
        chosen["network"] = network or {"name": "mlp", "hidden": [8]}
    if model == "vae-2" and constraint is None:
        constraint = "rescale"
    table: dict[str, Any] = {
        "seed": seed,
        "model": chosen,
        "dataset": dataset or {"name": "pca", "points": 240, "dimension": 4},
        "annealing": annealing or {"name": "constant"},
        "training": {"epochs": 5, "batch_size": 20, "dtype": "float64", "device": "cpu"} | training,
    }
    if constraint is not None:
        table["constraint"] = constraint
    return from_table(table, built_ins())


def build_model(name: str, dimension: int, *, seed: int = 0, **settings: Any) -> Any:
    """Return a model in float64 as it is initialised; the settings are those of `configure`."""
    torch.manual_seed(seed)
    model: nn.Module = configure(name, **settings).model.build((dimension,))
    return model.double()


def randomise(model: nn.Module, seed: int) -> None:
    """Set every parameter and every log-variance buffer of a model to draws from N(0, ½²)."""
    stream = torch.Generator().manual_seed(seed)
    tensors = [*model.parameters(), *(buffer for name, buffer in model.named_buffers() if name == "decoder_log_var")]
    with torch.no_grad():
        for tensor in tensors:
            tensor.normal_(0.0, 0.5, generator=stream)


def normal(seed: int, *shape: int) -> Tensor:
    """Return draws from N(0, 1) in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigma_points(batch: int, latent_dim: int) -> Tensor:
    """Return noise of 2H samples, ±√H along each axis, shape (2H, B, H).

    Its mean is zero and its covariance the identity, so averages of quadratic functions over it are exact.
    """
    axes = latent_dim**0.5 * torch.eye(latent_dim, dtype=torch.float64)
    return torch.cat((axes, -axes))[:, None, :].expand(-1, batch, -1)
