"""Where SUSY's file comes from: the user's path, the cache, the system's folder, or the archive on request."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pooch

from elboverse.data.cache import cache_folder
from elboverse.errors import DataError

__all__ = ["NAMES", "SYSTEM_FOLDER", "URL", "download", "locate", "places"]

URL: Final = "https://archive.ics.uci.edu/static/public/279/susy.zip"
SYSTEM_FOLDER: Final = Path("/usr/share/datasets/susy")
ARCHIVE: Final = "susy.zip"
NAMES: Final = ("SUSY.csv", "SUSY.csv.gz", ARCHIVE)


def places(path: Path | None) -> tuple[Path, ...]:
    """Return every file that is looked for, in order: the user's own, and no other, if there is one."""
    if path is not None:
        return (path,)
    return tuple(folder / name for folder in (cache_folder("susy"), SYSTEM_FOLDER) for name in NAMES)


def locate(path: Path | None) -> Path | None:
    """Return the first of `places` that is there, or None.

    Raises:
        DataError: the user's own is not there.
    """
    found = next((place for place in places(path) if place.is_file()), None)
    if found is None and path is not None:
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'no such file'}; dataset.path names the file")
    return found


def download() -> Path:
    """Download the archive's zip into the cache and return its path.

    The archive publishes no checksum; the zip's own sums are checked when it is read.

    Raises:
        DataError: it cannot be downloaded or written.
    """
    folder = cache_folder("susy")
    try:
        return Path(pooch.retrieve(URL, known_hash=None, fname=ARCHIVE, path=folder))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"downloading {URL} failed: {reason}. Check the network, or put the file into {folder}"
        ) from error
