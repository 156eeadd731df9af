"""Where files are looked for, in which order, and what a download leaves behind."""

from __future__ import annotations

import gc
import hashlib
import warnings
from pathlib import Path

import pytest
from elboverse_images import datasets, sources
from elboverse_images.datasets import FashionMnistOptions, MnistOptions
from elboverse_images.sources import HELD_OUT, TRAIN, Source, locate
from image_files import random_images, write_plain, write_zipped

from elboverse.errors import DataError

NOWHERE = Source("digits", "http://127.0.0.1:9/", {TRAIN: "0" * 32, HELD_OUT: "0" * 32})
IMAGES = random_images(2)


def find(root: Path | None = None, *, source: Source = NOWHERE, download: bool = False) -> Path:
    return locate(source, TRAIN, root, download=download)


def failure(root: Path | None = None, *, source: Source = NOWHERE, download: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        find(root, source=source, download=download)
    return str(caught.value)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_users_cache_comes_before_the_systems_folder(cache: Path) -> None:
    in_system = write_zipped(sources.SYSTEM_FOLDER / "digits", TRAIN, IMAGES)
    assert find() == in_system
    in_cache = write_zipped(cache / "digits", TRAIN, IMAGES)
    assert find() == in_cache


def test_the_root_is_the_only_folder_if_one_is_given(cache: Path, tmp_path: Path) -> None:
    write_zipped(cache / "digits", TRAIN, IMAGES)
    root = tmp_path / "mine"
    message = failure(root, download=True)
    assert f"no file {TRAIN} or {TRAIN}.gz in {root}; dataset.root is the only folder looked in" in message
    in_root = write_zipped(root, TRAIN, IMAGES)
    assert find(root) == in_root


def test_a_plain_file_comes_before_a_zipped_one(cache: Path) -> None:
    write_zipped(cache / "digits", TRAIN, IMAGES)
    plain = write_plain(cache / "digits", TRAIN, IMAGES)
    assert find() == plain


def test_without_download_the_message_lists_every_place_and_what_to_do(cache: Path) -> None:
    message = failure()
    assert (
        f"digits: no file {TRAIN} or {TRAIN}.gz in {cache / 'digits'} or {sources.SYSTEM_FOLDER / 'digits'}" in message
    )
    assert "put it there, or set dataset.download to true" in message


def test_a_download_is_checked_kept_and_found_the_next_time(cache: Path, server: tuple[str, Path]) -> None:
    url, served = server
    content = write_zipped(served, TRAIN, IMAGES).read_bytes()
    source = Source("digits", url, {TRAIN: hashlib.md5(content, usedforsecurity=False).hexdigest()})
    fetched = find(source=source, download=True)
    assert fetched == cache / "digits" / f"{TRAIN}.gz"
    assert fetched.read_bytes() == content
    (served / f"{TRAIN}.gz").unlink()
    assert find(source=source, download=True) == fetched
    assert files_below(cache) == [fetched]


def test_a_download_that_is_not_the_known_file_is_refused_and_leaves_nothing(
    cache: Path, server: tuple[str, Path]
) -> None:
    url, served = server
    write_zipped(served, TRAIN, IMAGES)
    message = failure(source=Source("digits", url, {TRAIN: "0" * 32}), download=True)
    assert f"downloading {url}{TRAIN}.gz failed" in message
    assert "does not match the known hash" in message
    assert files_below(cache) == []


def test_a_file_that_the_server_lacks_is_reported_and_leaves_nothing(cache: Path, server: tuple[str, Path]) -> None:
    url, _ = server
    message = failure(source=Source("digits", url, {TRAIN: "0" * 32}), download=True)
    with warnings.catch_warnings():  # pooch does not close the connection of a refused request; it is collected here
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert "404" in message
    assert str(cache / "digits") in message
    assert files_below(cache) == []


def test_a_network_that_is_not_there_is_reported_with_every_place(cache: Path) -> None:
    message = failure(source=Source("digits", "http://files.invalid/", {TRAIN: "0" * 32}), download=True)
    assert str(cache / "digits") in message
    assert str(sources.SYSTEM_FOLDER / "digits") in message
    assert "Check the network, or put the file into one of these folders" in message


def test_a_cache_that_cannot_be_written_is_reported(cache: Path, server: tuple[str, Path]) -> None:
    url, served = server
    write_zipped(served, TRAIN, IMAGES)
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert "failed" in failure(source=Source("digits", url, {TRAIN: "0" * 32}), download=True)


@pytest.mark.parametrize("source", [sources.MNIST, sources.FASHION_MNIST])
def test_every_file_that_is_read_has_a_known_sum(source: Source) -> None:
    assert set(source.md5) == {TRAIN, HELD_OUT}
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in source.md5.values())
    assert source.url.endswith("/")


def test_mnist_says_where_it_looks_and_fetches_both_files(
    cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    md5 = {
        name: hashlib.md5(write_zipped(served, name, IMAGES).read_bytes(), usedforsecurity=False).hexdigest()
        for name in (TRAIN, HELD_OUT)
    }
    monkeypatch.setattr(datasets, "MNIST", Source("mnist", url, md5))
    options = MnistOptions()
    assert options.places()[0] == cache / "mnist" / TRAIN
    assert options.fetch() == cache / "mnist"
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == [f"{HELD_OUT}.gz", f"{TRAIN}.gz"]


def test_fashion_mnist_is_looked_for_in_its_own_folders(cache: Path, tmp_path: Path) -> None:
    assert FashionMnistOptions().places()[3] == sources.SYSTEM_FOLDER / "fashion-mnist" / f"{TRAIN}.gz"
    for name in (TRAIN, HELD_OUT):
        write_plain(tmp_path / "mine", name, IMAGES)
    assert FashionMnistOptions(root=tmp_path / "mine").fetch() == tmp_path / "mine"
