"""No test here sees the machine's own caches and data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from elboverse_susy import sources


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache of SUSY, empty; the system has no data sets."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(sources, "SYSTEM_FOLDER", tmp_path / "system" / "susy")
    return tmp_path / "cache" / "elboverse" / "susy"
