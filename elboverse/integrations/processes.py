"""What surrounds a step that is recorded: other processes, automatic half precision, axes of samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as torch_distributed

__all__ = ["full_precision", "is_distributed", "outside_of_compiled", "with_samples"]


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return (
        torch_distributed.is_available()
        and torch_distributed.is_initialized()
        and torch_distributed.get_world_size() > 1
    )


@contextmanager
def full_precision(x: Tensor) -> Iterator[None]:
    """Without autocast: sums of many terms need float32."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            yield
    else:
        yield


def with_samples(z: Tensor | None, mean: Tensor) -> Tensor | None:
    """Return samples with an axis K in front."""
    return z.unsqueeze(0) if z is not None and z.ndim == mean.ndim else z


def outside_of_compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that a step that is compiled as a whole breaks at, so that it runs as it is.

    torch's compiler takes seconds to import: where nobody has imported it, the method is returned unchanged.
    """
    if "torch._dynamo" not in sys.modules:
        return method
    found: Callable[..., Any] = torch.compiler.disable(method)
    return found
