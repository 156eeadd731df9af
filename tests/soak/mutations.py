"""The long version of the first test of `tests/running/test_hostile_inputs.py`: 6,000 damaged copies of real run files.

`pytest tests/soak/mutations.py`; the default session leaves it out by its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.mutating import in_a_child
from support.reliable import small

from elboverse.running.runs import train


@pytest.mark.parametrize(
    ("settings", "count"),
    [({"model": "vae-1"}, 4000), ({"model": "vae-2", "replicas": 3, "epochs": 20}, 2000)],
    ids=str,
)
def test_no_damaged_copy_crashes_hangs_or_is_read_as_another(
    tmp_path: Path, settings: dict[str, Any], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(small(**settings), out=tmp_path / "one").path
    other = train(small(**settings, seed=1), out=tmp_path / "two").path
    tally = in_a_child(path, other, count, seed=12)
    with capsys.disabled():
        print(f"\n{tally}")  # noqa: T201 - the figures of docs/reliability.md
    assert tally["copies"] == count
    assert tally["unnamed"] == 0
    assert tally["refused"] > 0.8 * count
