"""Encoder and decoder of a trained model as programs of their own, which need no elboverse to run: `torch.export`.

The programs take and give points in data units, so that whoever runs them needs to know nothing of the scaling.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elboverse.analysis.trained import TrainedModel
from elboverse.errors import AnalysisError
from elboverse.theory.distributions.latent import second_moments

__all__ = ["Decoder", "Encoder", "export_programs"]


class Encoder(nn.Module):
    """Points in data units, shape (B, D), to mean and variance of q(z|x), both of shape (B, H).

    Args:
        trained: whose encoder it is; it is copied.
    """

    model: Any
    offset: Tensor
    scale: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(trained.module)
        self.register_buffer("offset", trained.scaling.offset.to(trained.device, trained.dtype))
        self.register_buffer("scale", trained.scaling.scale.to(trained.device, trained.dtype))

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance; `given` are the conditions of a conditional model, shape (B, C)."""
        mean, variance = second_moments(self.model.encode((x - self.offset) / self.scale, *given))
        return mean, variance.expand_as(mean)


class Decoder(nn.Module):
    """Latents, shape (B, H), to the mean of p(x|z) in data units, shape (B, D).

    Args:
        trained: whose decoder it is; it is copied.
    """

    model: Any
    offset: Tensor
    scale: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(trained.module)
        self.register_buffer("offset", trained.scaling.offset.to(trained.device, trained.dtype))
        self.register_buffer("scale", trained.scaling.scale.to(trained.device, trained.dtype))

    def forward(self, z: Tensor, *given: Tensor) -> Tensor:
        """Return the mean; `given` are the conditions of a conditional model, shape (B, C)."""
        mean: Tensor = self.model.decode(z, *given).mean
        return mean * self.scale + self.offset


def export_programs(trained: TrainedModel, folder: Path) -> list[Path]:
    """Write ``encoder.pt2`` and ``decoder.pt2`` into a folder and return their paths; any number of rows fits.

    They are read with `torch.export.load(path).module()`. Those of a conditional model take conditions, shape (B, C),
    as their second argument.

    Raises:
        AnalysisError: torch cannot export the model, or a file cannot be written.
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    written = []
    for name, module, width in (
        ("encoder", Encoder(trained), math.prod(trained.shape)),
        ("decoder", Decoder(trained), trained.latent_dim),
    ):
        widths = (width, trained.condition_dimension) if trained.conditions else (width,)
        example = tuple(torch.zeros(3, one, dtype=trained.dtype, device=trained.device) for one in widths)
        first, *more = ({0: batch} for _ in example)
        shapes = (first, tuple(more)) if more else (first,)
        path = folder / f"{name}.pt2"
        try:
            program = torch.export.export(module.eval(), example, dynamic_shapes=shapes)
            folder.mkdir(parents=True, exist_ok=True)
            torch.export.save(program, path)
        except OSError as error:
            raise AnalysisError(f"{path}: cannot be written: {error.strerror or error}") from error
        except Exception as error:  # whatever the exporter makes of a stranger's model
            raise AnalysisError(f"--format torch-export: torch cannot export the {name}: {error}") from error
        written.append(path)
    return written
