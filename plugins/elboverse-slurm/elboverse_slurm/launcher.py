"""The launcher ``slurm``: the runs of a study are a job array, submitted and followed through submitit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import attrs
import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from elboverse.config import in_range
from elboverse.contracts.launcher import Job, Outcome, Perform, Progress
from elboverse.errors import ConfigError
from elboverse_slurm.task import Task

__all__ = ["Slurm", "SlurmOptions"]

SECONDS_BETWEEN_LOOKS: Final = {"slurm": 5.0, "local": 0.2}
SECONDS_TO_SAVE: Final = 60.0


@attrs.frozen(kw_only=True)
class SlurmOptions:
    """What each job of the array asks for.

    Args:
        cluster: ``"slurm"``, or ``"local"`` to run the same jobs as processes of this machine.
        jobs: jobs at once.
        minutes: time limit of a job; a run that needs longer is saved, requeued and resumed.
        requeues: how often that may happen to a run.
        warning_seconds: how long before the time limit a run is asked to save.
        cpus: cores of a job.
        gpus: GPUs of a job.
        memory_gb: memory of a job.
        partition: as of ``sbatch``; none if empty.
        account: as of ``sbatch``; none if empty.
        qos: as of ``sbatch``; none if empty.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    jobs: int = attrs.field(default=100, validator=in_range(minimum=1))
    minutes: float = attrs.field(default=60.0, validator=in_range(above=0))
    requeues: int = attrs.field(default=100, validator=in_range(minimum=0))
    warning_seconds: int = attrs.field(default=60, validator=in_range(minimum=1))
    cpus: int = attrs.field(default=1, validator=in_range(minimum=1))
    gpus: int = attrs.field(default=0, validator=in_range(minimum=0))
    memory_gb: float = attrs.field(default=4.0, validator=in_range(above=0))
    partition: str = ""
    account: str = ""
    qos: str = ""


class Slurm:
    """Trains each run in a job of its own.

    Args:
        options: of the jobs.
    """

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options
        self._stopping = False

    def check(self) -> None:
        """Find out whether jobs can be submitted from this machine."""
        if self._options.cluster == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                "launcher: no sbatch on this machine, so no SLURM jobs can be submitted; start the study on a node "
                "that can, or try it out here with --launch cluster=local"
            )

    def stop(self) -> None:
        """Ask the runs to end."""
        self._stopping = True

    def launch(self, jobs: Sequence[Job], perform: Perform) -> Iterator[Progress | Outcome]:
        """Train all jobs; see `contracts.Launcher`."""
        executor = self._executor(jobs[0])
        try:
            with executor.batch():
                submitted = [executor.submit(Task(perform, job)) for job in jobs]
        except FailedSubmissionError as error:
            raise ConfigError(f"launcher: SLURM takes no job: {' '.join(str(error).split())}") from error
        running = dict(zip(submitted, jobs, strict=True))
        told: set[str] = set()
        cancelled_at: float | None = None
        while running:
            if self._stopping and cancelled_at is None:
                cancelled_at = time.monotonic()
                for one in running:
                    one.cancel(check=False)
            for one, job in list(running.items()):
                if job.name not in told and str(one.state) == "RUNNING":
                    told.add(job.name)
                    yield Progress(name=job.name, done=0, total=0)
                if one.done() or (cancelled_at is not None and time.monotonic() - cancelled_at > SECONDS_TO_SAVE):
                    del running[one]
                    outcome = self._outcome(one, job)
                    if outcome is not None:
                        yield outcome
            time.sleep(SECONDS_BETWEEN_LOOKS[self._options.cluster])

    def _executor(self, job: Job) -> Any:
        options = self._options
        limit = {f"{options.cluster}_max_num_timeout": options.requeues}
        executor = submitit.AutoExecutor(folder=job.folder.parent / ".slurm", cluster=options.cluster, **limit)
        executor.update_parameters(
            name="elboverse",
            timeout_min=max(1, round(options.minutes)),
            cpus_per_task=options.cpus,
            gpus_per_node=options.gpus,
            mem_gb=options.memory_gb,
            slurm_array_parallelism=options.jobs,
            slurm_signal_delay_s=options.warning_seconds,
            **{f"slurm_{key}": value for key in ("partition", "account", "qos") if (value := getattr(options, key))},
        )
        if options.cluster == "local":
            executor._executor.update_parameters(  # noqa: SLF001 - the only way to it
                timeout_min=options.minutes, signal_delay_s=options.warning_seconds
            )
        return executor

    def _outcome(self, submitted: Any, job: Job) -> Outcome | None:
        """Return how a job ended; None for one that was called off before it began."""
        try:
            outcome: Outcome = submitted.result()
        except (FailedJobError, UncompletedJobError, OSError) as error:
            if self._stopping:
                begun = job.folder.exists()
                return Outcome(name=job.name, status="interrupted") if begun else None
            told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            message = f"its SLURM job {submitted.job_id} was lost: {told} (logs in {submitted.paths.folder})"
            return Outcome(name=job.name, status="failed", message=message)
        return outcome
