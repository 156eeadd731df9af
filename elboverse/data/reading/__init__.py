"""Reading a user's data file: points, names, index and labels, and what was taken for what."""

from __future__ import annotations

from pathlib import Path

from elboverse.data.reading.columns import points_of_table
from elboverse.data.reading.conditions import with_conditions_of_columns
from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table
from elboverse.data.reading.kinds import reader_of
from elboverse.data.reading.limits import MAXIMUM_BYTES
from elboverse.errors import DataError

__all__ = ["Finding", "RawPoints", "ReadingOptions", "Table", "read"]


def read(path: Path, options: ReadingOptions | None = None) -> RawPoints:
    """Return the points of a data file, of whatever kind it is.

    Args:
        path: the file.
        options: what the user settles; all is left to the readers' judgement by default.

    Raises:
        DataError: no such file exists, or it cannot be read as points; the message says what to do.
    """
    options = ReadingOptions() if options is None else options
    try:
        if not path.is_file():
            what = "a folder, no file" if path.is_dir() else "no file" if path.exists() else "no such file"
            raise DataError(f"{path.absolute()}: {what}; dataset.path names the data file")
        if path.stat().st_size > MAXIMUM_BYTES:
            raise DataError(f"{path}: got {path.stat().st_size:,} bytes; expected at most {MAXIMUM_BYTES:,}")
        found = reader_of(path)(path, options)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if isinstance(found, Table):
        return points_of_table(found, path, options)
    return with_conditions_of_columns(found, path, options) if options.conditions else found
