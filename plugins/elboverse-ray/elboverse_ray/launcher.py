"""The launcher ``ray``: each run of a study is a task of a Ray cluster."""

from __future__ import annotations

import os
import socket
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import ray
from ray.exceptions import RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from elboverse.config import in_range
from elboverse.contracts.launcher import Job, Outcome, Perform, Progress
from elboverse.errors import ConfigError
from elboverse_ray.task import Mailbox, train

__all__ = ["Ray", "RayOptions"]

SECONDS_BETWEEN_LOOKS: Final = 1.0
SECONDS_FOR_AN_ANSWER: Final = 5.0


@attrs.frozen(kw_only=True)
class RayOptions:
    """Which cluster, and what it reserves for each run.

    Args:
        address: ``"host:port"`` of the head, or ``"auto"``; Ray is started on this machine where it is empty and the
            variable ``RAY_ADDRESS`` is not set.
        jobs: runs at once; as many as the cluster has room for where it is 0.
        cpus: cores reserved for each run.
        gpus: GPUs reserved for each run.
        retries: how often a run is begun again on another node after its own was lost.
    """

    address: str = ""
    jobs: int = attrs.field(default=0, validator=in_range(minimum=0))
    cpus: float = attrs.field(default=1.0, validator=in_range(above=0))
    gpus: float = attrs.field(default=0.0, validator=in_range(minimum=0))
    retries: int = attrs.field(default=5, validator=in_range(minimum=0))


class Ray:
    """Trains each run as a task; one whose node is lost goes on elsewhere from its last snapshot.

    Args:
        options: cluster and resources.
    """

    def __init__(self, options: RayOptions) -> None:
        self._options = options
        self._stopping = False

    def check(self) -> None:
        """Connect to the cluster, or start Ray here."""
        address = self._options.address or os.environ.get("RAY_ADDRESS", "")
        if address and address != "auto":
            _require_answer(address)
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        if not address:
            settings |= {"include_dashboard": False}
        try:
            if not ray.is_initialized():
                ray.init(address=address or "local", **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"launcher.address: got {address!r}; no Ray cluster answers there ({error})") from error

    def stop(self) -> None:
        """Ask the runs to end."""
        self._stopping = True

    def launch(self, jobs: Sequence[Job], perform: Perform) -> Iterator[Progress | Outcome]:
        """Train all jobs; see `contracts.Launcher`."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        mailbox = ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        token = _left_in(jobs[0].folder.parent)
        task = ray.remote(max_calls=1)(train).options(
            num_cpus=self._options.cpus,
            num_gpus=self._options.gpus,
            max_retries=self._options.retries,
            scheduling_strategy="SPREAD",
        )
        waiting, asked = deque(jobs), False
        running: dict[Any, Job] = {}
        begun: set[str] = set()
        try:
            while running or (waiting and not self._stopping):
                while waiting and not self._stopping and len(running) < (self._options.jobs or len(jobs)):
                    job = waiting.popleft()
                    running[task.remote(perform, job, mailbox, str(token))] = job
                if self._stopping and not asked:
                    asked = True
                    for reference in running:
                        ray.cancel(reference, force=False)
                ready, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_LOOKS)
                for progress in _news(mailbox):
                    begun.add(progress.name)
                    yield progress
                for reference in ready:
                    job = running.pop(reference)
                    outcome = self._outcome(reference, job, begun=job.name in begun)
                    if outcome is not None:
                        yield outcome
        finally:
            token.unlink(missing_ok=True)
            for reference in running:
                ray.cancel(reference, force=True)
            ray.shutdown()

    def _outcome(self, reference: Any, job: Job, *, begun: bool) -> Outcome | None:
        """Return how a task ended, once its files are there; None for one that was called off before it began."""
        try:
            outcome, files = ray.get(reference)
        except TaskCancelledError:
            return Outcome(name=job.name, status="interrupted") if begun else None
        except RayError as error:
            told = str(error).strip().splitlines()
            reason = told[0] if told else type(error).__name__
            return Outcome(name=job.name, status="failed", message=f"its task was lost: {reason}")
        for relative, content in files.items():
            path = job.folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        result: Outcome = outcome
        return result


def _news(mailbox: Any) -> list[Progress]:
    """Return what the mailbox has; nothing while it is begun again after its node was lost."""
    try:
        news: list[Progress] = ray.get(mailbox.news.remote(), timeout=30)
    except RayError:
        return []
    return news


def _require_answer(address: str) -> None:
    """Check that something listens at an address: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS_FOR_AN_ANSWER):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"launcher.address: got {address!r}; no Ray cluster answers there ({error}); expected host:port of a head "
            "node (ray start --head), or none, for Ray on this machine"
        ) from error


def _left_in(folder: Path) -> Path:
    """Return a file by which tasks find out whether their node sees the study's folder."""
    token = folder / f".ray-{uuid.uuid4().hex}"
    token.touch()
    return token
