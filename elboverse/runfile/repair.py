"""Repair of a run file whose seal is missing or does not match: everything is checked, then it is sealed anew.

The HDF5 library may crash on a damaged file that no seal vouches for, so the check runs in a process of its own. What
can be told of numbers that were changed, checksums and all: the identity elbo = log_likelihood − Σ_h kl_h, which every
row and every evaluation obeys.
"""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import h5py
import numpy as np

from elboverse.errors import RunFileError
from elboverse.files import replaced
from elboverse.runfile import schema
from elboverse.runfile.hdf5 import Container
from elboverse.runfile.lock import WriterLock
from elboverse.runfile.reader import Run, located
from elboverse.runfile.seal import Sealing, image_bytes, seal, sealing

__all__ = ["Repair", "repair"]

_OWN_ATTRIBUTES: Final = {"format", "format_version", "elboverse_version", "created", "status"}
_MOST_SHOWN: Final = 20


@attrs.frozen
class Repair:
    """What was found in a file, and whether it was sealed anew.

    Args:
        path: of the run file.
        state: how it stood with its seal.
        objects: how many datasets were read and found whole.
        differences: what is not as elboverse writes it, a sentence each.
        sealed: whether the file has a new seal now.
    """

    path: Path
    state: Sealing
    objects: int = 0
    differences: tuple[str, ...] = ()
    sealed: bool = False


def repair(path: str | Path, *, accept_changes: bool = False, dry_run: bool = False) -> Repair:
    """Check all of a run file and, if everything in it is as elboverse wrote it, seal it anew.

    Args:
        path: of the run file, or of the run's folder.
        accept_changes: seal it although numbers in it differ from what they follow from, or something was added.
        dry_run: only say what would be done.

    Raises:
        RunFileError: it is not a run file, is cut short, or something in it cannot be read.
    """
    path = located(path)
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise RunFileError(f"{path}: cannot be opened: {error.strerror}") from error
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise RunFileError(f"{path}: not an HDF5 file, so it cannot be a run file")
        if status.st_size > schema.MAXIMUM_FILE_BYTES:
            raise RunFileError(f"{path}: got {status.st_size:,} bytes; expected at most {schema.MAXIMUM_FILE_BYTES:,}")
        state, end = sealing(file, status.st_size), image_bytes(file)
        if state is Sealing.INTACT:
            return Repair(path, state)
        if state is Sealing.SHORT or end is None:
            raise RunFileError(f"{path}: {Sealing.SHORT.value}")
        file.seek(0)
        image = file.read(min(end, status.st_size))
    objects, differences = _checked_apart(path)
    found = Repair(path, state, objects, differences)
    if dry_run or (differences and not accept_changes):
        return found
    lock = WriterLock(path)
    try:
        _replace(path, image)
    finally:
        lock.close()
    Run.open(path).close()
    return attrs.evolve(found, sealed=True)


def _replace(path: Path, image: bytes) -> None:
    try:
        with replaced(path, durable=True) as temporary, temporary.open("xb") as file:
            file.write(image)
            file.write(seal(memoryview(image)))
            os.fchmod(file.fileno(), 0o444)
    except OSError as error:
        raise RunFileError(f"{path}: cannot be sealed anew: {error.strerror or error}; it is left as it was") from error


def _checked_apart(path: Path) -> tuple[int, tuple[str, ...]]:
    """Return what `check` finds, in a process of its own."""
    command = [sys.executable, "-c", "import sys; from elboverse.runfile import repair as r; r.main(sys.argv[1])"]
    done = subprocess.run([*command, str(path.absolute())], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RunFileError(
            f"{path}: it is damaged beyond what can be checked (the HDF5 library ended with code {done.returncode}); "
            "use an intact copy"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        raise RunFileError(f"{found['error']}; it is damaged and cannot be sealed anew, use an intact copy")
    return int(found["objects"]), tuple(found["differences"])


def main(path: str) -> None:
    """Print what `check` finds of a file as JSON."""
    try:
        objects, differences = check(Path(path))
        found: dict[str, Any] = {"objects": objects, "differences": differences}
    except RunFileError as error:
        found = {"error": str(error)}
    sys.stdout.write(json.dumps(found) + "\n")


def check(path: Path) -> tuple[int, list[str]]:
    """Return how many datasets a file holds, all of them read, and what is not as elboverse writes it.

    Raises:
        RunFileError: something cannot be read, or is not allowed in a run file.
    """
    with path.open("rb", buffering=0) as file:
        end = image_bytes(file)
        file.seek(0)
        image = io.BytesIO(file.read(-1 if end is None else end))
    container = Container(path, image)
    run = Run(container)
    datasets = container.datasets()
    for stored in datasets.values():
        stored.read()  # the checksum of every chunk
    return len(datasets), [*_added(image), *_inconsistent(run)]


def _added(image: io.BytesIO) -> Iterator[str]:
    """Yield the attributes that other programs have put into the file."""
    with h5py.File(image, "r") as file:
        for name in file.attrs:
            if name not in _OWN_ATTRIBUTES:
                yield f"/ @{name}: an attribute that another program added"


def _inconsistent(run: Run) -> Iterator[str]:
    """Yield where the ELBO is not what its terms say."""
    tables = {"/trajectory": (run.series, run.steps)}
    for split in run.splits:
        tables[f"/evaluation/{split}"] = (_evaluated(run, split), run.evaluation_steps(split))
    for where, (read, steps) in tables.items():
        elbo, likelihood, kl = (np.asarray(read(name), dtype=np.float64) for name in ("elbo", "log_likelihood", "kl"))
        expected = likelihood - kl.sum(-1)
        size = np.abs(likelihood) + np.abs(kl).sum(-1) + np.abs(elbo)
        epsilon = np.finfo(np.float32).eps if where == "/trajectory" and run.dtype == "float32" else 1e-12
        wrong = np.argwhere(~(np.abs(elbo - expected) <= 64 * epsilon * np.maximum(size, 1.0)) & np.isfinite(expected))
        for row, replica in wrong[:_MOST_SHOWN]:
            yield (
                f"{where}/elbo at step {int(steps[row])}, replica {replica}: {elbo[row, replica]:.6g}, but its terms "
                f"log_likelihood − Σ kl are {expected[row, replica]:.6g}"
            )
        if len(wrong) > _MOST_SHOWN:
            yield f"{where}: {len(wrong) - _MOST_SHOWN:,} more values of the ELBO differ from their terms"


def _evaluated(run: Run, split: str) -> Any:
    return lambda name: run.evaluation(split, name)
