"""The long version of `tests/running/test_crashes.py`: more than a hundred kills at random moments and amid snapshots.

`pytest tests/soak/kills.py`; the default session leaves it out by its name.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from support.killing import kill_and_resume


def test_a_hundred_kills_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = kill_and_resume(tmp_path, kills=120, seed=2, longest=1.5)
    with capsys.disabled():
        print(f"\n{attrs.asdict(tally)}")  # noqa: T201 - the figures of docs/reliability.md
    assert tally.kills >= 100
    assert tally.inside_a_snapshot >= 10
    assert tally.largest_step > 80
