"""The user's own arrays: every format, and every way in which a file can be wrong."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from elboverse.builtin.datasets.array import ArrayOptions, build_array
from elboverse.components.registry import Registry
from elboverse.config.structuring import build_converter, structure
from elboverse.contracts import Data
from elboverse.data.reading import limits as file_limits
from elboverse.errors import ConfigError, DataError

POINTS: NDArray[np.float64] = np.random.default_rng(0).normal(size=(20, 3))
FORMATS = ("npy", "npz", "csv", "h5", "hdf5")


def write(path: Path, values: NDArray[np.generic]) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, points=values)
    elif path.suffix == ".csv":
        path.write_text("".join(",".join(map(repr, row)) + "\n" for row in values.tolist()))
    else:
        with h5py.File(path, "w") as file:
            file["points"] = values
    return path


def load(path: Path, key: str | None = None) -> Data:
    return build_array(ArrayOptions(path=path, key=key, held_out=0.0, scaling="none"), 0)


def failure(path: Path, key: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(path, key)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


def in_file_order(data: Data, values: NDArray[np.generic]) -> bool:
    """Whether the training points are those values up to the order that the split gives them."""
    expected = torch.tensor(values.reshape(len(values), -1).astype(float))
    return torch.equal(data.train.double().unique(dim=0), expected.unique(dim=0))


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_gives_the_stored_points(tmp_path: Path, suffix: str) -> None:
    data = load(write(tmp_path / f"points.{suffix}", POINTS))
    assert data.shape == (3,)
    assert data.train.dtype == torch.float64
    assert in_file_order(data, POINTS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_truncation_is_reported_as_an_error_that_names_the_file(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"whole.{suffix}", POINTS).read_bytes()
    part = tmp_path / f"part.{suffix}"
    if suffix == "csv":
        lengths = [0, whole.rstrip(b"\n").rindex(b"\n") + 3]  # within the first cell of the last line
    else:
        lengths = [*range(0, len(whole), 97), len(whole) - 1]
    for length in lengths:
        part.write_bytes(whole[:length])
        failure(part)


@pytest.mark.filterwarnings("ignore:.*variance:RuntimeWarning")  # a damaged value may be an outlier
@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_a_damaged_byte_anywhere_gives_points_or_a_clear_error(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"whole.{suffix}", POINTS).read_bytes()
    damaged = tmp_path / f"damaged.{suffix}"
    refused = 0
    for position in range(0, len(whole), 3):
        content = bytearray(whole)
        content[position] ^= 0xFF
        damaged.write_bytes(content)
        try:
            load(damaged)
        except DataError as error:
            assert str(damaged) in str(error)  # noqa: PT017 - either outcome is right, nothing else is
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_points_have_the_same_fingerprint_in_every_format(tmp_path: Path, suffix: str) -> None:
    reference = build_array(ArrayOptions(path=write(tmp_path / "reference.npy", POINTS)), 3)
    data = build_array(ArrayOptions(path=write(tmp_path / f"points.{suffix}", POINTS)), 3)
    assert data.fingerprint == reference.fingerprint
    assert data.train.shape == data.held_out.shape == (10, 3)


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_images_keep_the_shape_of_one_point(tmp_path: Path, suffix: str) -> None:
    images = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    data = load(write(tmp_path / f"images.{suffix}", images))
    assert data.shape == (4, 3)
    assert data.train.shape == (5, 12)
    assert data.train.dtype == torch.float32
    assert in_file_order(data, images)


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_one_axis_is_points_of_one_dimension(tmp_path: Path, suffix: str) -> None:
    data = load(write(tmp_path / f"line.{suffix}", np.arange(6.0)))
    assert data.shape == (1,)
    assert data.train.shape == (6, 1)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", ">f8", "<i2"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_real_numbers_of_every_type_are_converted(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = (np.arange(12).reshape(6, 2) % 5).astype(dtype)
    data = load(write(tmp_path / f"typed.{suffix}", values))
    kept = {"uint8": torch.uint8, "bool": torch.uint8, "float16": torch.float32, "<i2": torch.float32}
    assert data.train.dtype == kept.get(dtype, torch.float64)
    assert in_file_order(data, values)


def test_fortran_order_is_read_as_such(tmp_path: Path) -> None:
    assert in_file_order(load(write(tmp_path / "fortran.npy", np.asfortranarray(POINTS))), POINTS)


def test_a_compressed_npz_is_read(tmp_path: Path) -> None:
    path = tmp_path / "points.npz"
    np.savez_compressed(path, points=POINTS)
    assert in_file_order(load(path), POINTS)


def test_a_key_chooses_among_several_arrays_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, train=POINTS, labels=np.arange(20))
    assert in_file_order(load(path, "train"), POINTS)


def test_a_key_is_a_path_inside_an_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("group/train", data=POINTS, compression="gzip", chunks=(5, 3))
        file["group/labels"] = np.arange(20)
    assert in_file_order(load(path, "group/train"), POINTS)
    assert in_file_order(load(path, "/group/train"), POINTS)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_several_arrays_need_a_key_and_the_message_lists_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"two.{suffix}"
    if suffix == "npz":
        np.savez(path, images=POINTS, labels=POINTS)
    else:
        with h5py.File(path, "w") as file:
            file["images"], file["labels"] = POINTS, POINTS
    assert "2 arrays in it, so dataset.key must name one: images, labels" in failure(path)
    message = failure(path, "image")
    assert "no array 'image' in it (did you mean 'images'?); it holds images, labels" in message


def test_a_file_without_an_array_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("group")
    assert "it holds no array" in failure(tmp_path / "empty.h5")


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_a_key_for_a_file_of_one_array_is_refused(tmp_path: Path, suffix: str) -> None:
    assert "leave the key out" in failure(write(tmp_path / f"points.{suffix}", POINTS), "points")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    assert "no such file" in failure(tmp_path / f"missing.{suffix}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.npy"
    folder.mkdir()
    assert "a folder, no file" in failure(folder)


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "points.xyz").write_bytes(bytes(range(1, 9)) * 20)
    assert "expected NumPy (.npy, .npz), text" in failure(tmp_path / "points.xyz")


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
@pytest.mark.parametrize(
    "values",
    [np.ones((4, 2), dtype=complex), np.array([[b"a"], [b"b"]])],
    ids=["complex", "text"],
)
def test_other_things_than_real_numbers_are_refused(tmp_path: Path, suffix: str, values: NDArray[np.generic]) -> None:
    assert "expected floating-point, integer or boolean" in failure(write(tmp_path / f"odd.{suffix}", values))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_pickled_objects_are_refused_and_not_loaded(tmp_path: Path, suffix: str) -> None:
    values = np.array([[1, "two"], [3.0, None]], dtype=object)
    assert "got Python objects (a pickle)" in failure(write(tmp_path / f"pickle.{suffix}", values))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_located(tmp_path: Path, suffix: str, bad: float) -> None:
    values = POINTS.copy()
    values[4, 1] = bad
    message = failure(write(tmp_path / f"bad.{suffix}", values))
    assert (
        "line 5, column 2"
        if suffix == "csv"
        else "row 4 (counted from 0), column 2"
        if np.isinf(bad)
        else "row 4, column 1"
    ) in message


def test_a_single_number_is_no_dataset(tmp_path: Path) -> None:
    assert "got a single number" in failure(write(tmp_path / "scalar.npy", np.array(3.0)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_array_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "both at least 1" in failure(write(tmp_path / "empty.npy", np.empty(shape)))


def npy_header(shape: str, descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(1000, 1000)", "it declares 8,000,000 bytes"),
        ("(10000000000, 1000)", "expected at most 17,179,869,184"),
        ("(-1, 3)", "damaged: it declares the shape (-1, 3)"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_declared_shape_that_the_file_cannot_hold_is_refused_before_memory_is_taken(
    tmp_path: Path, suffix: str, shape: str, message: str
) -> None:
    path = tmp_path / f"liar.{suffix}"
    content = npy_header(shape) + bytes(64)
    if suffix == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("points.npy", content)
    assert message in failure(path)


def test_a_newer_npy_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "newer.npy"
    path.write_bytes(b"\x93NUMPY\x03\x00" + npy_header("(1, 1)")[8:])
    assert ".npy format 3.0; expected 1.0 or 2.0" in failure(path)


def test_a_zip_bomb_is_refused_by_the_size_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_limits, "MAXIMUM_BYTES", 2**20)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, zeros=np.zeros((2**10, 2**8)))
    assert path.stat().st_size < 2**14
    assert "2,097,152 bytes; expected at most 1,048,576" in failure(path)


def test_a_huge_hdf5_dataset_without_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("points", shape=(10**9, 1000), dtype="f8", chunks=(1000, 1000))
    assert "expected at most" in failure(path)


def test_hdf5_values_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(POINTS.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("points", shape=(20, 3), dtype="f8", external=[(str(tmp_path / "raw.bin"), 0, 480)])
    assert "external storage" in failure(tmp_path / "external.h5")


def test_a_virtual_hdf5_dataset_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source.h5", POINTS)
    layout = h5py.VirtualLayout(shape=(20, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(source, "points", shape=(20, 3))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("points", layout)
    assert "a virtual dataset" in failure(tmp_path / "virtual.h5")


def test_links_to_another_hdf5_file_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "target.h5", POINTS)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["own"] = POINTS
        file["elsewhere"] = h5py.ExternalLink(str(tmp_path / "target.h5"), "points")
    assert "no array 'elsewhere' in it; it holds own" in failure(tmp_path / "links.h5", "elsewhere")


def test_an_hdf5_dataset_without_a_dataspace_has_no_values(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "null.h5", "w") as file:
        file["points"] = h5py.Empty("f8")
    assert "it has no values" in failure(tmp_path / "null.h5")


def test_an_encrypted_npz_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "secret.npz", POINTS)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the central directory's flag: encrypted
    path.write_bytes(content)
    assert "no .npz file that can be read" in failure(path)


def csv_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(text)
    return path


def test_a_csv_header_names_the_dimensions(tmp_path: Path) -> None:
    data = load(csv_file(tmp_path, "# width, height\n1,2\n\n3,4.5e0\n"))
    assert data.names == ("width", "height")
    assert in_file_order(data, np.array([[1, 2], [3, 4.5]]))


def test_a_csv_without_a_header_has_no_names(tmp_path: Path) -> None:
    assert load(csv_file(tmp_path, "1,2\n3,4\n")).names == ()


def test_a_csv_with_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_bytes(b'\xef\xbb\xbf"a","b"\r\n1,2\r\n3,5\r\n4,1\r\n2,7\r\n')
    assert load(path).names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,four\n", "line 2, column 2: got 'four'; expected a number"),
        (
            "a,b\n1,2\n3,\n",
            "got 1 missing values, written as an empty cell, in 1 of 2 rows, by column: b (1); the first in line 3",
        ),
        ("a,b\n1,nan\n", "written as 'nan', in 1 of 1 rows, by column: b (1); the first in line 2, column 2"),
        ("1,inf\n", "line 1, column 2: got inf; expected finite"),
        ("1,2\n\n3,4,5\n", "line 3: got 3 cells; expected 2"),
        ("a,b\n", "there are no rows in it besides"),
        ("", "the file is empty"),
        ('1,"2\n3,4\n', "there are no rows in it besides"),
    ],
)
def test_the_first_bad_cell_of_a_csv_is_located(tmp_path: Path, text: str, message: str) -> None:
    assert message in failure(csv_file(tmp_path, text))


def test_large_finite_csv_numbers_pass(tmp_path: Path) -> None:
    assert load(csv_file(tmp_path, "1.7e308,1.7e308\n0,0\n")).train.max() == 1.7e308


def test_a_zero_byte_within_a_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "binary.csv"
    path.write_bytes(b"1,2\n1.5\0,3\n2,3\n")
    assert "line 2: got a zero byte" in failure(path)


def test_an_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "points.npy", POINTS)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read: Permission denied" in failure(path)


def test_the_path_is_required() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.path: missing"):
        structure(build_converter(Registry((), {})), {}, ArrayOptions, "dataset")


def test_standard_scaling_is_fitted_on_train(tmp_path: Path) -> None:
    path = write(tmp_path / "points.npy", POINTS)
    train = build_array(ArrayOptions(path=path, scaling="standard"), 0).train
    assert torch.allclose(train.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(train.std(0, correction=0), torch.ones(3, dtype=torch.float64))
