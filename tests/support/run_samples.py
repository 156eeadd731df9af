"""Run files for tests: random numbers of the right shapes, written by the real writer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from elboverse.runfile import RunWriter, schema
from elboverse.runfile.seal import seal

Values = NDArray[Any]

SEAL_BYTES = len(seal(memoryview(b"")))

DOCUMENTS: dict[str, Any] = {
    "config": {"name": "sample", "model": {"name": "vae-1", "latent_dim": 3}, "rate": 1e-3, "title": "σ²"},
    "environment": {"python": "3.11"},
    "components": [{"kind": "model", "name": "vae-1"}],
    "data": {"train_points": 10},
}

CHECKPOINT: dict[str, Values] = {
    "model/encoder.0.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "optimizer/exp_avg/encoder.0.weight": np.linspace(0, 1, 5),
    "optimizer/step": np.array(7, np.int64),
    "loop/empty": np.empty((0, 3), np.float64),
    "loop/random_state": np.arange(256, dtype=np.uint8),
    "loop/flags": np.array([True, False]),
    "loop/flag": np.array(True),
}


def rows(
    steps: int, replicas: int = 1, latent_dim: int = 3, *, first: int = 0, seed: int = 0
) -> tuple[Values, dict[str, Values], dict[str, Values]]:
    """Return the arguments of `RunWriter.append_rows`."""
    generator = np.random.default_rng([seed, first])
    scalars = {name: generator.normal(size=(steps, replicas)) for name in schema.TRAJECTORY_SCALARS}
    shape = (steps, replicas, latent_dim)
    per_latent = {name: generator.normal(size=shape) for name in schema.TRAJECTORY_PER_LATENT}
    return np.arange(first, first + steps), scalars, per_latent


def evaluation(replicas: int = 1, latent_dim: int = 3, *, seed: int = 0) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return the last two arguments of `RunWriter.append_evaluation`."""
    generator = np.random.default_rng(seed)
    return (
        {name: generator.normal(size=replicas) for name in schema.EVALUATION_SCALARS},
        {name: generator.normal(size=(replicas, latent_dim)) for name in schema.EVALUATION_PER_LATENT},
    )


def writer(path: Path, *, replicas: int = 1, latent_dim: int = 3, **options: Any) -> RunWriter:
    """Return a writer of a new run file."""
    return RunWriter(path, **{"documents": DOCUMENTS, "replicas": replicas, "latent_dim": latent_dim, **options})


def sample(path: Path, steps: int = 20, replicas: int = 2, latent_dim: int = 3, **options: Any) -> Path:
    """Write a finished run with two evaluations of each split, and return its path."""
    with writer(path, replicas=replicas, latent_dim=latent_dim, **options) as run:
        run.append_rows(*rows(steps, replicas, latent_dim))
        for number in (0, 1):
            for split, points in (("train", 10), ("held_out", 5)):
                values = evaluation(replicas, latent_dim, seed=number)
                run.append_evaluation(split, number * steps, number, points, *values)
        run.snapshot("finished", CHECKPOINT, steps)
    return path


def reseal(path: Path) -> None:
    """Give a file whose seal was cut off a new one, as somebody would who forges a run file."""
    image = path.read_bytes()
    path.write_bytes(image + seal(memoryview(image)))


@contextmanager
def forged(path: Path) -> Iterator[h5py.File]:
    """Open a run file to change it, and seal it again afterwards."""
    path.write_bytes(path.read_bytes()[:-SEAL_BYTES])
    with h5py.File(path, "r+", libver=("earliest", "v110")) as file:
        yield file
    reseal(path)


def replace_document(file: h5py.File, name: str, document: object) -> None:
    """Put another document in place of one of a `forged` file."""
    del file[f"documents/{name}"]
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    file.create_dataset(f"documents/{name}", data=text, chunks=True, fletcher32=True)
