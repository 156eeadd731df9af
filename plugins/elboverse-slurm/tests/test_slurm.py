"""A study in SLURM jobs, run by submitit's local executor: results, time limits, cancelling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("submitit")

from elboverse.errors import ConfigError, StudyError
from elboverse.runfile import Run
from elboverse.running.sweep import train_sweep

LOCAL = {"name": "slurm", "cluster": "local"}


def table(runs: int, epochs: int, **training: Any) -> dict[str, Any]:
    return {
        "model": {"name": "linear-vae"},
        "dataset": {"name": "pca", "points": 2000, "dimension": 5},
        "training": {"epochs": epochs, "batch_size": 20, "evaluate_every": 100, "device": "cpu", **training},
        "sweep": {"seed": list(range(runs))},
    }


def assert_same_series(one: Path, other: Path) -> None:
    with Run.open(one) as first, Run.open(other) as second:
        assert first.status == second.status == "finished"
        for name in ("elbo", "decoder_entropy", "encoder_entropy", "kl"):
            assert np.array_equal(first.series(name), second.series(name))


def test_runs_in_jobs_are_bitwise_those_of_this_process(tmp_path: Path) -> None:
    in_jobs = train_sweep(table(2, 2), out=tmp_path / "jobs", launcher=LOCAL)
    here = train_sweep(table(2, 2), out=tmp_path / "here")
    for one, other in zip(in_jobs, here, strict=True):
        assert_same_series(one, other)


def test_a_run_longer_than_its_time_limit_is_saved_requeued_and_resumed(tmp_path: Path) -> None:
    config = table(1, 1200, save_every_seconds=1000)
    limited = {**LOCAL, "minutes": 0.4, "warning_seconds": 12}
    [in_job] = train_sweep(config, out=tmp_path / "jobs", launcher=limited)
    with Run.open(in_job) as run:
        steps = [part["step"] for part in run.environment["resumed"]]
    assert steps
    assert all(step > 0 for step in steps)
    [here] = train_sweep(config, out=tmp_path / "here")
    assert_same_series(in_job, here)


def test_one_job_that_fails_is_told_of_at_the_end(tmp_path: Path) -> None:
    config = table(1, 2)
    config["sweep"] = {"training.batch_size": [20, 100_000]}
    with pytest.raises(StudyError, match="1 of the 2 runs failed; the other one is finished:\n  batch_size=100000"):
        train_sweep(config, out=tmp_path / "jobs", launcher=LOCAL)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="there is an sbatch on this machine")
def test_a_machine_without_slurm_is_told_of_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        train_sweep(table(2, 2), out=tmp_path / "s", launcher="slurm")
    assert not (tmp_path / "s").exists()
