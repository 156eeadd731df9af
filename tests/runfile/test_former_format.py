"""A run file that elboverse wrote before the house was laid out in wings: it opens, is analysed and is resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import elboverse

FORMER = Path(__file__).parent / "former" / "format-1.h5"


def test_a_former_run_opens_with_its_identity_intact() -> None:
    with elboverse.Run.open(FORMER) as run:
        assert run.status == "finished"
        gap = run.series("elbo") - run.series("entropy_sum")
        np.testing.assert_allclose(
            gap, run.series("decoder_residual") + run.series("prior_residual").sum(-1), atol=1e-4
        )


def test_a_former_config_is_read_under_the_present_names_of_its_keys() -> None:
    with elboverse.Run.open(FORMER) as run:
        assert {"snapshots", "snapshot_every_seconds"} <= run.documents["config"]["training"].keys()
        assert {"frames", "save_every_seconds"} <= run.config["training"].keys()
        assert run.config["training"]["save_every_seconds"] == 10.0


@pytest.mark.parametrize("analysis", ["bounds", "collapse", "stationarity", "latents", "spectrum"])
def test_a_former_run_is_analysed(analysis: str) -> None:
    assert elboverse.analyze(FORMER, analysis).rows


def test_a_former_run_is_resumed(tmp_path: Path) -> None:
    shutil.copyfile(FORMER, tmp_path / "run.h5")
    run = elboverse.resume(tmp_path, overrides=["training.epochs=4"])
    with elboverse.Run.open(FORMER) as before:
        np.testing.assert_array_equal(run.series("elbo")[: len(before.steps)], before.series("elbo"))
    assert run.status == "finished"
    assert len(run.steps) > 0
