"""How many threads a run computes with: one, unless several of them pay."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch

__all__ = ["chosen_threads", "restored_threads"]

SHORT_SECONDS: Final = 0.5e-3
"""Steps shorter than this are never shared among threads: waking them takes longer than they save."""

ROUNDS: Final = 7
"""How often each number of threads is timed, in turns."""

MOST_SECONDS: Final = 0.6
"""About how long the timing takes; two rounds take place however long they are."""

WORTHWHILE: Final = 0.8
"""Several threads are taken where they need at most this share of the time of one. They keep all cores busy, so less
than that gains nobody anything."""


def chosen_threads(seconds: Callable[[], float], most: int) -> int:
    """Return 1 or `most`, whichever trains better on this machine as it is now.

    The medians of alternating rounds count: where something else is at work on the cores, threads wait for one another,
    and that is to be seen.

    Args:
        seconds: does a step and returns how long it took, or its share in it of one of several replicas.
        most: how many threads there may be at most.
    """
    if most == 1 or _is_busy():
        return 1
    started = time.perf_counter()
    timings: dict[int, list[float]] = {1: [], most: []}
    try:
        torch.set_num_threads(1)
        if min(seconds() for _ in range(3)) < SHORT_SECONDS:
            return 1
        for number in range(ROUNDS):
            for threads, found in timings.items():
                torch.set_num_threads(threads)
                seconds()
                found.append(seconds())
            if number > 0 and time.perf_counter() - started > MOST_SECONDS:
                break
    finally:
        torch.set_num_threads(1)
    one, several = (statistics.median(timings[threads]) for threads in (1, most))
    return most if several <= WORTHWHILE * one else 1


@contextmanager
def restored_threads() -> Iterator[None]:
    """Put the number of threads of this process back to what it was, whatever a run has set."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_busy() -> bool:
    """Return whether other work takes most of a core, as far as the system tells."""
    try:
        running, _total = open("/proc/loadavg").read().split()[3].split("/")  # noqa: SIM115, PTH123
        return int(running) - 1 >= max(1, (os.cpu_count() or 1) - 1)
    except (OSError, ValueError, IndexError):
        return False
