"""Points that the caller holds in memory: the options of a run on them, without the points."""

from __future__ import annotations

from typing import Literal, NoReturn

import attrs

from elboverse.config.structuring import in_range
from elboverse.errors import DataError

__all__ = ["InMemoryOptions", "build_in_memory"]


@attrs.frozen(kw_only=True)
class InMemoryOptions:
    """Options of a run on points in memory.

    Args:
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        scaling: ``"min-max"`` maps the training range of each dimension to [0, 1], ``"standard"`` to mean 0 and
            standard deviation 1, ``"none"`` leaves the values as they are.
        seed: of the split; that of the run if not given.
        conditions: columns of a table, or of an AnnData's ``obs``, that a conditional model is given beside each point;
            they are no dimensions.
    """

    held_out: float = attrs.field(default=0.2, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "standard", "none"] = "standard"
    seed: int | None = attrs.field(default=None, validator=in_range(minimum=0))
    conditions: tuple[str, ...] = ()


def build_in_memory(options: InMemoryOptions, seed: int) -> NoReturn:  # noqa: ARG001 - the signature of a dataset
    """Say that the points are missing.

    Raises:
        DataError: always; `elboverse.running.given_data` puts the points in where they are given.
    """
    raise DataError(
        "dataset 'in-memory': the run was trained on data in memory, and they are not in the run file; give them "
        "again, as in run.model(data=X), or --data FILE"
    )
