"""Run the commands that the tutorial shows and write, or compare, what they print.

    python docs/console.py            # compare; says where a page shows something else than the program prints
    python docs/console.py --write    # write the pages' outputs anew

The pages are run in the order of the tutorial, all in one folder. A block `console` has commands, each after `$ `, and
below them what they print. `<!-- keep: 12 -->` before it keeps the first lines of that alone, `<!-- keep: -5 -->` the
last; `<!-- file: NAME -->` before another block writes it to a file first. Numbers and layout differ between
processors and are not compared; words are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ORDER = ["install", "train", "converged", "latents", "choose-h", "own-data", "own-model"]
PAGES = [DOCS / "tutorial" / f"{name}.md" for name in ORDER]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>keep|file): (?P<value>\S+) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
PROGRESS = re.compile(r"^step [\d,]+/.*$\n(?=step )", re.M)
HOME = "~/tutorial"


def output_of(command: str, folder: Path) -> str:
    """Return what a command prints on a terminal's two streams, in order, without what changes from run to run."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "110", "PYTHONPATH": str(folder), "NO_COLOR": "1",
        "ELBOVERSE_LOAD_PLUGINS": "",
    }  # fmt: skip
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, check=False, **streams)  # noqa: S603, S607
    text = PROGRESS.sub("", done.stdout.replace(str(folder), HOME))
    return "\n".join(line.rstrip() for line in text.splitlines())


def folded(line: str) -> list[str]:
    """Return a line, a long sentence as several; a row of a table, or a rule, stays as it is."""
    if "  " in line.strip() or "──" in line or len(line.split()) <= line.count(","):
        return [line]
    width = {"width": 96, "subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(line, **width) or [line]  # type: ignore[arg-type]


def kept(output: str, count: int) -> str:
    """Return the first lines, or the last if `count` is negative, with a mark where others were left out."""
    lines = output.splitlines()
    if len(lines) <= abs(count):
        return output
    return "\n".join([*lines[:count], "…"] if count > 0 else ["…", *lines[count:]])


def words(text: str) -> list[str]:
    """Return the words of an output: no numbers, rules or spaces, which depend on the processor."""
    return [word for word in re.split(r"[^A-Za-z_]+", re.sub(r"[\d.,]+e[+-]?\d+", " ", text)) if word not in {"", "e"}]


def run_page(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return a page with its outputs made anew, and where they say something else than before."""
    faults = []

    def renew(match: re.Match[str]) -> str:
        body, count = match["body"], 10**6
        if match["mark"] == "file":
            folder.joinpath(match["value"]).write_text(body, encoding="utf-8")
        elif match["mark"] == "keep":
            count = int(match["value"])
        if match["language"] != "console":
            return match[0]
        commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
        parts = []
        for command in commands:
            shown = kept(output_of(command, folder), count).strip("\n")  # lines as printed: folds move with numbers
            output = "\n".join(part for line in shown.splitlines() for part in folded(line))
            parts.append("\n".join([f"$ {command}", *([output] if output else [])]))
        new = "\n".join(parts) + "\n"
        if words(new) != words(body):
            line = page.read_text(encoding="utf-8").count("\n", 0, match.start("body"))
            faults.append(f"{page.name}:{line}: shows\n{body}\nbut the program prints\n{new}")
        return match[0].replace(body, new)

    return BLOCK.sub(renew, page.read_text(encoding="utf-8")), faults


def main() -> int:
    """Run all pages; return the exit code."""
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for page in PAGES:
            text, wrong = run_page(page, folder)
            if "--write" in sys.argv[1:]:
                page.write_text(text, encoding="utf-8")
            faults += wrong
    if "--write" not in sys.argv[1:]:
        sys.stdout.write("\n".join(faults))
    return bool(faults) and "--write" not in sys.argv[1:]


if __name__ == "__main__":
    sys.exit(main())
