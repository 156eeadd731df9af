"""Which reader takes a file: told by its first bytes, not by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from elboverse.data.reading.findings import Reader
from elboverse.errors import DataError

__all__ = ["kind_of", "reader_of"]

_MAGIC: Final = (
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "feather"),
    (b"FEA1", "feather"),
    (b"MATLAB 5.0", "matlab"),
    (b"MATLAB 7.0", "matlab"),
    (b"CDF\x01", "netcdf"),
    (b"CDF\x02", "netcdf"),
    (b"\x1f\x8b", "text"),
    (b"BZh", "text"),
    (b"\xfd7zXZ", "text"),
)

_FOREIGN: Final = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the data; `git lfs pull` fetches them"),
    (b"\x80\x02", "a pickle, which could run any program; save it with numpy.save, or with to_csv"),
    (b"\x80\x03", "a pickle, which could run any program; save it with numpy.save, or with to_csv"),
    (b"\x80\x04", "a pickle, which could run any program; save it with numpy.save, or with to_csv"),
    (b"\x80\x05", "a pickle, which could run any program; save it with numpy.save, or with to_csv"),
    (b"%PDF", "a PDF document; export the table as CSV"),
    (b"\x89PNG", 'an image; dataset "image-folder" takes a folder of images'),
    (b"\xff\xd8\xff", 'an image; dataset "image-folder" takes a folder of images'),
    (b"GIF8", 'an image; dataset "image-folder" takes a folder of images'),
    (b"II*\0", 'an image; dataset "image-folder" takes a folder of images'),
    (b"MM\0*", 'an image; dataset "image-folder" takes a folder of images'),
    (b"SQLite format 3", "a database of SQLite; export the table as CSV"),
    (b"RDX", "a file of R's save(); write the table with write.csv"),
    (b"RDA", "a file of R's save(); write the table with write.csv"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls); save it as .xlsx or CSV"),
    (b"\x28\xb5\x2f\xfd", "a file packed with Zstandard; unpack it with `zstd -d`"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"$FL2", "a file of SPSS; export it as CSV"),
    (b"<stata_dta>", "a file of Stata; export it as CSV"),
    (b"SIMPLE  =", "a FITS file; save the array with numpy.save"),
)
_PAGE: Final = (b"<!doctype", b"<html", b"<?xml", b"<head")

KINDS: Final = (
    "NumPy (.npy, .npz), text (.csv, .tsv, .txt, packed or not), Parquet, Feather, Excel, HDF5, MATLAB and netCDF"
)


def kind_of(path: Path) -> str:
    """Return the kind of a data file, such as ``"npy"`` or ``"text"``.

    Raises:
        DataError: it is a kind that is not read; the message says what it is and what to do.
    """
    from elboverse.data.reading.hdf5 import is_hdf5  # h5py, which listing datasets does not need

    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise DataError(f"{path}: the file is empty")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if is_hdf5(path):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise DataError(f"{path}: got {what}")
    if head.lstrip().lower().startswith(_PAGE):
        raise DataError(f"{path}: got a web page, not data; the download asked for a login or a confirmation, perhaps")
    if head.lstrip()[:1] in (b"{", b"["):
        raise DataError(f"{path}: got JSON; expected {KINDS}")
    if path.suffix.lower() in {".toml", ".yaml", ".yml", ".ini", ".py", ".md"}:
        raise DataError(f"{path}: got a {path.suffix} file, which is not data; expected {KINDS}")
    expected = {".npy": "npy", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".parquet": "parquet"}.get(
        path.suffix.lower()
    )
    if expected:
        raise DataError(f"{path}: no {path.suffix} file, or a damaged one: it begins with {head[:8]!r}")
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4].replace(head[:1], b"x")
    control = sum(byte < 9 or 13 < byte < 26 for byte in head)
    if control > max(2, len(head) // 20) and not utf16:
        raise DataError(f"{path}: got a file of an unknown kind (it begins with {head[:8]!r}); expected {KINDS}")
    return "text"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: no .npz file or zip that can be read: {error}") from error
    if any(name.startswith("xl/") for name in names):
        return "excel"
    return "npz" if path.suffix.lower() == ".npz" or any(name.endswith(".npy") for name in names) else "text"


def reader_of(path: Path) -> Reader:
    """Return the reader of a data file.

    Raises:
        DataError: as for `kind_of`.
    """
    from elboverse.data.reading import columnar, hdf5, numpy_file, scientific, separated  # one kind alone is needed

    readers: dict[str, Callable[..., object]] = {
        "npy": numpy_file.read_npy,
        "npz": numpy_file.read_npz,
        "text": separated.read_separated,
        "parquet": columnar.read_parquet,
        "feather": columnar.read_feather,
        "excel": columnar.read_excel,
        "hdf5": hdf5.read_hdf5,
        "matlab": scientific.read_matlab,
        "netcdf": scientific.read_netcdf,
    }
    return readers[kind_of(path)]  # type: ignore[return-value]
