"""Damage copies of a run file in every way and read them, in a process that may not take much memory.

Run as a script with a run file, a number of copies and a seed, it prints the tally as JSON and writes nothing else.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ADDRESS_SPACE = 1 << 30
"""Bytes of memory that reading may add, whatever a file claims."""

LONGEST = 5
"""Seconds after which reading a file counts as hanging."""


def damaged(intact: bytes, other: bytes, generator: random.Random) -> bytes:
    """Return `intact` with bits flipped, bytes zeroed, cut out, swapped or cut off, or spliced with `other`."""
    content = bytearray(intact)
    length = generator.choice([1, 4, 64, 512, 4096])
    first, second = (generator.randrange(len(content) - 2 * length) for _ in range(2))
    match generator.randrange(8):
        case 0:
            for _ in range(generator.choice([1, 1, 2, 8])):
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        case 1:
            content[first : first + length] = bytes(length)
        case 2:
            del content[first : first + length]
        case 3:
            content[first:first] = content[second : second + length]
        case 4:
            one, two = content[first : first + length], content[second : second + length]
            content[first : first + length], content[second : second + length] = two, one
        case 5:
            del content[generator.randrange(len(content)) :]
        case 6:
            cut = generator.randrange(min(len(content), len(other)))
            content = bytearray(content[:cut] + other[cut:])
        case _:
            content[first : first + length] = generator.randbytes(length)
    return bytes(content)


def read_damaged_copies(path: Path, other: Path, count: int, seed: int) -> dict[str, Any]:
    """Return what became of `count` damaged copies, every fifth of them sealed anew, as somebody would who forges it.

    Raises:
        AssertionError: a damaged file was read as anything but the original.
        Exception: anything but a `RunFileError` came out.
    """
    from support.reading_runs import everything
    from support.run_samples import SEAL_BYTES, reseal

    from elboverse.errors import RunFileError

    intact, others = path.read_bytes(), other.read_bytes()
    original = everything(path)
    copy = path.with_name("copy.h5")
    generator = random.Random(seed)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, used + ADDRESS_SPACE))
    tally = {"copies": count, "sealed_anew": 0, "refused": 0, "unnamed": 0, "equal": 0, "longest": 0.0}
    for number in range(count):
        sealed_anew = number % 5 == 4
        if sealed_anew:
            copy.write_bytes(damaged(intact[:-SEAL_BYTES], others[:-SEAL_BYTES], generator))
            reseal(copy)
        else:
            copy.write_bytes(damaged(intact, others, generator))
        tally["sealed_anew"] += sealed_anew
        started = time.perf_counter()
        signal.alarm(LONGEST)
        try:
            found = everything(copy)
        except RunFileError as error:
            named = str(error).startswith(f"{copy}: ")
            tally["refused"] += named
            tally["unnamed"] += not named
        else:
            # A seal is not a signature: what was sealed anew may say something else, but nothing may break.
            assert sealed_anew or found in (original, everything(other)), number
            tally["equal"] += not sealed_anew
        signal.alarm(0)
        tally["longest"] = max(tally["longest"], time.perf_counter() - started)
    tally["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return tally


def in_a_child(path: Path, other: Path, count: int, seed: int) -> dict[str, Any]:
    """Return the tally of a process of its own, should the HDF5 library crash."""
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, __file__, path, other, str(count), str(seed)],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    tally: dict[str, Any] = json.loads(child.stdout)
    return tally


if __name__ == "__main__":
    first, second, number, start = sys.argv[1:]
    sys.stdout.write(json.dumps(read_damaged_copies(Path(first), Path(second), int(number), int(start))))
