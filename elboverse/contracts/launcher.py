"""What a launcher must be: what trains the runs of a study, in processes of this machine or on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

__all__ = ["Job", "Launcher", "Outcome", "Perform", "Progress", "Status"]

Status = Literal["finished", "failed", "interrupted", "unfit"]


@attrs.frozen(kw_only=True)
class Job:
    """One run of a study, as it is handed to whoever trains it. It holds plain values, so that it can travel.

    Args:
        name: of the run within its study.
        folder: of the run, absolute. A run file that is there is resumed, if it is of this run; else the run begins.
        config: the resolved config, as a table.
        threads: how many threads the run may use.
        save_every_seconds: least time between two saves, where it must be shorter than the config says; None if not.
        patience_seconds: how long a run that another process still writes to is waited for.
        plugins: plugin files that the run needs, absolute paths.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    threads: int = 1
    save_every_seconds: float | None = None
    patience_seconds: float = 30.0
    plugins: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Progress:
    """How far a run is.

    Args:
        name: of the run.
        done: steps done.
        total: steps of the whole run.
        text: ELBO, gap and so on, in one line.
    """

    name: str
    done: int
    total: int
    text: str = ""


@attrs.frozen(kw_only=True)
class Outcome:
    """How a run ended.

    Args:
        name: of the run.
        status: ``"finished"``, ``"failed"``, ``"interrupted"`` by a signal (it is saved and can be resumed), or
            ``"unfit"`` where its seeds do not fit as replicas of one run.
        message: what went wrong, if anything did.
        warnings: what was warned of, a line each.
    """

    name: str
    status: Status
    message: str = ""
    warnings: tuple[str, ...] = ()


class Perform(Protocol):
    """What trains a run in the present process: a function that can be sent to another process by its name."""

    def __call__(self, job: Job, report: Callable[[Progress], None] | None = None) -> Outcome:
        """Train or resume a run, and return how it ended. It raises nothing, and ends early, saved, at SIGTERM."""
        ...


@runtime_checkable
class Launcher(Protocol):
    """Trains jobs somewhere, several at once. Built by ``build(options)``; the options say where and how many."""

    def check(self) -> None:
        """Find out whether it can work at all; called before anything is written.

        Raises:
            ElboverseError: it cannot, say because no cluster answers.
        """
        ...

    def launch(self, jobs: Sequence[Job], perform: Perform) -> Iterator[Progress | Outcome]:
        """Train all jobs, and yield progress, where it is known, and one `Outcome` for each job.

        One job's failure does not stop the others, also where its process is killed or its machine lost. After `stop`,
        jobs that have begun are asked to end (SIGTERM), their outcomes are yielded, and no others begin.

        Args:
            jobs: at least one; in which order they begin is the order given.
            perform: to be called once per job, in a process of its own; where a process was lost it may be called
                again, and then resumes.
        """
        ...

    def stop(self) -> None:
        """Ask `launch` to end soon; called from a signal handler, so it must only take note."""
        ...
