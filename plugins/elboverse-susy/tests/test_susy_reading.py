"""What is read from a file of SUSY's form, and how a fault in it is named."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from elboverse_susy import reading
from elboverse_susy.dataset import FEATURES
from elboverse_susy.reading import read_blocks
from susy_files import as_text, random_features, write

from elboverse.errors import DataError

FEATURES_OF_20 = random_features(20)
TEXT = as_text(FEATURES_OF_20)
LINES = TEXT.splitlines(keepends=True)


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(read_blocks(path, FEATURES)))


def fault(path: Path, text: str) -> str:
    with pytest.raises(DataError) as caught:
        read(write(path, text))
    return str(caught.value)


@pytest.mark.parametrize("name", ["SUSY.csv", "SUSY.csv.gz", "susy.zip"])
def test_features_are_read_exactly_whatever_they_are_packed_in(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read(write(tmp_path / name, TEXT)), FEATURES_OF_20)


def test_numbers_are_rounded_to_the_nearest_float32(tmp_path: Path) -> None:
    value = 0.1000000023
    text = ",".join(["1", *[f"{value:.18e}"] * 18]) + "\n"
    assert np.array_equal(read(write(tmp_path / "a.csv", text)), np.full((1, 18), np.float32(value)))


def test_a_file_is_read_block_by_block_without_losing_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    blocks = list(read_blocks(write(tmp_path / "a.csv", TEXT), FEATURES))
    assert len(blocks) > 5
    assert np.array_equal(np.concatenate(blocks), FEATURES_OF_20)


def test_windows_line_ends_and_a_missing_last_one_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.rstrip("\n").replace("\n", "\r\n").encode())
    assert np.array_equal(read(path), FEATURES_OF_20)


@pytest.mark.parametrize("block_bytes", [1000, 1 << 20])
def test_a_fault_is_named_by_its_line_in_the_file_whatever_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    short = ",".join(LINES[12].split(",")[:5]) + "\n"
    message = fault(tmp_path / "a.csv", "".join([*LINES[:12], short, *LINES[13:]]))
    assert message.endswith("a.csv: line 13: 5 columns found; expected 19: label, then features")


def with_field(line: int, column: int, text: str) -> str:
    fields = LINES[line - 1].rstrip("\n").split(",")
    fields[column - 1] = text
    return "".join([*LINES[: line - 1], ",".join(fields) + "\n", *LINES[line:]])


@pytest.mark.parametrize("text", ["broken", "nan", "inf", "1e39", '"1.0"', "", " ", "0x10", "1.5.2"])
def test_what_is_no_finite_number_is_named_by_line_and_column(tmp_path: Path, text: str) -> None:
    message = fault(tmp_path / "a.csv", with_field(7, 10, text))
    assert f"line 7, column 10 (MET_rel): got {text!r}; expected a finite number" in message


@pytest.mark.parametrize("text", ["2.0", "signal", "", "0.5"])
def test_a_label_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    assert f"line 4, column 1: got {text!r}; expected the label" in fault(tmp_path / "a.csv", with_field(4, 1, text))


def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    assert "line 3: 20 columns found" in fault(tmp_path / "a.csv", with_field(3, 19, "1.0,2.0"))


def test_an_empty_line_is_named(tmp_path: Path) -> None:
    assert "line 3: an empty line found" in fault(tmp_path / "a.csv", "".join([*LINES[:2], "\n", *LINES[2:]]))


def test_a_head_line_is_named(tmp_path: Path) -> None:
    assert "line 1, column 1: got 'SUSY'" in fault(tmp_path / "a.csv", "SUSY" + ",x" * 18 + "\n" + TEXT)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\0" * (1 << 17))
    with pytest.raises(DataError, match=r"a\.csv: line 1: 1 column found"):
        read(path)


def test_a_line_without_end_is_refused_before_it_is_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    path = tmp_path / "a.csv"
    path.write_bytes(b"1" * (1 << 18))
    with pytest.raises(DataError, match="a line of more than 65,536 bytes"):
        read(path)


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(DataError, match="damaged or unknown compression"):
        read(path)


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "susy.zip", TEXT)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or unknown compression"):
        read(path)


def test_a_zip_with_several_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "susy.zip", "w") as archive:
        archive.writestr("a.csv", TEXT)
        archive.writestr("b.csv", TEXT)
    with pytest.raises(DataError, match="a zip with 2 files in it"):
        read(tmp_path / "susy.zip")
