"""From image files to bytes: decode, crop, resize. Runs in processes of its own."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from elboverse.errors import DataError
from elboverse_images.picture_files import opened

__all__ = ["Job", "Outcome", "Recipe", "decode", "run"]

UNDECODABLE: Final = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombWarning,
    Image.DecompressionBombError,
)
"""What Pillow and zipfile raise for an image that is damaged, none, or too large to be one."""

AHEAD: Final = 3
"""Jobs that each process beside this one has at hand, so that it never waits: one in work, two that it takes next."""


@attrs.frozen(kw_only=True)
class Recipe:
    """What becomes of an image: its centre is cut out, resized with antialiasing, and stored channels first.

    Args:
        crop: side of the centred square in pixels; None for the largest that the image has.
        size: side of the result in pixels.
        channels: 1 for grey levels, 3 for red, green and blue.
    """

    crop: int | None
    size: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the result."""
        return self.channels, self.size, self.size

    @property
    def bytes_per_image(self) -> int:
        """How many values, one byte each, an image becomes."""
        return self.channels * self.size * self.size


@attrs.frozen(kw_only=True)
class Job:
    """Consecutive images for one process.

    Args:
        number: of the job.
        root: the folder or zip.
        names: of the files.
        recipe: what becomes of them.
        target: the file that they are written to, which is there already.
        offset: where in it the first one goes, in bytes.
    """

    number: int
    root: Path
    names: tuple[str, ...]
    recipe: Recipe
    target: Path
    offset: int


@attrs.frozen
class Outcome:
    """How a job went.

    Args:
        bad: images that cannot be decoded, each with the reason.
        checksum: CRC-32 of what was written.
    """

    bad: dict[str, str]
    checksum: int


def decode(content: bytes, recipe: Recipe) -> NDArray[np.uint8]:
    """Return an image, shape (C, size, size).

    Raises:
        OSError, ValueError: it is damaged, no image, too large to be one, or smaller than the crop.
    """
    with Image.open(io.BytesIO(content)) as stored:
        image = as_seen(stored)
        width, height = image.size
        side = min(width, height) if recipe.crop is None else recipe.crop
        if side > min(width, height):
            raise ValueError(f"{width} × {height} pixels, smaller than the crop of {side}")
        left, top = round((width - side) / 2), round((height - side) / 2)
        square = image.crop((left, top, left + side, top + side))
    mode = "RGB" if recipe.channels == 3 else "L"
    if square.mode != mode:
        square = square.convert(mode)
    resized = np.asarray(square.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR))
    return resized.transpose(2, 0, 1) if recipe.channels == 3 else resized[None]


def as_seen(image: Image.Image) -> Image.Image:
    """Return an image as a viewer shows it: turned as its camera was held, 8 bits per channel, alpha over white.

    Sixteen bits are divided by 257. Floating-point and wider values are taken as 0 … 1 if none is above, else as
    0 … 255.

    Args:
        image: as it is stored, opened.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        low, high = float(values.min()), float(values.max())
        if image.mode == "F":
            values = values * 255 if low >= 0 and high <= 1 else values
        elif image.mode.startswith("I;16") or high > 255:
            values = values / 257
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB") if image.mode in {"P", "CMYK", "YCbCr", "LAB", "HSV"} else image.copy()


def perform(job: Job, read: Callable[[str], bytes]) -> Outcome:
    """Decode a job's images, write them to their places in the target, and return how that went.

    An image that cannot be decoded becomes zeros.

    Args:
        job: what is to be done.
        read: gives a file's bytes by its name.

    Raises:
        OSError: the target cannot be written.
    """
    pixels = np.zeros((len(job.names), *job.recipe.shape), np.uint8)
    bad: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for index, name in enumerate(job.names):
            try:
                pixels[index] = decode(read(name), job.recipe)
            except UNDECODABLE as error:
                bad[name] = " ".join(str(error).split()) or type(error).__name__
    with job.target.open("r+b") as target:
        target.seek(job.offset)
        target.write(pixels.data)
    return Outcome(bad, zlib.crc32(pixels.data))


def run(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Perform jobs of one root on so many processes, this one among them, and yield each with its outcome.

    This process decodes while the others start, and goes on to take every job that they have no time for. What they
    finish meanwhile is yielded between its own jobs, so the order is about, but not exactly, that of `jobs`.

    Raises:
        DataError: the processes cannot be started or were killed.
        OSError: the target cannot be written.
    """
    if not jobs:
        return
    others = min(workers, len(jobs)) - 1
    with ExitStack() as stack:
        read = stack.enter_context(opened(jobs[0].root))
        if others == 0:
            yield from ((job, perform(job, read)) for job in jobs)
            return
        # Started afresh: a copy of this process would inherit the locks that threads of torch hold.
        pool = ProcessPoolExecutor(others, mp_context=get_context("spawn"))
        stack.callback(pool.shutdown, cancel_futures=True)
        try:
            yield from _shared(jobs, read, pool, AHEAD * others)
        except BrokenProcessPool as error:
            raise DataError(
                'the processes that decode images ended abruptly; in a script, train below if __name__ == "__main__":, '
                "or set dataset.workers to 1"
            ) from error


def _shared(
    jobs: Sequence[Job], read: Callable[[str], bytes], pool: ProcessPoolExecutor, ahead: int
) -> Iterator[tuple[Job, Outcome]]:
    """Yield the outcomes of jobs that a pool, which has up to so many of them at hand, and this process perform."""
    remaining = iter(jobs)
    given: dict[Future[Outcome], Job] = {}
    while True:
        own = next(remaining, None)
        for job in islice(remaining, ahead - len(given)):
            given[pool.submit(_perform_in_worker, job)] = job
        if own is not None:
            yield own, perform(own, read)
        elif not given:
            return
        for future in wait(given, timeout=None if own is None else 0, return_when=FIRST_COMPLETED).done:
            yield given.pop(future), future.result()


def _perform_in_worker(job: Job) -> Outcome:
    return perform(job, _kept_open(job.root)[0])


@lru_cache(maxsize=1)
def _kept_open(root: Path) -> tuple[Callable[[str], bytes], ExitStack]:
    """Return the reader of a root, which stays open as long as the process: CelebA's zip takes a second to open."""
    stack = ExitStack()
    return stack.enter_context(opened(root)), stack
