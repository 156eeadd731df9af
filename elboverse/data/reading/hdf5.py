"""HDF5 files that nothing is known about: plain ones, NeXus, netCDF 4, MATLAB 7.3, AnnData, pandas' tables.

Links that stay inside the file are followed, others never.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.arrays import points_of_array
from elboverse.data.reading.columns import LABEL_NAMES
from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table
from elboverse.data.reading.hdf5_frames import frame_of_pandas, is_pandas
from elboverse.data.reading.limits import choose, require_real, size_in_bytes
from elboverse.data.reading.packing import unpacked
from elboverse.errors import DataError

__all__ = ["is_hdf5", "read_hdf5"]

_FILTERS: Final = {
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32024: "SZ3",
    32026: "Blosc2",
    307: "bzip2",
}
_SPARSE: Final = ("csr_matrix", "csc_matrix")
_DEEPEST: Final = 20


def is_hdf5(path: Path) -> bool:
    """Return whether a file is an HDF5 file, whatever its name."""
    return bool(h5py.is_hdf5(path))


def read_hdf5(path: Path, options: ReadingOptions) -> RawPoints | Table:
    """Return the points of an HDF5 file: its only array or matrix, what NeXus calls the signal, or what the user names.

    Raises:
        DataError: it is not such a file, is damaged, has no such array, holds something other than real numbers, or
            keeps the values in other files.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path, options)
    except OSError as error:
        text = str(error)
        if "already open for write" in text or "unable to lock file" in text:
            raise DataError(
                f"{path}: another program has it open for writing, or ended without closing it. Close that program; if "
                "there is none, `h5clear -s` takes the mark away, on a copy"
            ) from error
        raise DataError(f"{path}: no HDF5 file that can be read: {text}") from error
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no HDF5 file that can be read: {error}") from error


def _read(file: h5py.File, path: Path, options: ReadingOptions) -> RawPoints | Table:
    findings: list[Finding] = []
    nodes = dict(_nodes(file))
    key = options.key.strip("/") if options.key is not None else _signal(file, findings)
    if key is not None and key not in nodes and (found := _inside(file, key)) is not None:
        nodes[key] = found
    if key is None:
        key = _only(nodes, findings)
    name = choose(key, list(nodes), str(path))
    node = nodes[name]
    if isinstance(node, h5py.Group) and is_pandas(node):
        return frame_of_pandas(node, path, findings)
    more = _beside(file, name, nodes, options, findings)
    if isinstance(node, h5py.Group):
        findings.append(Finding("sparse", f"{name!r} is a sparse matrix, made dense"))
        return points_of_array(_dense(node, f"{path}: {name!r}"), path, options, findings, **more)
    values = _values(node, f"{path}: array {name!r}", findings)
    return points_of_array(values, path, options, findings, **more)


def _nodes(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Yield each array once by its first path; sparse matrices and pandas' tables, which are groups, as one."""
    seen: set[Any] = set()
    pending: list[tuple[str, Any]] = [("", file)]
    while pending:
        prefix, group = pending.pop(0)
        for name in group:
            kind = group.get(name, getlink=True)
            if isinstance(kind, h5py.ExternalLink):
                continue
            if isinstance(kind, h5py.SoftLink):
                continue
            node = group.get(name)
            where = f"{prefix}{name}"
            if node is None or (identity := h5py.h5o.get_info(node.id).addr) in seen or where.count("/") > _DEEPEST:
                continue
            seen.add(identity)
            if isinstance(node, h5py.Dataset) or _is_sparse(node) or is_pandas(node):
                yield where, node
            elif isinstance(node, h5py.Group):
                pending.append((f"{where}/", node))


def _inside(file: h5py.File, key: str) -> Any:
    """Return what a path leads to along links that stay inside the file; None if it leads nowhere, or outside."""
    node: Any = file
    parts, steps = [part for part in key.split("/") if part], 0
    while parts:
        steps += 1
        if steps > 100 or not isinstance(node, h5py.Group) or parts[0] not in node:
            return None
        name = parts.pop(0)
        link = node.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return None
        if isinstance(link, h5py.SoftLink):
            parts = [part for part in link.path.split("/") if part] + parts
            node = file if link.path.startswith("/") else node
            continue
        node = node[name]
    return node


def _is_sparse(node: Any) -> bool:
    if not isinstance(node, h5py.Group):
        return False
    known = _text(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format"))) in (*_SPARSE, "csr", "csc")
    return known or {"data", "indices", "indptr", "shape"} <= set(node)  # the last: as 10x Genomics writes it


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value if value is not None else "")


def _signal(file: h5py.File, findings: list[Finding]) -> str | None:
    """Return the path of the signal of the only, or default, group of class NXdata."""
    found: list[str] = []

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group) and _text(node.attrs.get("NX_class")) == "NXdata" and "signal" in node.attrs:
            found.append(f"{name}/{_text(node.attrs['signal'])}")

    file.visititems(look)
    defaults = [path for path in found if _text(file.attrs.get("default")) == path.split("/")[0]]
    chosen = (defaults or found)[:1] if len(found) == 1 or len(defaults) == 1 else []
    if chosen and _inside(file, chosen[0]) is not None:
        findings.append(Finding("key", f"{chosen[0]!r} is the signal of the file's NXdata", "dataset.key"))
        return chosen[0]
    return None


