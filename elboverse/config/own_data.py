"""A data file in place of a config, with settings that suit most data; and where the paths in a config lead."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from elboverse.errors import ConfigError

__all__ = ["DATA_SUFFIXES", "is_data_file", "table_of_data_file", "with_paths_from"]

DATA_SUFFIXES: Final = frozenset(
    [
        ".csv",
        ".tsv",
        ".tab",
        ".txt",
        ".dat",
        ".data",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".hdf",
        ".h5ad",
        ".parquet",
        ".pq",
        ".feather",
        ".arrow",
        ".xlsx",
        ".mat",
        ".nc",
    ]
)
_PACKED: Final = frozenset([".gz", ".bz2", ".xz", ".zip"])
_SMALL: Final = 1 << 20
"""Bytes below which a table is small: a network learns its rows by heart, and full-batch steps take seconds."""


def is_data_file(path: Path) -> bool:
    """Return whether a file is data by its name, so that it stands for a config that reads it."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in _PACKED:
        return len(suffixes) > 1 and suffixes[0] in DATA_SUFFIXES
    return bool(suffixes) and suffixes[-1] in DATA_SUFFIXES


def table_of_data_file(path: Path, *, linear: bool = False) -> dict[str, Any]:
    """Return the raw config that stands for a data file: a VAE with a learned variance on standardised dimensions.

    A small file gets a linear VAE that is trained until it is stationary, which is probabilistic PCA at its optimum:
    on new rows it beats a network that saw a few hundred by far, and it takes seconds. A larger file gets a network.

    Args:
        path: of the file.
        linear: take the linear VAE for a large file too.

    Raises:
        ConfigError: it is a run file.
    """
    if path.name == "run.h5":
        raise ConfigError(f"{path}: is the file of a run; --resume continues it, and --like repeats it")
    stem = path.name.split(".")[0]
    name = re.sub(r"[^\w .-]+", "-", stem).strip("-. ")[:60] or "own"
    rates = {"learning_rate": 3e-3, "variance_learning_rate": 3e-3}
    small: dict[str, Any] = {
        "model": {"name": "linear-vae", "latent_dim": 4},
        "training": {"until": "stationary", "epochs": 50, "evaluate_every": 10.0, **rates},
    }
    large: dict[str, Any] = {
        "model": {"name": "vae-1", "latent_dim": 4, "network": {"name": "mlp", "hidden": [64, 32]}},
        "training": {"epochs": 200, "evaluate_every": 20.0, **rates},
    }
    return {
        "name": name if re.match(r"\w", name) else f"own {name}",
        "dataset": {"name": "array", "path": os.path.abspath(path), "scaling": "standard", "held_out": 0.2},  # noqa: PTH100
        **(small if linear or path.stat().st_size < _SMALL else large),
    }


def with_paths_from(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Return the raw table of a config, the paths of its dataset taken from the config's folder and made absolute.

    A path that leads nowhere from there, but somewhere from the present folder, is taken from the latter.
    """
    dataset = table.get("dataset")
    if not isinstance(dataset, Mapping):
        return table
    moved = {
        key: _found(folder, value)
        for key, value in dataset.items()
        if key in {"path", "root"} and isinstance(value, str) and value
    }
    return {**table, "dataset": {**dataset, **moved}} if moved else table


def _found(folder: Path, text: str) -> str:
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where no such user exists
    beside = Path(os.path.abspath(folder / path))  # noqa: PTH100 - Path.resolve would follow links
    here = Path(os.path.abspath(path))  # noqa: PTH100
    return str(here if not beside.exists() and here.exists() else beside)
