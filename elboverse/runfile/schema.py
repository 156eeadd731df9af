"""What a run file holds: names, units, axes, types and limits, the same for writer and reader.

    /                     format, format_version, elboverse_version, created, status
    /documents/NAME       JSON in UTF-8, as a vector of bytes: config, environment, components, data
    /trajectory/step      recorded steps (T,), strictly increasing
    /trajectory/NAME      a series (T, R) or (T, R, H) in the run's floating-point type
    /evaluation/SPLIT     points; step (E,), epoch (E,), and series (E, R) or (E, R, H) in float64
    /frames/…             of an animation, if any were asked for; see `frames`
    /checkpoint/…         step; arrays of any shape, by path

Axes: T recorded steps, E evaluations, R replicas, H latents. Each dataset is chunked and has a checksum
(fletcher32); each series has its unit as attribute ``units`` and its axes as dimension labels. Texts in
attributes have a fixed length, so that a reader knows it beforehand (HDF5 allocates 4 GiB for one of variable length
that claims to have them); h5py shows them as bytes.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from elboverse.theory import identities

FORMAT: Final = "elboverse-run"
FORMAT_VERSION: Final = 1

RUN_FILE: Final = "run.h5"
"""What the run file is called in a run's folder."""

STATUSES: Final = ("running", "interrupted", "finished", "failed")

DOCUMENTS: Final[Mapping[str, type]] = {"config": dict, "environment": dict, "components": list, "data": dict}
"""The documents that every run file has, and what each is at its top; others may follow."""

NAT: Final = "nat"
RATIO: Final = "1"
DATA_UNIT: Final = "data unit"
LOG_VARIANCE: Final = "ln(data unit^2)"
UNSTATED: Final = "unstated"

TRAJECTORY_SCALARS: Final[Mapping[str, str]] = {
    "beta": RATIO,
    "elbo": NAT,
    "log_likelihood": NAT,
    "decoder_entropy": NAT,
    "decoder_log_var": LOG_VARIANCE,
}
"""Series (T, R) that every run file has, with their units."""

TRAJECTORY_PER_LATENT: Final[Mapping[str, str]] = {
    "kl": NAT,
    "encoder_entropy": NAT,
    "prior_entropy": NAT,
    "prior_log_var": LOG_VARIANCE,
}
"""Series (T, R, H) that every run file has, with their units."""

EVALUATION_SCALARS: Final[Mapping[str, str]] = dict.fromkeys(
    (
        "elbo",
        "elbo_standard_error",
        "log_likelihood",
        "decoder_entropy",
        "decoder_residual",
        "decoder_residual_standard_error",
        "gap",
        "gap_standard_error",
        "entropy_sum_standard_error",
    ),
    NAT,
)
"""Series (E, R) that every evaluated split has, with their units."""

EVALUATION_PER_LATENT: Final[Mapping[str, str]] = {
    "kl": NAT,
    "encoder_entropy": NAT,
    "prior_entropy": NAT,
    "prior_residual": NAT,
    "prior_residual_standard_error": NAT,
    "mean_variance": RATIO,
}
"""Series (E, R, H) that every evaluated split has, with their units; ``mean_variance`` is Var_x E_q[z_h]."""

UNITS: Final[Mapping[str, str]] = {
    **TRAJECTORY_SCALARS,
    **TRAJECTORY_PER_LATENT,
    **EVALUATION_SCALARS,
    **EVALUATION_PER_LATENT,
    "log_reference": NAT,
    "decoder_varentropy": "nat^2",
}
"""The units of all of these: a name means the same in a trajectory and in an evaluation."""

DERIVED: Final[Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    "entropy_sum": (identities.entropy_sum, ("decoder_entropy", "encoder_entropy", "prior_entropy", "log_reference")),
    "gap": (operator.sub, ("elbo", "entropy_sum")),
    "decoder_residual": (identities.decoder_residual, ("log_likelihood", "decoder_entropy", "log_reference")),
    "prior_residual": (identities.prior_residual, ("kl", "encoder_entropy", "prior_entropy")),
    "entropy_drop": (identities.entropy_drop, ("encoder_entropy", "prior_entropy")),
}
"""Series that follow from others wherever they are not stored, in nats: the function and its arguments."""

ZERO_UNLESS_STORED: Final[Mapping[str, str]] = {"log_reference": NAT}
"""Series that are 0 where they are not stored, with their units: ln h(x) of a Gaussian decoder, and in older files."""

FOLLOWING: Final = (*DERIVED, *ZERO_UNLESS_STORED)
"""The names of all series that are there also where they are not stored."""

TRAJECTORY_TYPES: Final = ("float32", "float64")
CHECKPOINT_TYPES: Final = ("float32", "float64", "int64", "uint8", "bool")

MAXIMUM_FILE_BYTES: Final = 64 << 30
MAXIMUM_DOCUMENT_BYTES: Final = 8 << 20
"""Of all documents together: parsed JSON may take thirty times its size in memory."""
MAXIMUM_OBJECTS: Final = 10_000
MAXIMUM_DEPTH: Final = 16
MAXIMUM_NAME: Final = 255
MAXIMUM_TEXT: Final = 255

CHUNK_BYTES: Final = 256 << 10

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def is_name(name: str) -> bool:
    """Return whether a series, a split or a document may be called so: a lower-case identifier."""
    return _NAME.fullmatch(name) is not None


def is_text(text: str) -> bool:
    """Return whether a text may be an attribute: short and printable."""
    return text.isprintable() and 0 < len(text.encode()) <= MAXIMUM_TEXT


def is_checkpoint_key(key: str) -> bool:
    """Return whether an array of the checkpoint may be called so: a path of printable parts."""
    parts = key.split("/")
    return len(parts) <= MAXIMUM_DEPTH // 2 and all(
        part not in {"", ".", ".."} and part.isprintable() and len(part.encode()) <= MAXIMUM_NAME for part in parts
    )


def chunk_shape(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    """Return the chunks that an array is stored in: whole rows of it, as many as make up `CHUNK_BYTES`.

    Args:
        shape: of the array, at least one axis.
        item_bytes: size of one value.
    """
    chunks = []
    for axis, length in enumerate(shape):
        row_bytes = max(1, math.prod(shape[axis + 1 :]) * item_bytes)
        chunks.append(max(1, min(length, CHUNK_BYTES // row_bytes)))
    return tuple(chunks)


def little_endian(name: str) -> np.dtype[Any]:
    """Return the NumPy type in which values of a type such as ``"float32"`` are stored."""
    return np.dtype(name).newbyteorder("<")
