"""Faces: packages whose public names are imported from their modules at first use.

``elboverse --help`` must answer at once, and reading a run needs no torch, so a package's ``__init__`` names where each
of its public names lives and imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

__all__ = ["found_in"]


def found_in(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return a public name of a package, importing the module that defines it.

    Args:
        package: the package's ``__name__``.
        homes: public name → dotted path of the module that defines it, and ``:name`` where it has another name
            there.
        name: the attribute asked for.

    Raises:
        AttributeError: the package has no such public name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, _, attribute = homes[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
