"""Reading rows of numbers from CSV, plain, gzipped or in a zip: block by block, straight to float32.

A block is some 8 MiB of text that ends with a line; polars parses it on all cores. Two blocks are parsed at a time
while the next is read or unpacked, so that no core waits. Memory is bounded by the blocks, whatever the file's size.
polars is strict about numbers but fills short rows with nulls, so nulls are counted, and a block with a fault is gone
through line by line to name it.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elboverse.errors import DataError

__all__ = ["read_blocks"]

Schema = dict[str, type[pl.Float32]]

BLOCK_BYTES: Final = 8 << 20
AT_A_TIME: Final = 2
LONGEST_LINE: Final = 1 << 16
LABEL: Final = "label"
LABELS: Final = ("0", "1")

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZIP_MAGIC: Final = b"PK\x03\x04"


def read_blocks(path: Path, features: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """Yield the features of consecutive rows, shape (n, number of features); the label, 0 or 1, is left out.

    Args:
        path: CSV without a head line, the label first: plain, gzipped, or a zip with one such file in it.
        features: their names.

    Raises:
        DataError: the file cannot be read or is damaged, or a row is short, long, empty or holds anything but finite
            numbers; the row is named by line and column, both counted from 1.
    """
    schema = {LABEL: pl.Float32, **dict.fromkeys(features, pl.Float32)}
    try:
        with ExitStack() as stack:
            lines_before = 0
            for text, values in _parsed_in_turn(_blocks(_opened(path, stack), path), schema):
                if values is None:
                    raise DataError(f"{path}: {_fault(text, list(schema), lines_before + 1)}")
                lines_before += len(values)
                yield values
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError) as error:
        raise DataError(f"{path}: damaged or unknown compression: {error}; replace the file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    """Return the text as a stream of bytes, whatever it is packed in."""
    file: IO[bytes] = stack.enter_context(path.open("rb"))
    if _starts_with(file, _ZIP_MAGIC):
        archive = stack.enter_context(zipfile.ZipFile(file))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: a zip with {len(members)} files in it; expected one, SUSY.csv.gz")
        if members[0].flag_bits & 1:
            raise DataError(f"{path}: {members[0].filename} in it is encrypted; give the file itself")
        file = stack.enter_context(archive.open(members[0]))
    if _starts_with(file, _GZIP_MAGIC):
        return stack.enter_context(closing(cast(IO[bytes], gzip.open(file))))
    return file


def _starts_with(file: IO[bytes], magic: bytes) -> bool:
    start = file.read(len(magic))
    file.seek(0)
    return start == magic


def _blocks(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the stream in pieces that end where a line does."""
    while text := stream.read(BLOCK_BYTES):
        rest = stream.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            raise DataError(f"{path}: a line of more than {LONGEST_LINE:,} bytes; expected CSV with short lines")
        yield text + rest


def _parsed_in_turn(blocks: Iterator[bytes], schema: Schema) -> Iterator[tuple[bytes, NDArray[np.float32] | None]]:
    """Yield each block with what `_parsed` returns for it, in order."""
    pending: deque[tuple[bytes, Future[NDArray[np.float32] | None]]] = deque()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for text in blocks:
            pending.append((text, pool.submit(_parsed, text, schema)))
            if len(pending) > AT_A_TIME:
                before, future = pending.popleft()
                yield before, future.result()
        yield from ((text, future.result()) for text, future in pending)


def _parsed(text: bytes, schema: Schema) -> NDArray[np.float32] | None:
    """Return the features, shape (n, number of features), or None if a row has a fault."""
    try:
        frame = pl.read_csv(text, has_header=False, schema=schema, quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    label = frame.drop_in_place(LABEL)
    if sum(frame.null_count().row(0)) or not label.is_in([0.0, 1.0]).all() or label.null_count():
        return None
    values: NDArray[np.float32] = frame.to_numpy(order="c")
    return values if np.isfinite(values.sum(dtype=np.float64)) else None


def _fault(text: bytes, columns: Sequence[str], first_line: int) -> str:
    """Return what is wrong with the first faulty row of a block."""
    for number, line in enumerate(text.decode("utf-8", "replace").removesuffix("\n").split("\n"), first_line):
        fields = line.split(",")
        if len(fields) != len(columns):
            return f"line {number}: {_counted(line, fields)} found; expected {len(columns)}: label, then features"
        for position, (field, name) in enumerate(zip(fields, columns, strict=True), 1):
            if position == 1 and _number(field) not in {0.0, 1.0}:
                return f"line {number}, column 1: got {field[:40]!r}; expected the label, 0 or 1, first"
            if not math.isfinite(_number(field)):
                return f"line {number}, column {position} ({name}): got {field[:40]!r}; expected a finite number"
    return f"lines from {first_line} on: not understood; expected a label and {len(columns) - 1} numbers per line"


def _counted(line: str, fields: list[str]) -> str:
    if not line.strip():
        return "an empty line"
    return f"{len(fields)} column{'s' if len(fields) != 1 else ''}"


def _number(field: str) -> float:
    """Return a field as a float32 would hold it, or not-a-number if it is none."""
    try:
        value = float(field)
    except ValueError:
        return math.nan
    return value if abs(value) <= float(np.finfo(np.float32).max) else math.nan
