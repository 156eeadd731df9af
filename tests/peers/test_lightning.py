from __future__ import annotations

from pathlib import Path

from scripts import run_script


def test_the_recorded_elbo_is_the_loss_that_lightning_logs_but_for_its_samples(tmp_path: Path) -> None:
    printed, run = run_script("with_lightning.py", tmp_path / "run")
    logged = float(printed.split()[-1])
    last = run.series("elbo")[-10:, 0].astype(float)
    assert abs(-last[-1] - logged) < 4 * last.std() + 1.0
    assert len(run.steps) == 50
    assert run.evaluation_points("held_out") == 100
