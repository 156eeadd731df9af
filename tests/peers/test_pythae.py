from __future__ import annotations

import math
from pathlib import Path

from scripts import run_script


def test_the_last_recorded_elbo_is_pythae_s_own_loss_to_monte_carlo_error(tmp_path: Path) -> None:
    printed, run = run_script("with_pythae.py", tmp_path / "run")
    elbo = run.evaluation("held_out", "elbo")[:, 0]
    assert len(elbo) == 3
    assert elbo[-1] > elbo[0]
    theirs = -float(printed.split()[-1]) - 0.5 * 10 * math.log(2 * math.pi)  # its loss leaves the constant out
    # 100 points with 8 samples each here and 100 there; the scatter of ½‖x − μ(z)‖² over z is below 3 nats.
    assert abs(elbo[-1] - theirs) < 3 * 3 / math.sqrt(100 * 8)
