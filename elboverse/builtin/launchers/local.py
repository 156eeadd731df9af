"""The launcher ``local``: each run in a process of this machine, a number of them at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import attrs

from elboverse.config.structuring import in_range
from elboverse.contracts.launcher import Job, Outcome, Perform, Progress

__all__ = ["Local", "LocalOptions"]

NEVER_SPIN: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Waiting threads must not take the cores of the runs beside them; read once, when a process loads torch."""

SECONDS_BETWEEN_LOOKS: Final = 0.2


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@attrs.frozen(kw_only=True)
class LocalOptions:
    """How many runs are trained at once.

    Args:
        jobs: processes at once; as many as there are cores by default.
    """

    jobs: int = attrs.field(
        factory=_cores, validator=in_range(minimum=1, maximum=4096), metadata={"help": "Number of runs at once."}
    )


class Local:
    """Trains each run in a process forked from one that has loaded torch already, so that it begins at once.

    A process whose study has ended, however it did, ends too: it saves its run as at Ctrl-C. Ctrl-C at the terminal
    reaches the study alone, which then ends its processes in order.

    Args:
        options: how many at once.
    """

    def __init__(self, options: LocalOptions) -> None:
        self._at_once = options.jobs
        self._stopping = False

    def check(self) -> None:
        """Find nothing amiss: processes can always be started."""

    def stop(self) -> None:
        """Ask the runs to end."""
        self._stopping = True

    def launch(self, jobs: Sequence[Job], perform: Perform) -> Iterator[Progress | Outcome]:
        """Train all jobs; see `contracts.Launcher`."""
        waiting, asked = deque(jobs), False
        running: dict[Any, tuple[ForkServerProcess, Job]] = {}
        try:
            while running or (waiting and not self._stopping):
                while waiting and len(running) < self._at_once and not self._stopping:
                    job = waiting.popleft()
                    running.update([_started(job, perform)])
                    yield Progress(name=job.name, done=0, total=0)
                if self._stopping and not asked:
                    asked = True
                    for process, _ in running.values():
                        process.terminate()
                ready: Any
                for ready in connection.wait(list(running), SECONDS_BETWEEN_LOOKS):
                    process, job = running[ready]
                    told = _received(ready)
                    if not isinstance(told, Progress):
                        process.join()
                        del running[ready]
                        ready.close()
                        told = told or _lost(job, process)
                    yield told
        finally:
            for process, _ in running.values():
                process.terminate()
            for ready, (process, _) in running.items():
                process.join()
                ready.close()


def _started(job: Job, perform: Perform) -> tuple[Any, tuple[ForkServerProcess, Job]]:
    """Return the end of a pipe on which a new process tells of a job, and the process with the job."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    with _without_main(), _in_environment({**NEVER_SPIN, "OMP_NUM_THREADS": "1"}):
        context.set_forkserver_preload([perform.__module__])
        forkserver.ensure_running()
    arguments = (perform, job, theirs, dict(os.environ), str(Path.cwd()))
    process = context.Process(target=_work, args=arguments, name=job.name)
    with _without_main():
        process.start()
    theirs.close()
    return ours, (process, job)


def _work(perform: Perform, job: Job, pipe: Any, environment: Mapping[str, str], folder: str) -> None:
    """Do a job in the present process and send what is to be told about it."""
    os.setpgid(0, 0)  # Ctrl-C at the terminal goes to the study, which asks this process to end
    _end_with_parent()
    os.environ.clear()
    os.environ.update({**environment, "OMP_NUM_THREADS": str(job.threads)})
    os.chdir(folder)

    def report(progress: Progress) -> None:
        with suppress(OSError):  # the study has been killed; the run is about to end, saved
            pipe.send(progress)

    outcome = perform(job, report)
    with suppress(OSError):
        pipe.send(outcome)


def _end_with_parent() -> None:
    """Have this process end, as at SIGTERM, when the study's process has ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _received(pipe: Any) -> Progress | Outcome | None:
    try:
        told: Progress | Outcome = pipe.recv()
    except (EOFError, OSError):
        return None
    return told


def _lost(job: Job, process: ForkServerProcess) -> Outcome:
    """Return the outcome of a job whose process ended without a word."""
    code = process.exitcode or 0
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += ", as systems do where memory runs out"
    return Outcome(name=job.name, status="failed", message=f"its process {how}; what it had saved is kept")


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from running the user's script again in each process: nothing of it is needed there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _in_environment(extra: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
