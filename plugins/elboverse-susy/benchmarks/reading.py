"""How fast, and in how much memory, SUSY's form is read: against pandas on the same file, paired, in turn.

    python plugins/elboverse-susy/benchmarks/reading.py [--rows 1000000] [--repeats 5] [--pandas-python PYTHON]

It needs pandas, which elboverse-susy does not. Each measurement is a process of its own; the file is in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

PROBE = """
import json, resource, sys, time
{imports}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""
PANDAS = ("import pandas", "pandas.read_csv(sys.argv[1], header=None)")
READ = (
    "from pathlib import Path; from elboverse_susy import dataset, reading",
    "for block in reading.read_blocks(Path(sys.argv[1]), dataset.FEATURES): pass",
)
START = (
    "from pathlib import Path; from elboverse_susy.dataset import SusyOptions, build_susy",
    "build_susy(SusyOptions(path=Path(sys.argv[1])), 0)",
)


def generate(path: Path, rows: int) -> None:
    """Write a file of SUSY's form with random numbers."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="ascii") as file:
        for start in range(0, rows, 50_000):
            table = random.normal(size=(min(50_000, rows - start), 19)).astype(np.float32).astype(np.float64)
            table[:, 0] = random.integers(0, 2, len(table))
            np.savetxt(file, table, fmt="%.18e", delimiter=",")


def measure(probe: tuple[str, str], path: Path, cache: Path, python: str = sys.executable) -> tuple[float, float]:
    """Return seconds, and MiB of peak memory above what the imports took."""
    command = [python, "-c", PROBE.format(imports=probe[0], work=probe[1]), str(path)]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    seconds, mebibytes = json.loads(done.stdout)
    return seconds, mebibytes


def main() -> None:
    """Generate the file, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pandas-python", default=sys.executable, help="the Python that has pandas")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "SUSY.csv", Path(folder) / "cache"
        generate(path, arguments.rows)
        array = arguments.rows * 18 * 4 / 2**20
        pairs = [
            (measure(PANDAS, path, cache, arguments.pandas_python), measure(READ, path, cache))
            for _ in range(arguments.repeats)
        ]
        ratios = [theirs[0] / ours[0] for theirs, ours in pairs]
        first = measure(START, path, cache)
        later = [measure(START, path, cache) for _ in range(arguments.repeats)]
    rows = {
        "pandas.read_csv": pairs_median(theirs for theirs, _ in pairs),
        "read_blocks": pairs_median(ours for _, ours in pairs),
        "first start": first,
        "second start": pairs_median(later),
    }
    sys.stdout.write(f"{arguments.rows:,} rows, {path.name}; the array in float32 has {array:.0f} MiB\n")
    for name, (seconds, mebibytes) in rows.items():
        sys.stdout.write(f"{name:16} {seconds:6.2f} s  {mebibytes:6.0f} MiB = {mebibytes / array:.2f} x the array\n")
    sys.stdout.write(f"pandas / read_blocks: {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})\n")


def pairs_median(values: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of seconds and of MiB."""
    seconds, mebibytes = zip(*values, strict=True)
    return statistics.median(seconds), statistics.median(mebibytes)


if __name__ == "__main__":
    main()
