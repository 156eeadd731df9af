"""The examples of the docstrings are run, and the public mathematics has them."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import elboverse

THEORY = ("identities", "gaussian", "elbo", "importance", "linear_optimum")
FACES = {  # what a Python user meets first
    "runfile/reader.py": ("Run",),
    "analysis/making.py": ("analyze",),
    "analysis/trained.py": ("load",),
    "integrations/recording.py": ("record",),
    "integrations/judging.py": ("judge",),
    "integrations/explaining.py": ("explain_loss",),
}
HOME = Path(elboverse.__file__).parent


def with_examples() -> Iterator[str]:
    """Yield the modules that have examples, by name; their text is looked at before they are imported."""
    for found in pkgutil.walk_packages([str(HOME)], "elboverse."):
        path = HOME.joinpath(*found.name.split(".")[1:])
        source = path / "__init__.py" if found.ispkg else path.with_suffix(".py")
        if ">>> " in source.read_text(encoding="utf-8"):
            yield found.name


@pytest.mark.parametrize("name", list(with_examples()))
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "elboverse.sklearn":
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert failed == 0


@pytest.mark.parametrize("module", THEORY)
def test_public_functions_of_the_theory_have_an_example(module: str) -> None:
    tree = ast.parse(HOME.joinpath("theory", f"{module}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    described = {function.name: ast.get_docstring(function) or "" for function in functions}
    assert [name for name, text in described.items() if ">>> " not in text] == []


@pytest.mark.parametrize(("path", "names"), list(FACES.items()))
def test_what_a_python_user_meets_first_has_an_example(path: str, names: tuple[str, ...]) -> None:
    tree = ast.parse(HOME.joinpath(path).read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names]
    assert [node.name for node in nodes if ">>> " not in (ast.get_docstring(node) or "")] == []
    assert len(nodes) == len(names)
