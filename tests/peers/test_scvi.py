from __future__ import annotations

from pathlib import Path

import numpy as np
from scripts import run_script


def test_the_recorded_elbo_is_that_of_scvi_tools_to_monte_carlo_error(tmp_path: Path) -> None:
    printed, run = run_script("with_scvi.py", tmp_path / "run")
    theirs = abs(float(printed.split()[-1]))
    ours = -run.series("elbo")[:, 0].astype(float).mean()
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
    error = float(run.evaluation("train", "elbo_standard_error")[-1, 0])
    # The cells are the same, so that the two differ by the samples of z alone, far less than by the choice of cells.
    assert abs(-run.evaluation("train", "elbo")[-1, 0] - theirs) < error
    assert np.isfinite(run.evaluation("train", "decoder_residual")).all()
