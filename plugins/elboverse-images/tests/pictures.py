"""Small image files for tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(seed: int, width: int = 178, height: int = 218) -> NDArray[np.uint8]:
    """Return a smooth random picture in colour, shape (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: NDArray[np.uint8], kind: str = "JPEG") -> bytes:
    """Return a picture as the bytes of a file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, quality=90)
    return content.getvalue()


def write_folder(folder: Path, count: int, width: int = 178, height: int = 218) -> Path:
    """Write JPEGs 000001.jpg, 000002.jpg, … and return the folder."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        (folder / f"{number:06}.jpg").write_bytes(encoded(picture(number, width, height)))
    return folder


def write_zip(path: Path, folder: Path) -> Path:
    """Write a zip of a folder, below the folder's name, and return it."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path
