"""The language of messages, help texts and pages: the house grammar, and nothing of the one before it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("elboverse", "plugins", "docs", "configs", "tests")
FORMER = ("given, " + "allowed", "is " + "no ", "may be " + "given again", "go " + "on with", "exists " + "already")
"""What the house no longer writes: `got X; expected Y`, `is not a`, `repeatable`, `resume` and `already exists` are."""


def written() -> list[Path]:
    pages = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in {".py", ".md", ".toml"}]
    return [ROOT / "README.md", *(path for path in pages if not {"site", ".venv", ".nox"} & set(path.parts))]


@pytest.mark.parametrize("words", FORMER)
def test_no_message_and_no_page_is_written_in_the_former_grammar(words: str) -> None:
    pattern = re.compile(rf"\b{words}", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in written()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found
