"""What runs in a SLURM job: one run of a study, in a process that can be asked to save before the time limit."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any

from submitit.helpers import DelayedSubmission

from elboverse.contracts.launcher import Job, Outcome, Perform

__all__ = ["Task"]


class Task:
    """A run as submitit calls it. At the time limit or a preemption, the run is saved, and its job requeued.

    Args:
        perform: trains the run.
        job: the run.
    """

    def __init__(self, perform: Perform, job: Job) -> None:
        self.perform = perform
        self.job = job
        self._process: Any = None

    def __call__(self) -> Outcome:
        """Train the run, or resume it where it was saved, and return how it ended."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(self.perform, self.job, theirs))
        self._process.start()
        theirs.close()
        signal.signal(signal.SIGINT, lambda *_: self._process.terminate())  # how a cancelled job is told
        try:
            outcome: Outcome = ours.recv()
        except EOFError:
            self._process.join()
            message = f"its process ended with exit code {self._process.exitcode}; what it had saved is kept"
            return Outcome(name=self.job.name, status="failed", message=message)
        self._process.join()
        return outcome

    def checkpoint(self) -> DelayedSubmission:
        """Save the run, and return what goes on with it; called by submitit in its handler of signals."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        return DelayedSubmission(Task(self.perform, self.job))


def _work(perform: Perform, job: Job, pipe: Any) -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):  # these are for the process that follows this one
        signal.signal(number, signal.SIG_IGN)
    pipe.send(perform(job, None))
