"""Reading an HDF5 file that nobody vouches for: only what a run file may contain is ever handed to the library's I/O.

Opened is a file whose seal is intact; that it was not made to do harm is checked here. Objects are reached by hard
links alone, each by one name; a dataset has a plain type, is chunked and checksummed, in this very file, with every
chunk allocated: then what it takes in memory is at most what the file takes on the disk.
"""

from __future__ import annotations

import io
import math
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from elboverse.errors import RunFileError
from elboverse.runfile import schema
from elboverse.runfile.seal import open_sealed

_TYPES: Final[Mapping[str, Any]] = {
    name: h5py.h5t.py_create(schema.little_endian(name), logical=True)
    for name in {*schema.TRAJECTORY_TYPES, *schema.CHECKPOINT_TYPES}
}
_CHECKSUM_BYTES: Final = 4
_H5PY_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def explained(path: Path, name: str) -> Iterator[None]:
    """Turn whatever h5py raises for a damaged or hostile object into a `RunFileError` that names file and object."""
    try:
        yield
    except _H5PY_ERRORS as error:
        raise RunFileError(f"{path}: {name}: cannot be read: {type(error).__name__}: {error}") from error


@attrs.frozen(eq=False)
class Stored:
    """A dataset that passed every check; its values are read when they are asked for.

    Args:
        path: of the file.
        name: of the dataset, from the root.
        dataset: of h5py.
        dtype: name of its type.
    """

    path: Path
    name: str
    dataset: h5py.Dataset
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        shape: tuple[int, ...] = self.dataset.shape
        return shape

    def read(self, selection: Any = ()) -> NDArray[Any]:
        """Return its values, or those that `selection` indexes.

        Raises:
            RunFileError: they cannot be read, or a checksum is wrong.
        """
        with explained(self.path, self.name):
            return np.asarray(self.dataset[selection])

    def fault(self, message: str) -> RunFileError:
        """Return the error that says what is wrong with it."""
        return RunFileError(f"{self.path}: {self.name}: {message}")


