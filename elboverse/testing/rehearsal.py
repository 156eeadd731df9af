"""What the check of a launcher has it do in place of training: say where it was, wait, or die. Imports no torch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from elboverse.contracts.launcher import Job, Outcome, Progress

__all__ = ["DIES", "FAILS", "WAITS", "rehearse"]

DIES: Final = "dies"
FAILS: Final = "fails"
WAITS: Final = "waits"

LONGEST_WAIT: Final = 60.0


def rehearse(job: Job, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Do what the name of a job begins with; else return as an outcome which process it was in.

    See `contracts.launcher.Perform`.
    """
    if job.name.startswith(DIES):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if job.name.startswith(FAILS):
        return Outcome(name=job.name, status="failed", message="it was told to")
    if job.name.startswith(WAITS):
        asked: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
        if report is not None:
            report(Progress(name=job.name, done=0, total=1))
        end = time.monotonic() + LONGEST_WAIT
        while not asked and time.monotonic() < end:
            time.sleep(0.02)
        return Outcome(name=job.name, status="interrupted" if asked else "finished")
    return Outcome(name=job.name, status="finished", message=str(os.getpid()))
