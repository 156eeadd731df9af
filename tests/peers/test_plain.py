from __future__ import annotations

from pathlib import Path

import numpy as np
from scripts import run_script


def test_a_plain_loop_is_recorded_step_by_step_and_evaluated(tmp_path: Path) -> None:
    _, run = run_script("plain_loop.py", tmp_path / "run")
    assert len(run.steps) == 200
    elbo = run.evaluation("held_out", "elbo")[:, 0]
    assert len(elbo) == 20
    assert elbo[-1] > elbo[0]
    assert np.isfinite(run.series("elbo")).all()
