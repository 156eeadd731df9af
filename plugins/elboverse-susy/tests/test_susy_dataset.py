"""SUSY as elboverse sees it: where it is looked for, what is cached, and what is trained on."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path

import attrs
import elboverse_susy
import numpy as np
import pooch
import pytest
import torch
from elboverse_susy import cache as cache_module
from elboverse_susy import sources
from elboverse_susy.cache import cached_features
from elboverse_susy.dataset import FEATURES, SusyOptions, build_susy
from susy_files import as_text, random_features, write

from elboverse import testing
from elboverse.errors import DataError

ROWS = random_features(40)
TEXT = as_text(ROWS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "mine" / "SUSY.csv", TEXT)


def test_the_dataset_keeps_its_contract(path: Path) -> None:
    (component,) = elboverse_susy.elboverse_datasets()
    data = testing.check_dataset(component, path=str(path))
    assert data.shape == (18,)
    assert data.names == FEATURES


def test_half_is_held_out_and_train_is_scaled_to_the_unit_interval(path: Path) -> None:
    data = build_susy(SusyOptions(path=path), 0)
    assert data.train.shape == data.held_out.shape == (20, 18)
    assert torch.equal(data.train.amin(0), torch.zeros(18))
    assert torch.allclose(data.train.amax(0), torch.ones(18))


def test_points_are_the_rows_of_the_file(path: Path) -> None:
    data = build_susy(SusyOptions(path=path, scaling="none"), 3)
    found = np.concatenate([data.train.numpy(), data.held_out.numpy()])
    assert np.array_equal(np.unique(found, axis=0), np.unique(ROWS, axis=0))


def test_n_samples_takes_the_first_rows(path: Path) -> None:
    data = build_susy(SusyOptions(path=path, n_samples=10, scaling="none"), 0)
    found = np.concatenate([data.train.numpy(), data.held_out.numpy()])
    assert np.array_equal(np.unique(found, axis=0), np.unique(ROWS[:10], axis=0))


def test_nothing_needs_to_be_held_out(path: Path) -> None:
    data = build_susy(SusyOptions(path=path, held_out=0.0), 0)
    assert (len(data.train), len(data.held_out)) == (40, 0)


def test_more_rows_than_there_are_is_an_error(path: Path) -> None:
    with pytest.raises(DataError, match=r"got dataset\.n_samples = 41, but it has 40 rows"):
        build_susy(SusyOptions(path=path, n_samples=41), 0)


def test_the_second_start_reads_the_cache_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_susy(SusyOptions(path=path), 0)

    def forbidden(*_: object) -> None:
        raise AssertionError("the text was read again")

    monkeypatch.setattr(cache_module, "read_blocks", forbidden)
    assert build_susy(SusyOptions(path=path), 0).fingerprint == first.fingerprint
    assert len(build_susy(SusyOptions(path=path, n_samples=30), 1).train) == 15


def test_a_file_that_has_changed_is_read_again(path: Path) -> None:
    cached_features(path, FEATURES)
    changed = random_features(40, seed=1)
    status = path.stat()
    write(path, as_text(changed))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert np.array_equal(cached_features(path, FEATURES), changed)


def test_a_cache_file_that_is_not_whole_is_made_again(path: Path) -> None:
    cached_features(path, FEATURES)
    cached = cache_module.cache_file(path)
    cached.write_bytes(cached.read_bytes()[:-100])
    assert np.array_equal(cached_features(path, FEATURES), ROWS)


def test_writing_into_the_points_leaves_the_cache_as_it_was(path: Path) -> None:
    cached_features(path, FEATURES)[:] = 7
    assert np.array_equal(cached_features(path, FEATURES), ROWS)


def test_a_fault_leaves_no_file_in_the_cache(path: Path, cache: Path) -> None:
    write(path, TEXT + "1,2\n")
    with pytest.raises(DataError, match="line 41: 2 columns found"):
        build_susy(SusyOptions(path=path), 0)
    assert list((cache / "prepared").iterdir()) == []


def test_a_file_without_rows_is_refused(path: Path) -> None:
    write(path, "")
    with pytest.raises(DataError, match="it holds no row"):
        build_susy(SusyOptions(path=path), 0)


def test_a_full_disk_is_reported_and_leaves_nothing(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="cannot be written: the disk is full; free some space"):
        build_susy(SusyOptions(path=path), 0)
    assert list((cache / "prepared").iterdir()) == []


def test_the_cache_comes_before_the_systems_folder_and_the_users_path_before_both(cache: Path, path: Path) -> None:
    write(sources.SYSTEM_FOLDER / "SUSY.csv.gz", as_text(ROWS[:10]))
    assert len(build_susy(SusyOptions(), 0).train) == 5
    write(cache / "susy.zip", as_text(ROWS[:20]))
    assert len(build_susy(SusyOptions(), 0).train) == 10
    assert len(build_susy(SusyOptions(path=path), 0).train) == 20


def test_a_missing_file_is_reported_with_every_place_and_what_to_do(cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        build_susy(SusyOptions(), 0)
    assert all(str(place) in str(caught.value) for place in (cache / "SUSY.csv", sources.SYSTEM_FOLDER / "susy.zip"))
    assert "elboverse data fetch susy" in str(caught.value)


def test_the_users_path_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file; dataset\.path names the file"):
        build_susy(SusyOptions(path=tmp_path / "nowhere.csv", download=True), 0)


def test_a_download_happens_on_request_only_and_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path) -> str:
        asked.append(url)
        return str(write(path / fname, TEXT))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(build_susy(SusyOptions(download=True), 0).train) == 20
    assert SusyOptions().fetch() == cache / "susy.zip"
    assert asked == [sources.URL]


def test_a_download_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"failed: no route to host\. Check the network, or put the file into"):
        SusyOptions().fetch()


def test_the_entry_point_names_this_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["elboverse"] == {"susy": elboverse_susy.__name__}


def test_every_option_is_documented_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"| `{field.name}` |" in readme for field in attrs.fields(SusyOptions))