class Container:
    """An open file: its datasets and groups by name, all checked, and their attributes.

    Args:
        path: of the file.
        file: the same, opened, its seal checked; it is closed along with this.

    Raises:
        RunFileError: it is damaged, or holds anything but what is allowed here.
    """

    def __init__(self, path: Path, file: io.FileIO | io.BytesIO) -> None:
        self.path = path
        try:
            with explained(path, "/"):
                self._root = h5py.File(file, "r")
        except BaseException:
            file.close()
            raise
        # A run is read as long as anybody has it; what is open goes with it, without being told to.
        self.close = weakref.finalize(self, _close, self._root, file)
        self._file_bytes = file.seek(0, io.SEEK_END)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the container in a sealed file."""
        return cls(path, open_sealed(path))

    def text(self, owner: str, name: str) -> str:
        """Return an attribute that is a short string; `owner` is the object that has it."""
        with explained(self.path, f"{owner} @{name}"):
            attribute = self._attribute(owner, name)
            kind = attribute.get_type()
            if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or attribute.shape != ():
                raise TypeError("not a string of fixed length")
            if kind.get_size() > schema.MAXIMUM_TEXT:
                raise ValueError(f"longer than {schema.MAXIMUM_TEXT} bytes")
            value = np.empty((), f"S{kind.get_size()}")
            attribute.read(value, mtype=kind)
            text = bytes(value[()]).decode()
            if not text.isprintable():
                raise ValueError("not printable")
            return text

    def integer(self, owner: str, name: str) -> int:
        """Return an attribute that is a 64-bit integer; `owner` is the object that has it."""
        with explained(self.path, f"{owner} @{name}"):
            return int(self._integers(owner, name, rank=0))

    def shape_of(self, stored: Stored) -> tuple[int, ...]:
        """Return the shape that an array had before it was flattened to be stored, if it was."""
        with explained(self.path, f"{stored.name} @shape"):
            if not h5py.h5a.exists(stored.dataset.id, b"shape"):
                return stored.shape
            lengths = self._integers(stored.name, "shape", rank=1)
            shape = tuple(int(length) for length in lengths)
            if min(shape, default=0) < 0 or (math.prod(shape),) != stored.shape:
                raise ValueError(f"shape {shape} does not hold {stored.shape} values")
            return shape

    def datasets(self) -> dict[str, Stored]:
        """Return every dataset by its name from the root, as in ``/trajectory/kl``.

        Raises:
            RunFileError: any object is not allowed, or there are too many, or they are nested too deep.
        """
        found: dict[str, Stored] = {}
        seen: set[int] = set()
        stored_bytes = 0
        for name, identifier in self._objects("", self._root.id, 0):
            with explained(self.path, name):
                address = h5py.h5o.get_info(identifier).addr
                if address in seen:
                    raise RunFileError(f"{self.path}: {name}: is the same object as another name, which is not allowed")
                seen.add(address)
                if len(seen) > schema.MAXIMUM_OBJECTS:
                    raise RunFileError(f"{self.path}: {name}: more than {schema.MAXIMUM_OBJECTS:,} objects in the file")
                if isinstance(identifier, h5py.h5d.DatasetID):
                    dtype, size = self._checked(name, identifier)
                    stored_bytes += size
                    found[name] = Stored(self.path, name, h5py.Dataset(identifier), dtype)
                elif not isinstance(identifier, h5py.h5g.GroupID):
                    raise RunFileError(f"{self.path}: {name}: is neither a group nor a dataset, which is not allowed")
            if stored_bytes > self._file_bytes:
                raise RunFileError(f"{self.path}: {name}: claims more bytes than the whole file has")
        return found

    def _objects(self, parent: str, group: Any, depth: int) -> Iterator[tuple[str, Any]]:
        with explained(self.path, parent or "/"):
            if depth > schema.MAXIMUM_DEPTH:
                raise RunFileError(f"{self.path}: {parent}: groups are nested deeper than {schema.MAXIMUM_DEPTH}")
            if group.get_num_objs() > schema.MAXIMUM_OBJECTS:
                raise RunFileError(f"{self.path}: {parent or '/'}: more than {schema.MAXIMUM_OBJECTS:,} objects in it")
            names = [bytes(name) for name in group]
        for raw in names:
            with explained(self.path, f"{parent}/{raw[:80]!r}"):
                name = f"{parent}/{raw.decode()}"
            with explained(self.path, name):
                if len(raw) > schema.MAXIMUM_NAME or not name.isprintable():
                    raise RunFileError(f"{self.path}: {name[:80]!r}: no allowed name")
                if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
                    raise RunFileError(f"{self.path}: {name}: is a soft or external link, which is not allowed")
                identifier = h5py.h5o.open(group, raw)
            yield name, identifier
            if isinstance(identifier, h5py.h5g.GroupID):
                yield from self._objects(name, identifier, depth + 1)

    def _checked(self, name: str, dataset: Any) -> tuple[str, int]:
        """Return the type of a dataset and the bytes it takes in the file, or say why it is not allowed."""
        refused = f"{self.path}: {name}: "
        stored_type = dataset.get_type()
        dtype = next((known for known, allowed in _TYPES.items() if stored_type.equal(allowed)), None)
        if dtype is None:
            raise RunFileError(f"{refused}its type is not allowed; expected {', '.join(sorted(_TYPES))}")
        creation = dataset.get_create_plist()
        if creation.get_layout() != h5py.h5d.CHUNKED:
            layout = {h5py.h5d.VIRTUAL: "a virtual dataset"}.get(creation.get_layout(), "not chunked")
            external = "in another file" if creation.get_external_count() else layout
            raise RunFileError(f"{refused}is {external}, which is not allowed")
        filters = [creation.get_filter(index)[:2] for index in range(creation.get_nfilters())]
        if filters != [(h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FLAG_MANDATORY)]:
            raise RunFileError(f"{refused}has other filters than the checksum fletcher32, which is not allowed")
        shape, chunk = dataset.shape, creation.get_chunk()
        chunks = math.prod(-(-length // part) for length, part in zip(shape, chunk, strict=True))
        needed = chunks * (math.prod(chunk) * stored_type.get_size() + _CHECKSUM_BYTES)
        allocated = dataset.get_storage_size()
        if needed != allocated:
            raise RunFileError(f"{refused}its shape {shape} takes {needed:,} bytes, the file has {allocated:,} of it")
        return dtype, allocated

    def _attribute(self, owner: str, name: str) -> Any:
        identifier = self._root[owner].id
        if not h5py.h5a.exists(identifier, name.encode()):
            raise LookupError("missing")
        return h5py.h5a.open(identifier, name.encode())

    def _integers(self, owner: str, name: str, rank: int) -> NDArray[np.int64]:
        attribute = self._attribute(owner, name)
        shape = attribute.shape
        if shape is None or len(shape) != rank or any(length > schema.MAXIMUM_DEPTH for length in shape):
            raise TypeError(f"not {'an integer' if rank == 0 else 'a short list of integers'}")
        if not attribute.get_type().equal(_TYPES["int64"]):
            raise TypeError("not of type int64")
        values: NDArray[np.int64] = np.empty(shape, np.int64)
        attribute.read(values)
        return values


def _close(root: h5py.File, file: io.FileIO | io.BytesIO) -> None:
    root.close()
    file.close()
