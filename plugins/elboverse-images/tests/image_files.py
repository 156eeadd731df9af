"""Small IDX files for the tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
HEADER = struct.Struct(">4I")


def idx_bytes(images: Images) -> bytes:
    return HEADER.pack(0x803, *images.shape) + images.tobytes()


def random_images(count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write_zipped(folder: Path, name: str, images: Images) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.gz"
    path.write_bytes(gzip.compress(idx_bytes(images), mtime=0))
    return path


def write_plain(folder: Path, name: str, images: Images) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(idx_bytes(images))
    return path
