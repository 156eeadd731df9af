"""Where image files come from: a folder of the user's, the cache, the system, or the network, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import pooch

from elboverse.data import cache
from elboverse.errors import DataError

__all__ = ["FASHION_MNIST", "MNIST", "SYSTEM_FOLDER", "Source", "cache_folder", "locate", "places"]

SYSTEM_FOLDER: Final = Path("/usr/share/datasets")
"""Where Debian's packages of datasets put theirs."""

TRAIN: Final = "train-images-idx3-ubyte"
HELD_OUT: Final = "t10k-images-idx3-ubyte"
ZIPPED: Final = ".gz"


@attrs.frozen
class Source:
    """Where a dataset's files can be downloaded, and how they are recognised.

    Args:
        name: the dataset's name, and the name of its folder.
        url: what the file names are appended to.
        md5: file name without ``.gz`` → MD5 sum of the gzipped file.
        classes: what the labels 0, 1, … mean.
    """

    name: str
    url: str
    md5: dict[str, str]
    classes: tuple[str, ...] = tuple("0123456789")


MNIST: Final = Source(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    {TRAIN: "f68b3c2dcbeaaa9fbdd348bbdeb94873", HELD_OUT: "9fb629c4189551a2d022fa330f9573f3"},
)
FASHION_MNIST: Final = Source(
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {TRAIN: "8d4fb7e6c68d591d4c3dfef9ec88bf0d", HELD_OUT: "bef4ecab320f06d8554ea6380940ec79"},
    ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
)


def cache_folder(source: Source) -> Path:
    """Return the folder of the user's cache that downloads of a dataset go to."""
    return cache.cache_folder(source.name)


def places(source: Source, file: str, root: Path | None) -> tuple[Path, ...]:
    """Return every path that one of a dataset's files is looked for at, in order."""
    return tuple(folder / name for folder in _folders(source, root) for name in (file, file + ZIPPED))


def locate(source: Source, file: str, root: Path | None, *, download: bool) -> Path:
    """Return the path of one of a dataset's files, downloading it if need be.

    Args:
        source: the dataset.
        file: a key of `Source.md5`.
        root: the folder to look in, and the only one; None for the cache, then the system's folder, then the network.
        download: whether the network may be used.

    Raises:
        DataError: it is nowhere; the message lists every place, what is expected there and what to do.
    """
    folders = _folders(source, root)
    for place in places(source, file, root):
        if place.is_file():
            return place
    if root is not None:
        raise _nowhere(
            source, file, folders, "dataset.root is the only folder looked in; leave it out to look elsewhere"
        )
    if not download:
        raise _nowhere(source, file, folders, "put it there, or set dataset.download to true")
    return _download(source, file, folders)


def _folders(source: Source, root: Path | None) -> tuple[Path, ...]:
    return (root,) if root is not None else (cache_folder(source), SYSTEM_FOLDER / source.name)


def _download(source: Source, file: str, folders: Sequence[Path]) -> Path:
    url = f"{source.url}{file}{ZIPPED}"
    try:
        # Written under a temporary name first: a download that breaks or is not the known file leaves nothing behind.
        fetched = pooch.retrieve(url, f"md5:{source.md5[file]}", fname=file + ZIPPED, path=cache_folder(source))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        advice = f"downloading {url} failed: {reason}. Check the network, or put the file into one of these folders"
        raise _nowhere(source, file, folders, advice) from error
    return Path(fetched)


def _nowhere(source: Source, file: str, folders: Sequence[Path], advice: str) -> DataError:
    return DataError(f"{source.name}: no file {file} or {file}{ZIPPED} in {' or '.join(map(str, folders))}; {advice}")
