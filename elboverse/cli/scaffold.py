"""What ``elboverse plugins new`` writes: a package that installs, passes its own tests, and is ready to publish."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from elboverse._version import __version__
from elboverse.components.hookspecs import CONTRACT, HOOKS
from elboverse.errors import ConfigError

__all__ = ["SPELLINGS", "WRITTEN", "write_plugin"]

WRITTEN: Final = tuple(HOOKS)
"""The kinds that a package can be written for: all that there are."""

SPELLINGS: Final[Mapping[str, str]] = {
    "schedule": "annealing",
    "optimizer": "optimiser",
    "regularizer": "regulariser",
    "weight-constraint": "constraint",
}
"""What people call a kind otherwise."""


def write_plugin(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the package of a plugin into a new folder and return its files.

    Args:
        name: of the distribution, such as ``elboverse-rings``; what follows ``elboverse-`` is the component's name.
        kind: one of `WRITTEN`, or one of `SPELLINGS`.
        folder: where the folder ``name`` is made.

    Raises:
        ConfigError: the name cannot be that of a package, or the folder is there already.
    """
    kind = SPELLINGS.get(kind, kind)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ConfigError(f"NAME: got {name!r}; expected lower-case letters, digits and dashes, as in elboverse-rings")
    place = folder / name
    if place.exists():
        raise ConfigError(f"{place}: already exists; choose another name, or another folder with --out")
    short = name.removeprefix("elboverse-")
    values = {
        "@name@": name,
        "@module@": name.replace("-", "_"),
        "@short@": short,
        "@identifier@": short.replace("-", "_"),
        "@kind@": kind,
        "@hook@": HOOKS[kind],
        "@contract@": str(CONTRACT),
        "@version@": __version__,
    }
    templates = resources.files("elboverse.cli") / "templates"
    component = (templates / f"{kind}.py.txt").read_text(encoding="utf-8")
    code, _, tests = component.partition("# ---- tests ----\n")
    contents = {
        "pyproject.toml": (templates / "pyproject.toml.txt").read_text(encoding="utf-8"),
        "README.md": (templates / "README.md.txt").read_text(encoding="utf-8"),
        ".github/workflows/tests.yml": (templates / "tests.yml.txt").read_text(encoding="utf-8"),
        "@module@/__init__.py": (templates / "init.py.txt").read_text(encoding="utf-8"),
        "@module@/component.py": code.rstrip() + "\n",
        "@module@/py.typed": "",
        "tests/test_@module@.py": tests,
    }
    written = []
    for path, text in contents.items():
        target = place / _filled(path, values)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(text, values), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error
        written.append(target)
    return written


def _filled(text: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text
