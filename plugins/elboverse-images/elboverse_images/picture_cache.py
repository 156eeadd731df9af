"""The cache of decoded images: bytes in one `.npy` file, made once, resumable, and mapped into memory.

While it is made it has the ending ``.partial``, with every image at its final place, and a journal beside it says which
jobs are done: what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elboverse.data import split
from elboverse.data.cache import replacing, unwritable
from elboverse.errors import DataError
from elboverse_images.decoding import Job, Recipe, run
from elboverse_images.picture_files import PictureFiles, described

__all__ = ["decoded", "split_points"]

FORMAT: Final = "2"
"""Changes whenever the same files would be cached otherwise."""

IMAGES_PER_JOB: Final = 64
MOST_BAD: Final = 0.01
ROWS_AT_ONCE: Final = 1024


def decoded(files: PictureFiles, recipe: Recipe, folder: Path, workers: int) -> Path:
    """Return the cache file of decoded images, shape (N, C·size·size), which is made if need be.

    Images that cannot be decoded are left out, with a warning that counts and names them.

    Args:
        files: the image files.
        recipe: what becomes of them.
        folder: of the cache.
        workers: how many processes decode.

    Raises:
        DataError: more than one in a hundred cannot be decoded, or the cache cannot be written.
    """
    key = f"{FORMAT} {files.digest} {recipe.crop} {recipe.size} {recipe.channels}"
    path = folder / f"images-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.npy"
    if mapped(path) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".journal").open("a+b") as journal:
                fcntl.flock(journal, fcntl.LOCK_EX)  # whoever else is making it finishes first
                if mapped(path) is None:
                    _make(path, journal, files, recipe, workers)
                path.with_suffix(".journal").unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
    return path


def split_points(path: Path, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return training and held-out images, mapped from one file of the cache in which they lie one after the other.

    A seeded split is a random choice of rows; written out once, it is read without taking memory.

    Args:
        path: of `decoded`.
        held_out: share of the images that is held out.
        seed: decides the split.

    Raises:
        DataError: no image is left to train on, or the cache cannot be written.
    """
    images = _required(path)
    train, rest = split(torch.arange(len(images)).unsqueeze(1), held_out, seed)
    ordered = path.with_name(f"{path.stem}-split-{len(rest)}-{seed}.npy")
    found = mapped(ordered)
    if found is None or found.shape != images.shape:
        with replacing(ordered) as file:
            file.write(_head(*images.shape))
            for rows in torch.cat((train, rest)).squeeze(1).split(ROWS_AT_ONCE):
                file.write(images[rows.numpy()].data)
        found = _required(ordered)
    points = torch.from_numpy(found)
    return points[: len(train)], points[len(train) :]


def mapped(path: Path) -> NDArray[np.uint8] | None:
    """Return what a cache file holds as a private map, or None if there is none or it is not whole."""
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == np.uint8 and array.ndim == 2 else None


def _required(path: Path) -> NDArray[np.uint8]:
    found = mapped(path)
    if found is None:
        raise DataError(f"{path}: damaged as soon as it was written; check the disk")
    return found


def _head(rows: int, width: int) -> bytes:
    """Return the head of an `.npy` file, whose length does not depend on the number of rows."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (rows, width)})
    return head.getvalue()


def _make(path: Path, journal: IO[bytes], files: PictureFiles, recipe: Recipe, workers: int) -> None:
    partial, count, width = path.with_suffix(".partial"), len(files.names), recipe.bytes_per_image
    start = len(_head(count, width))
    size = start + count * width
    resumed = partial.is_file() and partial.stat().st_size == size
    if not resumed:
        journal.truncate(0)
        _require_space(partial, size)
        with partial.open("wb") as file:
            file.truncate(size)
    jobs = [
        Job(
            number=number,
            root=files.root,
            names=files.names[first : first + IMAGES_PER_JOB],
            recipe=recipe,
            target=partial,
            offset=start + first * width,
        )
        for number, first in enumerate(range(0, count, IMAGES_PER_JOB))
    ]
    done = _read_journal(journal, jobs)
    for job, outcome in run([job for job in jobs if job.number not in done], workers):
        entry = {"job": job.number, "bad": outcome.bad, "checksum": outcome.checksum}
        journal.write(json.dumps(entry).encode() + b"\n")
        journal.flush()
        done[job.number] = outcome.bad
    reasons = {name: reason for number in sorted(done) for name, reason in done[number].items()}
    if reasons:
        _judge(reasons, files, partial)
    _finish(partial, np.array([name not in reasons for name in files.names]), start, width)
    partial.replace(path)


def _require_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise DataError(
            f"the cache file {path} needs {size / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free; free some space "
            "(elboverse data clean) or set XDG_CACHE_HOME to a folder with more"
        )


def _read_journal(journal: IO[bytes], jobs: Sequence[Job]) -> dict[int, dict[str, str]]:
    """Return the jobs that are done, by number, with the images that could not be decoded.

    Done is what the journal says was written, and what is there: a crash of the machine can take the one and leave the
    other. A torn last line counts for nothing.
    """
    journal.seek(0)
    done: dict[int, dict[str, str]] = {}
    for line in journal.read().split(b"\n"):
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        job = jobs[entry["job"]]
        with job.target.open("rb") as target:
            target.seek(job.offset)
            written = target.read(len(job.names) * job.recipe.bytes_per_image)
        if zlib.crc32(written) == entry["checksum"]:
            done[job.number] = entry["bad"]
    return done


def _judge(reasons: dict[str, str], files: PictureFiles, partial: Path) -> None:
    """Warn of images that cannot be decoded, or refuse the whole if they are too many."""
    counted = f"{len(reasons):,} of {len(files.names):,} images cannot be decoded"
    message = f"{files.root}: {counted}: {described(reasons)}"
    if len(reasons) > MOST_BAD * len(files.names):
        partial.unlink()
        partial.with_suffix(".journal").unlink(missing_ok=True)
        raise DataError(f"{message}. More than {MOST_BAD:.0%} is too many; replace them or take them away")
    warnings.warn(f"{message}. They are left out.", RuntimeWarning, stacklevel=2)


def _finish(partial: Path, good: NDArray[np.bool_], start: int, width: int) -> None:
    """Close the gaps that images left that cannot be decoded, write the head, and flush all of it to the disk."""
    kept = np.flatnonzero(good)
    with partial.open("r+b") as file:
        if len(kept) < len(good):
            images = np.memmap(file, np.uint8, "r+", start, (len(good), width))
            for first in range(0, len(kept), ROWS_AT_ONCE):
                rows = kept[first : first + ROWS_AT_ONCE]
                images[first : first + len(rows)] = images[rows]
            images.flush()
            del images
            file.truncate(start + len(kept) * width)
        file.seek(0)
        file.write(_head(len(kept), width))
        file.flush()
        os.fsync(file.fileno())
