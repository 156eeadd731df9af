"""What points are coloured by: their labels, or a condition that the model is given."""

from __future__ import annotations

from typing import Any, Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array
from elboverse.contracts import Data
from elboverse.data.conditions import recoded
from elboverse.errors import AnalysisError, nearest

__all__ = ["Groups", "groups_of"]

_MOST: Final = 10
"""How many groups have a colour of their own; the others share one."""


@attrs.frozen(eq=False)
class Groups:
    """What each of some points belongs to.

    Args:
        name: of the label or the condition.
        values: of each point, shape (M,): numbers, or texts.
    """

    name: str
    values: Array

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers with more of them than groups could have, to be shown on a scale."""
        return self.values.dtype.kind in "fiu" and len(np.unique(self.values)) > _MOST

    def named(self) -> list[tuple[str, Array]]:
        """Return the groups, largest first, each with which points are in it; the smallest share one."""
        texts = np.array([f"{value:g}" if isinstance(value, float) else str(value) for value in self.values.tolist()])
        names, counts = np.unique(texts, return_counts=True)
        ranked = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
        own = ranked if len(ranked) <= _MOST else ranked[: _MOST - 1]
        found = [(name, texts == name) for name in sorted(own)]
        if len(own) < len(ranked):
            found.append((f"{len(ranked) - len(own)} others", ~np.isin(texts, own)))
        return found


def groups_of(data: Data, split: str, rows: slice, wanted: str) -> Groups | None:
    """Return what points of a split are coloured by.

    Args:
        data: with its labels and conditions.
        split: ``"train"`` or ``"held_out"``.
        rows: which points.
        wanted: ``"none"``, the name of the label or of a condition, or empty for the label, or else the first
            condition, if there is one.

    Raises:
        AnalysisError: neither a label nor a condition has that name.
    """
    if wanted == "none":
        return None
    known: dict[str, Any] = {}
    if data.labels is not None:
        known[data.label_name or "label"] = np.asarray(data.labels)
    if data.conditions is not None:
        known |= recoded(data.conditions.cpu().numpy(), data.condition_columns)
    if not wanted and not known:
        return None
    name = wanted or next(iter(known))
    if name not in known:
        hint = nearest(name, known)
        raise AnalysisError(
            f"colour: got {name!r}{f' ({hint})' if hint else ''}; expected "
            f"{' or '.join(map(repr, known)) if known else 'none, since the data have neither labels nor conditions'}"
        )
    values = np.asarray(known[name])
    part = values[: len(data.train)] if split == "train" else values[len(data.train) :]
    return Groups(name, part[rows])
