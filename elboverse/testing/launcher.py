"""The check of a launcher."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from elboverse.components.hookspecs import Component
from elboverse.contracts.launcher import Job, Outcome, Progress
from elboverse.testing.component import require, selection
from elboverse.testing.rehearsal import DIES, FAILS, WAITS, rehearse

__all__ = ["check_launcher"]

PATIENCE: Final = 120.0


def check_launcher(launcher: str | Component, **options: Any) -> None:
    """Check a launcher against `contracts.Launcher`, with jobs that train nothing.

    Each job has one outcome, also one that fails and one whose process is killed, and neither stops the others;
    jobs are done in processes of their own; after `stop`, those that have begun end, and no others begin.

    Args:
        launcher: its name, or its `Component`.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a launcher of that name.
        ElboverseError: it says itself that it cannot work here.
        PluginError: the contract is broken.
    """
    chosen = selection("launcher", launcher, options)
    who = f"launcher {chosen.name!r}"
    with tempfile.TemporaryDirectory() as folder:
        built = chosen.build()
        built.check()
        names = ("one", FAILS, DIES, "last")
        outcomes = _launched(built, _jobs(Path(folder), names), who)
        require(
            outcomes.keys() == set(names),
            f"{who}: it tells how {sorted(outcomes)} ended; expected one Outcome for each of {sorted(names)}",
        )
        require(outcomes[FAILS].status == "failed", f"{who}: a job that failed is told as {outcomes[FAILS].status!r}")
        require(
            outcomes[DIES].status == "failed",
            f"{who}: a job whose process was killed is told as {outcomes[DIES].status!r}; expected 'failed'",
        )
        for name in ("one", "last"):
            outcome = outcomes[name]
            require(outcome.status == "finished", f"{who}: job {name!r} beside one that died ended: {outcome}")
            require(
                outcome.message != str(os.getpid()),
                f"{who}: it calls perform in the process of the study; expected a process of its own for each job",
            )
        _check_stop(chosen.build(), Path(folder), who)


def _check_stop(built: Any, folder: Path, who: str) -> None:
    """Stop a launcher amid many jobs that wait, and see that it ends soon."""
    count = 64
    jobs = _jobs(folder, [f"{WAITS}-{number}" for number in range(count)])
    timer = threading.Timer(1.0, built.stop)
    timer.start()
    try:
        outcomes = _launched(built, jobs, who)
    finally:
        timer.cancel()
    begun = sum(outcome.status in {"interrupted", "failed"} for outcome in outcomes.values())
    require(
        len(outcomes) < count and begun == len(outcomes),
        f"{who}: after stop(), jobs that have begun must be asked to end (SIGTERM) and no others begin; "
        f"{len(outcomes)} of {count} ended, {begun} of them asked",
    )


def _jobs(folder: Path, names: Sequence[str]) -> list[Job]:
    return [Job(name=name, folder=folder / name, config={}, patience_seconds=0.0) for name in names]


def _launched(built: Any, jobs: Sequence[Job], who: str) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    end = time.monotonic() + PATIENCE
    for told in built.launch(jobs, rehearse):
        require(
            isinstance(told, Progress | Outcome), f"{who}: launch yields {told!r}; expected Progress or Outcome records"
        )
        require(time.monotonic() < end, f"{who}: its jobs have not ended after {PATIENCE:.0f} s")
        if isinstance(told, Outcome):
            require(told.name not in outcomes, f"{who}: it tells twice how job {told.name!r} ended")
            outcomes[told.name] = told
    return outcomes
