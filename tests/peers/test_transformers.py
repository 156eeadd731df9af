from __future__ import annotations

import math
from pathlib import Path

from scripts import run_script


def test_the_last_recorded_elbo_is_the_model_s_own_loss_to_monte_carlo_error(tmp_path: Path) -> None:
    printed, run = run_script("with_transformers.py", tmp_path / "run")
    elbo = run.evaluation("held_out", "elbo")[:, 0]
    assert len(elbo) == 3
    # 100 points with 8 samples each here and 100 there; the scatter over z is below 6 nats a point.
    assert abs(elbo[-1] + float(printed.split()[-1])) < 3 * 6 / math.sqrt(100 * 8)
