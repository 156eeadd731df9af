"""Kill a recorded plain loop at 50 random moments, and look at its file each time; then go on from where it is.

`pytest tests/soak/recording.py`; the default session leaves it out by its name, and has a few kills of its own.
"""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import elboverse
from elboverse.errors import RunFileError
from elboverse.runfile import Run

KILLS = 50
UPDATES = 8000


def test_fifty_kills_leave_a_consistent_prefix_each_and_the_loop_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(15)
    folder, whole, kills, furthest = tmp_path / "run", 0, 0, 0
    seen: set[int] = set()
    patience = 0.8
    while kills < KILLS:
        child = os.fork()  # torch is imported once, and a loop starts within milliseconds
        if child == 0:
            _loop(folder)
        time.sleep(generator.uniform(0, patience))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            whole, folder = whole + 1, tmp_path / f"run{whole + 1}"
            furthest = 0
            continue
        kills += 1
        rows = _rows(folder)
        assert rows >= furthest  # what was saved once stays saved
        furthest = rows
        seen.add(rows)
    with capsys.disabled():
        print(f"\n{kills} kills, at {len(seen)} lengths of the file, {whole} loops came to their end")  # noqa: T201
    assert len(seen) >= 10


def _loop(folder: Path) -> None:
    """Record on from where the file ends, and leave the process."""
    code = 1
    try:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        x = torch.ones(8, 5)
        with elboverse.record(folder, resume=True, save_every_seconds=0.0) as run:
            for number in range(run.step_count, UPDATES):
                run.loss(x, (torch.full((8, 2), number * 1e-3), torch.zeros(8, 2)), (x, torch.zeros(())))
        code = 0
    finally:
        os._exit(code)


def _rows(folder: Path) -> int:
    """Return how many rows the file has, each of which is the row of its step; 0 where there is none yet."""
    try:
        run = Run.open(folder)
    except RunFileError:
        assert not (folder / "run.h5").exists()
        return 0
    with run:
        np.testing.assert_array_equal(run.steps, np.arange(len(run.steps)))
        assert run.checkpoint_step == len(run.steps)
        np.testing.assert_allclose(run.series("kl").sum((1, 2)), (run.steps * 1e-3) ** 2, rtol=1e-4, atol=1e-5)
        return len(run.steps)
