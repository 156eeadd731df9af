"""How-to scripts, run as users run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from elboverse.runfile import Run

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def run_script(name: str, out: Path) -> tuple[str, Run]:
    done = subprocess.run(
        [sys.executable, str(HOW_TO / name), str(out)], capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout, Run.open(out)
