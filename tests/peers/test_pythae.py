from __future__ import annotations

from pathlib import Path

from scripts import run_script


def test_every_epoch_of_pythae_is_an_evaluation(tmp_path: Path) -> None:
    _, run = run_script("with_pythae.py", tmp_path / "run")
    elbo = run.evaluation("held_out", "elbo")[:, 0]
    assert len(elbo) == 3
    assert elbo[-1] > elbo[0]
