from __future__ import annotations

from pathlib import Path

import numpy as np
from scripts import run_script


def test_the_recorded_elbo_is_that_of_scvi_tools_to_monte_carlo_error(tmp_path: Path) -> None:
    printed, run = run_script("with_scvi.py", tmp_path / "run")
    theirs = abs(float(printed.split()[-1]))
    ours = -run.series("elbo")[:, 0].astype(float).mean()
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
