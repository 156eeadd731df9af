"""Modules under the names that they had in an older contract that is still kept: a plugin that imports one works on.

Only while a plugin is imported are they found, and the plugin is told. `elboverse` itself has no such names.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from elboverse.components.hookspecs import CONTRACT

__all__ = ["MOVED", "former_modules", "where_moved"]

MOVED: Final[Mapping[str, str]] = {
    "elboverse.structuring": "elboverse.config.structuring",
    "elboverse.hookspecs": "elboverse.components.hookspecs",
    "elboverse.registry": "elboverse.components.registry",
    "elboverse.conformance": "elboverse.components.conformance",
    "elboverse.gaussian": "elboverse.theory.gaussian",
    "elboverse.elbo": "elboverse.theory.elbo",
    "elboverse.identities": "elboverse.theory.identities",
    "elboverse.cache": "elboverse.data.cache",
    "elboverse.launching": "elboverse.contracts.launcher",
    "elboverse.trained": "elboverse.analysis.trained",
    "elboverse.builtin.models.network_vae": "elboverse.models.network_vae",
}
"""Where modules of contract 1 that plugins import are in contract 2."""


def where_moved(error: BaseException) -> str:
    """Return what to change where an import failed because a module of ours has another place now; else nothing."""
    name = error.name if isinstance(error, ImportError) else None
    return f"; {told(name)}" if name is not None and name in MOVED else ""


def told(name: str) -> str:
    """Return what to change where a module is imported by its former name."""
    return (
        f"{name} is {MOVED[name]} since contract 2: change that import, since contract {CONTRACT + 1} will not know "
        "its former name"
    )


@contextmanager
def former_modules() -> Iterator[list[str]]:
    """Let what is imported within find modules under their former names; yields those that were, as they come."""
    used: list[str] = []
    finder = _Finder(used)
    sys.meta_path.append(finder)  # the last: what is there under that name is found first
    try:
        yield used
    finally:
        sys.meta_path.remove(finder)
        for name in used:
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            vars(sys.modules[parent]).pop(child, None)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, used: list[str]) -> None:
        self._used = used

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - as any finder
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        present = importlib.import_module(MOVED[spec.name])
        self._used.append(spec.name)
        former = ModuleType(spec.name, present.__doc__)

        def found(name: str) -> Any:
            return getattr(present, name)

        vars(former)["__getattr__"] = found
        return former

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: everything is looked up in the module under its present name."""
