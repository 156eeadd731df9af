"""Keys of a config that have another name now: those of stored configs are read, those of a user are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["RENAMED", "with_present_keys"]

RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "training": {"snapshots": "frames", "snapshot_every_seconds": "save_every_seconds"},
}
"""The present name of each former key, by the table that it is in."""


def with_present_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that was stored under the former names of keys with their present ones.

    Args:
        config: raw, as a run file or the ``sweep.toml`` of a study holds it.

    Example:
        >>> with_present_keys({"training": {"epochs": 3, "snapshots": 5}})
        {'training': {'epochs': 3, 'frames': 5}}
    """
    present = dict(config)
    for name, keys in RENAMED.items():
        table = config.get(name)
        if isinstance(table, Mapping):
            present[name] = {keys.get(key, key): value for key, value in table.items()}
    return present
