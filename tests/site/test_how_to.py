"""The shell commands of the how-to pages are run, shortened, or say in a comment why they are not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from elboverse.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```sh\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ("--set", "training.epochs=1")


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command that is run, without its comment."""
    found = [match["code"] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if not match["reason"]]
    return [shlex.split(line, comments=True) for code in found for line in code.splitlines() if line.strip()]


def test_there_are_commands_to_run() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 6


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "")
    run("train", "circle", "--out", "runs/circle", "--quiet", *SHORT)  # what the pages take to be there
    for program, *words in commands(page):
        assert program == "elboverse", f"{page.name}: {program} is run by nobody; say why not"
        run(*words, *(SHORT if words[:2] == ["train", "circle"] else ()))


def run(*words: str) -> None:
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, " ".join(words)  # noqa: PT017 - the exit code is what is tested
