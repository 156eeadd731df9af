"""The public API: listed in one place, importable, described, and all that a plugin of ours or a stranger's imports."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from elboverse.components.hookspecs import HOOKS
from elboverse.public import PUBLIC

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins" / "public.md"
PLUGINS = sorted(
    path
    for pattern in (
        "plugins/*/elboverse_*/**/*.py",
        "tests/components/strangers/*/*.py",
        "tests/components/stranger/*/*.py",
    )
    for path in ROOT.glob(pattern)
)
TEMPLATES = sorted((ROOT / "elboverse" / "cli" / "templates").glob("*.py.txt"))


def imports(text: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything of ours that a program imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "elboverse":
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("module", PUBLIC)
def test_what_a_public_module_lists_is_there(module: str) -> None:
    if module == "elboverse.sklearn":
        pytest.importorskip("sklearn")
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in found.__all__)
    assert found.__doc__


def test_the_page_lists_the_public_modules_with_what_they_are_for() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == dict(PUBLIC)


@pytest.mark.parametrize("kind", HOOKS)
def test_every_kind_has_a_page_with_a_whole_plugin_of_it(kind: str) -> None:
    spelt = {"annealing": "schedule"}.get(kind, kind)
    page = (ROOT / "docs" / "plugins" / f"{spelt}.md").read_text(encoding="utf-8")
    assert f"@hookimpl\ndef {HOOKS[kind]}()" in page
    assert f"from elboverse.testing import check_{spelt}" in page
    assert "**cannot**" in page
    assert f"(plugins/{spelt}.md)" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*PLUGINS, *TEMPLATES], ids=lambda path: path.parent.name + "/" + path.name)
def test_a_plugin_imports_public_names_alone(path: Path) -> None:
    text = re.sub(r"@(\w+)@", r"\1", path.read_text(encoding="utf-8"))
    for module, name in imports(text):
        assert module in PUBLIC, module
        listed = importlib.import_module(module).__all__
        assert name in listed or f"{module}.{name}" in PUBLIC, f"{module}.{name}"
