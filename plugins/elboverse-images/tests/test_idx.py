"""The IDX reader: what it reads, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from elboverse_images.idx import read_images
from image_files import HEADER, idx_bytes, random_images, write_plain, write_zipped

from elboverse.errors import DataError

IMAGES = random_images(5)


def failure(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_images(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def test_a_plain_file_gives_its_images(tmp_path: Path) -> None:
    assert np.array_equal(read_images(write_plain(tmp_path, "images", IMAGES)), IMAGES)


def test_a_zipped_file_gives_its_images(tmp_path: Path) -> None:
    assert np.array_equal(read_images(write_zipped(tmp_path, "images", IMAGES)), IMAGES)


def test_gzip_is_recognised_by_content_and_not_by_name(tmp_path: Path) -> None:
    zipped = write_zipped(tmp_path, "images", IMAGES)
    assert np.array_equal(read_images(zipped.rename(tmp_path / "images")), IMAGES)


def test_images_need_not_be_square(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_images(write_plain(tmp_path, "images", images)), images)


@pytest.mark.parametrize("zipped", [False, True])
def test_every_truncation_is_reported(tmp_path: Path, zipped: bool) -> None:
    content = idx_bytes(IMAGES[:1])
    content = gzip.compress(content) if zipped else content
    for length in range(len(content)):
        message = failure(tmp_path / "images", content[:length])
        assert "truncated" in message or "damaged" in message


def test_a_truncated_file_says_what_is_there_and_what_should_be(tmp_path: Path) -> None:
    message = failure(tmp_path / "images", gzip.compress(idx_bytes(IMAGES)[:-100]))
    assert "truncated: it declares 5 images of 28 × 28 pixels, 3,920 bytes; 3,820 found" in message


def test_bytes_after_the_images_are_reported(tmp_path: Path) -> None:
    assert "damaged: it declares 5 images of 28 × 28 pixels" in failure(tmp_path / "images", idx_bytes(IMAGES) + b"\0")


def test_a_file_of_labels_is_refused(tmp_path: Path) -> None:
    labels = (0x801).to_bytes(4, "big") + (20).to_bytes(4, "big") + bytes(20)
    assert "first bytes are 0x00000801, expected 0x00000803" in failure(tmp_path / "labels", labels)


@pytest.mark.parametrize("shape", [(0, 28, 28), (5, 0, 28), (5, 28, 0)])
def test_a_file_without_images_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    assert "expected at least one of each" in failure(tmp_path / "images", HEADER.pack(0x803, *shape))


@pytest.mark.parametrize("zipped", [False, True])
def test_more_than_the_file_can_hold_is_refused_before_memory_is_taken(tmp_path: Path, zipped: bool) -> None:
    content = HEADER.pack(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(50)
    assert "more than the file can hold" in failure(tmp_path / "images", gzip.compress(content) if zipped else content)


def test_a_gzip_bomb_is_unpacked_no_further_than_it_declares(tmp_path: Path) -> None:
    bomb = gzip.compress(HEADER.pack(0x803, 1, 28, 28) + bytes(64 * 2**20))
    tracemalloc.start()
    try:
        message = failure(tmp_path / "images.gz", bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "784 bytes; more found" in message
    assert peak < 4 * 2**20


def test_a_damaged_gzip_file_is_refused_by_its_own_sum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(IMAGES)))
    content[-8] ^= 0xFF
    assert "damaged gzip file: CRC check failed" in failure(tmp_path / "images.gz", bytes(content))


def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(np.zeros((5, 28, 28), dtype=np.uint8))))
    content[12] ^= 0xFF
    assert "images.gz: " in failure(tmp_path / "images.gz", bytes(content))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: cannot be read: No such file"):
        read_images(tmp_path / "missing")
