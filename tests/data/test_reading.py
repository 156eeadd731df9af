"""What the readers take for what: one claim for each kind of file that people bring."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from elboverse.data.reading import RawPoints, ReadingOptions, read
from elboverse.errors import DataError

RNG = np.random.default_rng(0)
POINTS: NDArray[np.float64] = RNG.normal(size=(30, 3)).round(4)


def csv(header: str = "a,b,c", separator: str = ",", decimal: str = ".", points: NDArray[np.float64] = POINTS) -> str:
    lines = [separator.join(str(value).replace(".", decimal) for value in row) for row in points.tolist()]
    return "\n".join(([header] if header else []) + lines) + "\n"


def taken(tmp_path: Path, content: str | bytes, name: str = "table.csv", **options: object) -> RawPoints:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, ReadingOptions(**options))  # type: ignore[arg-type]


def warned(found: RawPoints, option: str) -> bool:
    return any(finding.doubtful and finding.option == option for finding in found.findings)


@pytest.mark.parametrize("header", ["0,1,2", "400.0,401.5,403.0", "2018,2019,2020", "1100,1050,1000"])
def test_a_header_of_numbers_is_no_point_and_the_guess_is_a_warning(tmp_path: Path, header: str) -> None:
    found = taken(tmp_path, csv(header))
    assert found.values.shape == POINTS.shape
    assert found.names == tuple(header.split(","))
    assert warned(found, "dataset.header")


def test_the_option_settles_whether_a_line_of_numbers_is_a_header(tmp_path: Path) -> None:
    found = taken(tmp_path, csv("0,1,2"), header=False)
    assert len(found.values) == len(POINTS) + 1
    assert not found.names
    found = taken(tmp_path, csv(""), header=True)
    assert len(found.values) == len(POINTS) - 1


def test_plain_numbers_without_a_header_are_all_points(tmp_path: Path) -> None:
    found = taken(tmp_path, csv(""))
    assert np.array_equal(found.values, POINTS)
    assert not any(finding.doubtful for finding in found.findings)


def test_a_header_of_texts_and_numbers_is_a_header(tmp_path: Path) -> None:
    rows = "".join(f"s{at},{row[0]},{row[1]}\n" for at, row in enumerate(POINTS.tolist()))
    found = taken(tmp_path, "sample,400.0,401.5\n" + rows)
    assert found.names == ("400.0", "401.5")
    assert found.index[0] == "s0"


def test_text_that_recurs_below_makes_a_first_line_a_point(tmp_path: Path) -> None:
    rows = "".join(f"{row[0]},{row[1]},{'ab'[at % 2]}\n" for at, row in enumerate(POINTS.tolist()))
    found = taken(tmp_path, rows)
    assert found.values.shape == (30, 2)
    assert found.labels is not None
    assert found.labels[:2].tolist() == ["a", "b"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_first_column_without_a_name_that_counts_is_no_dimension(tmp_path: Path, first: int, name: str) -> None:
    rows = "".join(f"{at + first},{row[0]},{row[1]}\n" for at, row in enumerate(POINTS.tolist()))
    found = taken(tmp_path, f"{name},a,b\n{rows}")
    assert found.names == ("a", "b")
    assert found.index[:2].tolist() == [first, first + 1]


def test_named_columns_are_chosen_or_left_out(tmp_path: Path) -> None:
    assert np.array_equal(taken(tmp_path, csv(), columns=("c", "a")).values, POINTS[:, [2, 0]])
    assert np.array_equal(taken(tmp_path, csv(), columns=("!b",)).values, POINTS[:, [0, 2]])
    assert np.array_equal(taken(tmp_path, csv(""), columns=(1,)).values, POINTS[:, [1]])
    with pytest.raises(DataError, match="no column is called 'd'"):
        taken(tmp_path, csv(), columns=("d",))


def test_a_column_of_labels_is_no_dimension_unless_the_user_says_so(tmp_path: Path) -> None:
    assert taken(tmp_path, csv("a,b,target")).names == ("a", "b")
    assert taken(tmp_path, csv("a,b,target"), label="").names == ("a", "b", "target")
    assert taken(tmp_path, csv("a,b,c"), label="b").label_name == "b"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("header", [True, False])
def test_each_separator_is_told(tmp_path: Path, separator: str, header: bool) -> None:
    found = taken(tmp_path, csv(separator.join("abc") if header else "", separator))
    assert np.array_equal(found.values, POINTS)
    assert found.names == (("a", "b", "c") if header else ())


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_decimal_comma_is_told(tmp_path: Path, separator: str) -> None:
    assert np.array_equal(taken(tmp_path, csv(separator.join("abc"), separator, ",")).values, POINTS)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_is_told_by_its_content(tmp_path: Path, pack: object) -> None:
    assert np.array_equal(taken(tmp_path, pack(csv().encode())).values, POINTS)  # type: ignore[operator]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_each_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    found = taken(tmp_path, csv("größe,b,c").encode(encoding))
    assert np.array_equal(found.values, POINTS)
    assert found.names[0] == "größe"


def test_comments_units_and_a_declared_separator_are_no_points(tmp_path: Path) -> None:
    assert np.array_equal(taken(tmp_path, "# made, by\n# hand\n" + csv()).values, POINTS)
    assert taken(tmp_path, "a,b,c\ns,V,A\n" + csv("")).names == ("a [s]", "b [V]", "c [A]")
    assert np.array_equal(taken(tmp_path, "sep=;\n" + csv("a;b;c", ";")).values, POINTS)
    assert taken(tmp_path, "# a,b,c\n" + csv("")).names == ("a", "b", "c")


def test_the_short_header_of_r_makes_the_first_column_the_index(tmp_path: Path) -> None:
    rows = "".join(f'"{at + 1}",{row[0]},{row[1]}\n' for at, row in enumerate(POINTS.tolist()))
    found = taken(tmp_path, f'"a","b"\n{rows}')
    assert found.names == ("a", "b")
    assert np.array_equal(found.values, POINTS[:, :2])


@pytest.mark.parametrize("mark", ["", "NA", "nan", "NULL", "?", "#DIV/0!", "n/a"])
def test_missing_values_are_told_apart_and_named(tmp_path: Path, mark: str) -> None:
    text = csv() + f"1.5,{mark},2.5\n"
    with pytest.raises(DataError, match=r"1 missing values.*by column: b \(1\); the first in line 32, column 2"):
        taken(tmp_path, text)
    assert np.array_equal(taken(tmp_path, text, missing="drop-rows").values, POINTS)


def test_a_number_that_may_mark_a_missing_value_is_a_warning(tmp_path: Path) -> None:
    text = csv() + "-999,1,2\n"
    assert warned(taken(tmp_path, text), "dataset.missing_values")
    assert len(taken(tmp_path, text, missing_values=(-999,), missing="drop-rows").values) == 30


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.0D+03", 1000),
        ("\N{MINUS SIGN}1.5", -1.5),
        ("\N{FULLWIDTH DIGIT ONE}.5", 1.5),
        ("1 000", 1000),
        ("\xa02.5", 2.5),
    ],
)
def test_unusual_ways_of_writing_are_numbers(tmp_path: Path, cell: str, value: float) -> None:
    assert taken(tmp_path, csv() + f"{cell},1,2\n").values[-1, 0] == value


def test_underscores_are_no_part_of_a_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got '1_000'; expected a number"):
        taken(tmp_path, csv() + "1_000,1,2\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x80\x04\x95abc", "a pickle"),
        (b"\x89PNG\r\n\x1a\n....", "an image"),
        (b"", "the file is empty"),
        (b"a,b\n1,2\n3\n4,5\n", r"line 3: got 1 cells; expected 2"),
        (b"a,b\n1,2\n3,4,5\n4,5\n", r"line 3: got 3 cells; expected 2"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        taken(tmp_path, content)


def test_a_matrix_of_matlab_is_turned_right(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.mat", "w") as file:
        file["X"] = POINTS.T
        file["X"].attrs["MATLAB_class"] = np.bytes_(b"double")
    assert np.array_equal(read(tmp_path / "m.mat").values, POINTS)


def test_links_inside_a_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["run/data"] = POINTS
        file["hard"] = file["run/data"]
        file["soft"] = h5py.SoftLink("/run/data")
        file["soft-group"] = h5py.SoftLink("/run")
    for key in ("run/data", "hard", "soft", "soft-group/data", None):
        assert np.array_equal(read(tmp_path / "links.h5", ReadingOptions(key=key)).values, POINTS)


def test_fill_values_scale_and_offset_of_netcdf_are_applied(tmp_path: Path) -> None:
    packed = np.array([[100, 200], [-1, 50]], "i2")
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file["t"] = packed
        file["t"].attrs.update({"_FillValue": np.int16(-1), "scale_factor": 0.5, "add_offset": 10.0})
    with pytest.raises(DataError, match="1 missing values"):
        read(tmp_path / "n.h5")
    found = read(tmp_path / "n.h5", ReadingOptions(missing="drop-rows"))
    assert found.values.tolist() == [[60.0, 110.0]]


@pytest.mark.parametrize("by", ["csr_matrix", "csc_matrix"])
def test_a_sparse_matrix_in_hdf5_becomes_dense(tmp_path: Path, by: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(POINTS > 0.5, POINTS, 0)
    matrix = sparse.csr_matrix(dense) if by == "csr_matrix" else sparse.csc_matrix(dense)
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": by, "shape": dense.shape})
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        file["obs/_index"] = [f"cell{at}" for at in range(30)]
        file["var/_index"] = ["g0", "g1", "g2"]
    found = read(tmp_path / "x.h5ad")
    assert np.array_equal(found.values, dense)
    assert found.names == ("g0", "g1", "g2")
    assert found.index[0] == "cell0"
    sparse.save_npz(tmp_path / "x.npz", matrix)
    assert np.array_equal(read(tmp_path / "x.npz").values, dense)


def test_channels_that_come_last_are_put_first(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "hwc.npy", images)
    found = read(tmp_path / "hwc.npy")
    assert found.values.dtype == np.uint8
    assert np.array_equal(found.values, images.transpose(0, 3, 1, 2))


def test_parquet_keeps_its_index_and_labels(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(POINTS, columns=list("abc"), index=[f"s{at}" for at in range(30)])
    frame.assign(species=["x", "y"] * 15).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert np.array_equal(found.values, POINTS)
    assert (found.index[1], found.label_name) == ("s1", "species")
