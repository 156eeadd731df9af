"""Where a config's data are: places that are relative to the config's file are made absolute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["PLACES", "anchored"]

PLACES: Final = ("path", "root")
"""What options call the place of a dataset's files; it may differ wherever the fingerprint agrees."""


def anchored(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a raw table with the place of its data as an absolute path, so that it is found from any folder.

    A relative place counts from `folder`; where nothing is there but the present folder has it, from the latter.

    Args:
        table: of a config.
        folder: that of the config's file.
    """
    dataset = table.get("dataset")
    if not isinstance(dataset, Mapping):
        return dict(table)
    found = dict(dataset)
    for key in PLACES:
        value = found.get(key)
        if not isinstance(value, str) or not value.strip() or "://" in value:
            continue
        try:
            path = Path(value).expanduser()
            if not path.is_absolute():
                beside = folder / path
                path = Path.cwd() / path if not beside.exists() and path.exists() else beside
            found[key] = os.path.normpath(path)
        except (OSError, RuntimeError, ValueError):  # a name too long, no such user: told where the file is read
            continue
    return {**table, "dataset": found}
