"""What runs on the nodes: one run of a study, and the mailbox by which its study hears of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import ray

from elboverse.contracts.launcher import Job, Outcome, Perform, Progress

__all__ = ["Mailbox", "train"]

SAVE_EVERY_SECONDS: Final = 2.0
"""A node may be lost at any time; saving takes at most about 2 % of a run's time however often it is asked for."""

SECONDS_BETWEEN_COPIES: Final = 1.0

RUN_FILE: Final = "run.h5"


class Mailbox:
    """An actor on the study's own machine: the latest progress of each run, and snapshots of those without a folder."""

    def __init__(self) -> None:
        self._news: dict[str, Progress] = {}
        self._snapshots: dict[str, bytes] = {}

    def tell(self, progress: Progress) -> None:
        """Take a run's progress."""
        self._news[progress.name] = progress

    def news(self) -> list[Progress]:
        """Return the progress that came since the last call."""
        news, self._news = list(self._news.values()), {}
        return news

    def keep(self, name: str, snapshot: bytes) -> None:
        """Take a run's snapshot, in place of the one before."""
        self._snapshots[name] = snapshot

    def snapshot(self, name: str) -> bytes | None:
        """Return a run's last snapshot."""
        return self._snapshots.get(name)


def train(perform: Perform, job: Job, mailbox: Any, token: str) -> tuple[Outcome, Mapping[str, bytes]]:
    """Train a run on this node, and return how it ended and the files to be brought back.

    Args:
        perform: trains it.
        job: the run.
        mailbox: the actor `Mailbox`.
        token: a file that is there if this node sees the study's folder.
    """
    mailbox.tell.remote(Progress(name=job.name, done=0, total=0))
    job = attrs.evolve(job, save_every_seconds=SAVE_EVERY_SECONDS)
    if Path(token).exists():
        return perform(job, mailbox.tell.remote), {}
    with tempfile.TemporaryDirectory(prefix="elboverse-") as folder:
        here = Path(folder) / "run"
        here.mkdir()
        snapshot = ray.get(mailbox.snapshot.remote(job.name))
        if snapshot is not None:
            (here / RUN_FILE).write_bytes(snapshot)
        ended = threading.Event()
        copying = threading.Thread(target=_copy, args=(here / RUN_FILE, job.name, mailbox, ended), daemon=True)
        copying.start()
        try:
            outcome = perform(attrs.evolve(job, folder=here), mailbox.tell.remote)
        finally:
            ended.set()
            copying.join()
        files = {
            str(path.relative_to(here)): path.read_bytes()
            for path in here.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        return outcome, files


def _copy(path: Path, name: str, mailbox: Any, ended: threading.Event) -> None:
    """Send each new snapshot to the study's machine; a run file is replaced in one step, so it is whole at any time."""
    last = 0
    while not ended.wait(SECONDS_BETWEEN_COPIES):
        changed = path.stat().st_mtime_ns if path.exists() else 0
        if changed != last:
            last = changed
            ray.get(mailbox.keep.remote(name, path.read_bytes()))
