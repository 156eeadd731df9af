"""Files of SUSY's form: the label first, then 18 features, each number with 18 decimals."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH = 18


def random_features(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Return features as float32."""
    return np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)


def as_text(features: NDArray[np.float32]) -> str:
    """Return the lines of a file with those features; the labels alternate."""
    rows = [[row % 2, *values] for row, values in enumerate(features.tolist())]
    return "".join(",".join(f"{value:.18e}" for value in row) + "\n" for row in rows)


def write(path: Path, text: str) -> Path:
    """Write text as the file's name asks for: plain, gzipped, or gzipped in a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("SUSY.csv.gz", gzip.compress(content))
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
