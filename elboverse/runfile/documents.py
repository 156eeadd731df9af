"""The documents of a run file: dicts and lists of JSON values, as bytes in UTF-8."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elboverse.errors import RunFileError
from elboverse.runfile import schema
from elboverse.runfile.hdf5 import Stored


def encoded(documents: Mapping[str, Any]) -> dict[str, bytes]:
    """Return documents as they are stored.

    Args:
        documents: those of `schema.DOCUMENTS` and any others, by name.

    Raises:
        RunFileError: one is missing, is not JSON, or they are too large.
    """
    texts = {}
    for name, document in {**dict.fromkeys(schema.DOCUMENTS), **documents}.items():
        if not schema.is_name(name) or not isinstance(document, _tops(name)):
            raise RunFileError(f"document {name!r}: got {type(document).__name__}; expected {_allowed(name)}")
        try:
            texts[name] = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
            _loaded(texts[name])  # what could not be read must not be written
        except (TypeError, ValueError, RecursionError) as error:
            raise RunFileError(f"document {name!r}: cannot be stored as JSON: {error}") from error
    size = sum(len(text) for text in texts.values())
    if size > schema.MAXIMUM_DOCUMENT_BYTES:
        raise RunFileError(f"documents: got {size:,} bytes, at most {schema.MAXIMUM_DOCUMENT_BYTES:,} are stored")
    return texts


def parsed(path: Path, stored: Mapping[str, Stored]) -> dict[str, Any]:
    """Return stored documents by name.

    Args:
        path: of the file.
        stored: their datasets by name.

    Raises:
        RunFileError: one is missing, is not JSON of the expected kind, or they are too large.
    """
    for name in schema.DOCUMENTS:
        if name not in stored:
            raise RunFileError(f"{path}: /documents/{name}: missing")
    left = schema.MAXIMUM_DOCUMENT_BYTES
    documents = {}
    for name, one in stored.items():
        if one.dtype != "uint8" or len(one.shape) != 1 or not schema.is_name(name):
            raise one.fault(f"got {one.dtype} {one.shape}; expected uint8 with one axis under a lower-case name")
        left -= one.shape[0]
        if left < 0:
            raise one.fault(f"the documents have more than {schema.MAXIMUM_DOCUMENT_BYTES:,} bytes together")
        document = _parse(one)
        if not isinstance(document, _tops(name)):
            raise one.fault(f"got {type(document).__name__}; expected {_allowed(name)}")
        documents[name] = document
    return documents


def _tops(name: str) -> tuple[type, ...]:
    return (schema.DOCUMENTS[name],) if name in schema.DOCUMENTS else (dict, list)


def _allowed(name: str) -> str:
    return f"a JSON document that is a {' or '.join(top.__name__ for top in _tops(name))}, under a lower-case name"


def _parse(stored: Stored) -> Any:
    text = stored.read().tobytes()
    try:
        return _loaded(text)
    except RecursionError as error:
        raise stored.fault("JSON that is nested too deep") from error
    except ValueError as error:
        raise stored.fault(f"no valid JSON in UTF-8: {error}") from error


def _loaded(text: bytes) -> Any:
    return json.loads(text.decode(), parse_float=_finite, parse_int=_bounded, parse_constant=_finite)


def _bounded(text: str) -> int:
    """Return an integer that does not exceed the largest float: readers turn some into these."""
    _finite(text)
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number