def _only(nodes: dict[str, Any], findings: list[Finding]) -> str | None:
    if "X" in nodes and len(nodes) > 1 and any(name.startswith("obs/") for name in nodes):
        findings.append(
            Finding("key", "'X' is the matrix of the AnnData file; dataset anndata reads its layers and obs")
        )
        return "X"
    matrices = [
        name
        for name, node in nodes.items()
        if isinstance(node, h5py.Group) or (node.ndim > 1 and node.dtype.kind in "fiub" and min(node.shape) > 0)
    ]
    if len(nodes) > 1 and len(matrices) == 1:
        findings.append(Finding("key", f"{matrices[0]!r} is the only matrix among {len(nodes)} arrays", "dataset.key"))
        return matrices[0]
    return None


def _beside(
    file: h5py.File, name: str, nodes: dict[str, Any], options: ReadingOptions, findings: list[Finding]
) -> dict[str, Any]:
    """Return names, index and labels that lie beside a matrix: of AnnData, or a vector with the name of labels."""
    node = nodes[name]
    shape = _shape(node)
    more: dict[str, Any] = {}
    if name == "X" or name.startswith("layers/"):
        for part, group in (("index", "obs"), ("names", "var")):
            table = file.get(group)
            if not isinstance(table, h5py.Group):
                continue
            values = table.get(_text(table.attrs.get("_index", "_index")), table.get("index"))
            if isinstance(values, h5py.Dataset) and len(values) == shape[part == "names"]:
                texts = [_text(cell) for cell in values[()]]
                more[part] = tuple(texts) if part == "names" else np.asarray(texts)
    folder = name.rpartition("/")[0]
    for other, beside in nodes.items():
        if other == name or options.label == "" or not isinstance(beside, h5py.Dataset) or beside.shape != shape[:1]:
            continue
        plain = other.rpartition("/")[2].lower().split("_")[0]
        if other == options.label or (other.rpartition("/")[0] == folder and plain in LABEL_NAMES):
            found = beside[()]
            more |= {
                "labels": np.asarray([_text(cell) for cell in found]) if found.dtype.kind in "OS" else found,
                "label_name": other,
            }
            findings.append(Finding("label", f"{other!r} is taken for the labels", "dataset.label"))
            break
    return more


def _shape(node: Any) -> tuple[int, ...]:
    if isinstance(node, h5py.Dataset):
        return tuple(node.shape or ())
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    found = tuple(int(length) for length in (node["shape"][()] if shape is None else shape))
    if shape is None:  # 10x Genomics: features × cells, by columns
        return found[::-1]
    return found


def _dense(node: h5py.Group, where: str) -> NDArray[Any]:
    shape = _shape(node)
    data, indices, pointers = (_values(node[part], f"{where}/{part}", []) for part in ("data", "indices", "indptr"))
    size_in_bytes(shape, data.dtype, where)
    by_rows = not _text(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "csr"))).startswith("csc")
    if len(pointers) != shape[not by_rows] + 1 or pointers[-1] != len(data) or len(indices) != len(data):
        raise DataError(f"{where}: damaged: the parts of the sparse matrix do not fit its shape {shape}")
    dense = np.zeros(shape, data.dtype)
    outer = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    np.add.at(dense, (outer, indices) if by_rows else (indices, outer), data)
    return dense


def _values(node: h5py.Dataset, where: str, findings: list[Finding]) -> NDArray[Any]:
    if node.external is not None or node.is_virtual:
        kind = "a virtual dataset" if node.is_virtual else "external storage"
        raise DataError(f"{where}: its values are {kind}; expected values stored in the file itself")
    if node.shape is None:
        raise DataError(f"{where}: it has no values")
    if node.dtype.names is None:
        require_real(node.dtype, where)
    size_in_bytes(node.shape, node.dtype, where)
    _require_filters(node, where)
    values = unpacked(np.asarray(node[()]), dict(node.attrs), findings)
    if "MATLAB_class" in node.attrs and values.ndim > 1:
        findings.append(Finding("axes", "MATLAB stores arrays the other way round, so the axes are reversed"))
        values = values.transpose()
    return values


def _require_filters(node: h5py.Dataset, where: str) -> None:
    plist = node.id.get_create_plist()
    missing = [
        number
        for number in (plist.get_filter(at)[0] for at in range(plist.get_nfilters()))
        if not h5py.h5z.filter_avail(number)
    ]
    if missing:
        try:
            import hdf5plugin  # noqa: F401 - an optional package, whose import brings the filters
        except ImportError:
            names = ", ".join(f"{_FILTERS.get(number, 'unknown')} (number {number})" for number in missing)
            raise DataError(
                f"{where}: its values are packed with the HDF5 filter {names}, which is not installed: "
                "pip install 'elboverse[filters]' brings it (package hdf5plugin)"
            ) from None
