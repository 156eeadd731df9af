"""A study of 40 runs, its parent killed with SIGKILL, and resumed: nothing lost, nothing done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from support.reliable import assert_same_run

from elboverse.config import read_table
from elboverse.runfile import Run
from elboverse.running.sweep import SWEEP_FILE, resume_sweep, run_files, train_sweep

RUNS = 40

STUDY = f"""
[model]
name = "linear-vae"
[dataset]
name = "pca"
points = 80
dimension = 3
[training]
epochs = 40
batch_size = 20
device = "cpu"
save_every_seconds = 0
[sweep]
seed = "0..{RUNS - 1}"
"""


def finished(folder: Path) -> dict[Path, int]:
    """Return when the file of each finished run was last written, in nanoseconds."""
    times = {}
    for path in run_files(folder):
        if path.exists():
            with Run.open(path) as run:
                if run.status == "finished":
                    times[path] = path.stat().st_mtime_ns
    return times


def test_forty_runs_resumed_after_their_parent_is_killed_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    config = tmp_path / "study.toml"
    config.write_text(STUDY)
    out = tmp_path / "study"
    command = [sys.executable, "-m", "elboverse", "train", str(config), "--jobs", "2", "--out", str(out)]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / f"seed={RUNS // 4}" / "run.h5").exists():
            assert study.poll() is None
            time.sleep(0.02)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
    time.sleep(2)  # the workers see that their parent is gone
    before = finished(out)
    assert 0 < len(before) < RUNS
    resumed = resume_sweep(out, jobs=2)
    assert len(resumed) == len(finished(out)) == RUNS
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = train_sweep(read_table(out / SWEEP_FILE), out=tmp_path / "whole")
    for one, other in zip(resumed, whole, strict=True):
        assert_same_run(one, other)
