"""The code blocks of the documentation are run: in order, page by page, in a folder of its own.

A Python block is executed, a TOML block is loaded as a config. A comment before a block changes that:
`<!-- file: NAME -->` writes it to a file, which is on the import path, and `<!-- not run -->` leaves it out. A page
that writes a `pyproject.toml` has its plugin installed, as far as Python's metadata are concerned. Blocks `console`,
and the files that the tutorial writes, are run by docs/console.py (`nox -s docs`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from elboverse.config import load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!--\s*(?P<mark>not run|file:\s*(?P<file>\S+))\s*-->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    language: str
    code: str
    line: int
    file: str | None
    runs: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(match["language"], match["code"], line, match["file"], match["mark"] != "not run")


def install(folder: Path, pyproject: str) -> str:
    """Write what pip would record of a project, and return the names of its plugins."""
    project = tomllib.loads(pyproject)["project"]
    name, version = project["name"], project["version"]
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    entries = project["entry-points"]["elboverse"]
    lines = [f"{plugin} = {module}" for plugin, module in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[elboverse]", *lines]), encoding="utf-8")
    return ",".join(entries)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = set(sys.modules)
    try:
        for block in blocks(page):
            if block.file is not None:
                path = tmp_path / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.code, encoding="utf-8")
                if path.name == "pyproject.toml":
                    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", install(tmp_path, block.code))
            elif block.runs and block.language == "python":
                code = "\n" * block.line + block.code  # so that a traceback shows the page's own lines
                exec(compile(code, str(page), "exec"), module.__dict__)
            elif block.runs and block.language == "toml":
                load(tomllib.loads(block.code))
    finally:
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def test_blocks_are_found_with_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    lines = (
        "# Head", "", "```python", "a = 1", "```", "", "<!-- not run -->", "```toml", "b = 2", "```", "",
        "<!-- file: x/y.py -->", "```python", "```", "",
    )  # fmt: skip
    page.write_text("\n".join(lines), encoding="utf-8")
    assert list(blocks(page)) == [
        Block("python", "a = 1\n", 3, None, True),
        Block("toml", "b = 2\n", 8, None, False),
        Block("python", "", 13, "x/y.py", True),
    ]


def test_the_page_on_the_command_line_is_up_to_date() -> None:
    # In a process of its own: click keeps the help option of whichever way a command was called first.
    code = f"import runpy; print(runpy.run_path({str(ROOT / 'docs' / 'generate_cli.py')!r})['page'](), end='')"
    page = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page, "run: nox -s docs"
