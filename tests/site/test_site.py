"""The documentation as a reader meets it: links, figures, the commands' output, examples, notebooks, in a browser."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHOTOGRAPHED = (
    *("tutorial/train.html", "tutorial/converged.html", "tutorial/latents.html", "tutorial/own-data.html"),
    *("reference/configuration.html", "reference/python.html", "reference/run-file.html"),
)


class Page(HTMLParser):
    """The anchors and references of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.references: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        links = [values[name] for name in ("href", "src") if name in values]
        self.references += links
        if tag in {"script", "img", "iframe", "source"} or (tag == "link" and "stylesheet" in values.get("rel", "")):
            self.loaded += links


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def broken(pages: dict[Path, Page], site: Path) -> Iterator[str]:
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are for a server's root
        for reference in page.references:
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file():
                yield f"{path.relative_to(site)}: {reference}: no such file"
            elif anchor and target in pages and anchor not in pages[target].anchors | {"__codelineno-0-1"}:
                yield f"{path.relative_to(site)}: {reference}: no such place on that page"


def test_every_link_of_the_site_leads_somewhere(pages: dict[Path, Page], site: Path) -> None:
    assert len(pages) > 40
    assert list(broken(pages, site)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text('<a href="b.html">b</a><a href="#c">c</a><a id="d" href="#d">d</a>', encoding="utf-8")
    assert len(list(broken({path: Page(path)}, tmp_path))) == 2


def test_pages_load_nothing_from_the_network(pages: dict[Path, Page]) -> None:
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []


def test_formulas_are_shown_without_a_script(site: Path) -> None:
    text = (site / "explanation" / "entropies.html").read_text(encoding="utf-8")
    assert text.count("<math") >= 6
    assert "\\mathrm" not in text
    assert "\\frac" not in text


def test_examples_of_docstrings_are_code(site: Path) -> None:
    text = (site / "reference" / "theory.html").read_text(encoding="utf-8")
    assert text.count("Examples:") > 10
    assert "<blockquote>" not in text


def test_every_key_of_a_component_has_a_type_and_a_meaning() -> None:
    page = runpy.run_path(str(DOCS / "generate_configuration.py"))["page"]()
    rows = [line.replace("\\|", "").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if not row[1].strip() or not row[4].strip(" |")] == []


def test_the_tutorial_shows_what_the_program_prints() -> None:
    done = subprocess.run([sys.executable, str(DOCS / "console.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nrun: python docs/console.py --write"


@pytest.mark.parametrize("name", ["own-table", "own-variant"])
def test_a_notebook_runs_and_shows_what_it_did(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    path = DOCS / "notebooks" / f"{name}.ipynb"
    shown = nbformat.read(path, as_version=4)
    executed = runpy.run_path(str(DOCS / "execute_notebooks.py"))["executed"](path)
    assert [kinds(cell) for cell in executed.cells] == [kinds(cell) for cell in shown.cells]
    assert any("image/png" in kind for cell in shown.cells for kind in kinds(cell))


def kinds(cell: Any) -> list[list[str]]:
    outputs = cell.get("outputs", [])
    return [sorted(output.get("data", {output["output_type"]: ""})) for output in outputs]


@pytest.mark.skipif(CHROMIUM is None, reason="there is not a Chromium on this machine")
@pytest.mark.parametrize("page", PHOTOGRAPHED)
def test_a_browser_shows_the_page(page: str, site: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    target = tmp_path / "page.png"
    subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--window-size=1280,1600", f"--screenshot={target}",
         (site / page).as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with image.open(target) as shot:
        assert shot.size == (1280, 1600)
        colours = shot.convert("L").getcolors(256)
        assert len(colours) > 50  # text and tables, not an empty page or one without its style sheet
        assert max(count for count, _ in colours) < 0.97 * 1280 * 1600
        blue = shot.convert("RGB").getpixel((400, 20))
    assert blue[2] > blue[0] + 50, "the head of the page has the theme's colour"
