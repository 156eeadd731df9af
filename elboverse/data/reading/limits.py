"""What every reader of a user's array checks before it allocates: the type and the size that the file declares."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from elboverse.errors import DataError, nearest

__all__ = ["MAXIMUM_BYTES", "choose", "require_real", "size_in_bytes"]

MAXIMUM_BYTES: Final = 16 * 2**30
"""The most bytes that an array may declare, and that a file may have: data is held in memory whole."""

_SHOWN_NAMES: Final = 20


def require_real(dtype: np.dtype[Any], where: str) -> None:
    """Check that a stored type is floating point, integer or boolean.

    Raises:
        DataError: it is complex, text, a record, a Python object or anything else.
    """
    if dtype.kind not in "fiub":
        raise DataError(
            f"{where}: got values of type {dtype}; expected floating-point, integer or boolean numbers{_advice(dtype)}"
        )


def _advice(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "mM":
        return "; take the time since some moment in a unit of yours, as numbers"
    if dtype.kind == "c":
        return "; take real and imaginary parts as two columns"
    return "; convert them first, with .astype(numpy.float32)" if dtype.kind == "V" else ""


def size_in_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> int:
    """Return how many bytes an array of that declared shape and type takes.

    Raises:
        DataError: the shape is not valid, or the bytes are more than `MAXIMUM_BYTES`.
    """
    if any(length < 0 for length in shape):
        raise DataError(f"{where}: damaged: it declares the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size > MAXIMUM_BYTES:
        raise DataError(
            f"{where}: declares the shape {shape} of {dtype}, {size:,} bytes; expected at most {MAXIMUM_BYTES:,}"
        )
    return size


def choose(key: str | None, known: list[str], where: str) -> str:
    """Return the name of the array to read: the one asked for, or the only one.

    Args:
        key: what the user asked for, or None.
        known: the names of the arrays in the file.
        where: the file, for messages.

    Raises:
        DataError: there is none of that name, there are several to choose from, or none at all.
    """
    listed = ", ".join(known[:_SHOWN_NAMES]) + (
        f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    )
    if not known:
        raise DataError(f"{where}: it holds no array")
    if key is None:
        if len(known) > 1:
            raise DataError(f"{where}: {len(known)} arrays in it, so dataset.key must name one: {listed}")
        return known[0]
    if key not in known:
        hint = nearest(key, known)
        raise DataError(f"{where}: no array {key!r} in it{f' ({hint})' if hint else ''}; it holds {listed}")
    return key
