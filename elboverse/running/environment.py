"""What a run depended on besides its config: versions, machine and device."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from elboverse._version import __version__
from elboverse.errors import ConfigError

__all__ = ["describe", "resolve_device"]

PACKAGES = ("torch", "numpy", "h5py", "attrs", "cattrs", "pluggy")


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is a GPU if there is one.

    Raises:
        ConfigError: the name is none that torch knows, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in {"cpu", "cuda", "mps"}:
        raise ConfigError(f'training.device: got {name!r}; expected "auto", "cpu", "cuda", "cuda:1", … or "mps"')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f'training.device: got {name!r}, but it cannot be used here: {reason}. Use "auto" or "cpu".'
        ) from error
    return device


def describe(device: torch.device) -> dict[str, Any]:
    """Return versions, machine, device and start time as plain values.

    Args:
        device: where the run trains.
    """
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "elboverse": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "byte_order": sys.byteorder,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
