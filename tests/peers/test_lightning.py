from __future__ import annotations

from pathlib import Path

import numpy as np
from scripts import run_script


def test_the_recorded_elbo_is_the_loss_that_lightning_has_but_for_its_samples(tmp_path: Path) -> None:
    _, run = run_script("with_lightning.py", tmp_path / "run")
    assert len(run.steps) == 50
    # The first steps scatter widely: at the start the encoder's variances differ by orders of magnitude.
    difference = (run.series("loss")[:, 0].astype(float) + run.series("elbo")[:, 0])[20:]
    # The same parameters and points, other samples of z: what is left is Monte-Carlo error.
    assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(30)
    assert difference.std() < 1.5
    assert run.evaluation_points("held_out") == 100
