from __future__ import annotations

from pathlib import Path

import numpy as np
from scripts import run_script


def test_the_channels_of_an_autoencoder_are_judged_by_its_encoder_and_their_kl_is_its_own(tmp_path: Path) -> None:
    printed, run = run_script("with_diffusers.py", tmp_path / "run")
    assert "scaling factor" in printed
    assert run.latent_dim == 4
    assert np.isfinite(run.evaluation("held_out", "prior_residual")).all()
    np.testing.assert_allclose(run.evaluation("held_out", "kl").sum(), float(printed.split()[-1]), rtol=1e-4)
