"""Cache files: whole or not there, and errors that say what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from elboverse.data.cache import cache_folder, replacing
from elboverse.errors import DataError


def test_every_dataset_has_a_folder_of_its_own_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"/cache/{name}")
    assert cache_folder("susy") == Path("/cache/elboverse/susy")
    assert cache_folder() == Path("/cache/elboverse")


def test_a_file_takes_the_place_of_the_last_one_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with replacing(path) as file:
        file.write(b"first")
    with replacing(path) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_last_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"second", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "the disk is full; free some space"), (errno.EACCES, "Permission denied")]
)
def test_a_file_that_cannot_be_written_is_reported_with_what_to_do(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(DataError, match=f"file cannot be written: {advice}"), replacing(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written"), replacing(tmp_path / "taken" / "file"):
        pass
