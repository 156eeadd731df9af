"""One run of a study: trained or resumed, and never an exception to the outside."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from elboverse.components.registry import discover
from elboverse.config import from_table
from elboverse.contracts.launcher import Job, Outcome, Progress, Status
from elboverse.errors import ElboverseError, Interrupted, ReplicasDifferError, RunInUseError, out_of_memory
from elboverse.runfile import RUN_FILE, Run
from elboverse.running.runs import resume, train

__all__ = ["TRACEBACK_FILE", "is_done", "perform", "waiting_for_its_end"]

TRACEBACK_FILE: Final = "error.txt"
"""Where the traceback of a run that failed unexpectedly is kept, in its folder."""


def perform(job: Job, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Train the run of a job, or resume it where its run file is there; see `contracts.Perform`."""
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    torch.set_num_threads(job.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        status, message = _attempted(job, report)
    told = tuple(dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)))
    return Outcome(name=job.name, status=status, message=message, warnings=told)


def _attempted(job: Job, report: Callable[[Progress], None] | None) -> tuple[Status, str]:
    """Return the status that a job ends with, and what went wrong."""
    try:
        waiting_for_its_end(lambda: _train(job, report), job.patience_seconds)
    except Interrupted as error:
        return "interrupted", str(error)
    except ReplicasDifferError as error:
        return "unfit", str(error)
    except ElboverseError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other runs of the study go on
        return "failed", _unexpected(error, job.folder)
    return "finished", ""


def _train(job: Job, report: Callable[[Progress], None] | None) -> None:
    registry = discover(plugins=job.plugins) if job.plugins else None
    config = from_table(job.config, registry)
    path = job.folder / RUN_FILE

    def tell(done: int, total: int, text: str) -> None:
        if report is not None:
            report(Progress(name=job.name, done=done, total=total, text=text))

    if not path.exists():
        train(config, out=job.folder, report=tell, save_every_seconds=job.save_every_seconds).close()
    elif not is_done(path, config.training.epochs):
        override = f"training.epochs={config.training.epochs}"
        resume(
            path, overrides=[override], report=tell, save_every_seconds=job.save_every_seconds, registry=registry
        ).close()


def waiting_for_its_end(work: Callable[[], None], seconds: float) -> None:
    """Do some work on a run, once no other process writes to it: one that lost its study ends soon, saved.

    Args:
        work: raises `RunInUseError` while another process does.
        seconds: how long it is tried again.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except RunInUseError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def is_done(path: Path, epochs: int) -> bool:
    """Return whether a run file holds a finished run of that many epochs."""
    with Run.open(path) as run:
        return run.status == "finished" and run.config["training"]["epochs"] == epochs


def _unexpected(error: Exception, folder: Path) -> str:
    """Return what an unforeseen exception is, in one line, and keep its traceback in the run's folder."""
    told = str(out_of_memory(error) or "") or " ".join(f"{type(error).__name__}: {error}".split())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRACEBACK_FILE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return told
    return f"{told} (traceback in {folder / TRACEBACK_FILE})"
