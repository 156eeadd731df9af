"""Verdicts on a million points, and whether stated standard errors contain the truth as often as they should.

`pytest tests/soak/certificates.py`; verdicts on fewer points are in `tests/training/test_verdicts_at_optima.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.builders import configure
from support.optima import verdicts

from elboverse.running.assembly import build_experiment

REPETITIONS = 200


@pytest.mark.parametrize(("dimension", "latent_dim"), [(4, 2), (6, 3)])
def test_a_million_points_are_judged_as_fewer_are(dimension: int, latent_dim: int) -> None:
    found = verdicts(dimension, latent_dim, 1_000_000)
    assert found.optimum.verdict == "stationary"
    assert found.stopped.verdict == "not stationary"
    assert found.mismatched.verdict == "not stationary"


def test_standard_errors_of_samples_contain_the_truth_in_93_to_97_per_cent() -> None:
    data = {"name": "circle", "points": 1000}
    experiment = build_experiment(configure("vae-1", network={"name": "mlp", "hidden": [16]}, dataset=data))
    assert experiment.objective is not None
    full = experiment.objective(0)
    full.samples = 1
    tensors = experiment.loop.step.tensors().items()
    theta = full.load({path.removeprefix("model/"): value[0] for path, value in tensors if path.startswith("model/")})
    draws = [full.residual_draws(theta, "coverage", number) for number in range(REPETITIONS)]
    full.samples = 500
    truth = np.mean([full.residual_draws(theta, "truth", number)[0] for number in range(8)], axis=0)
    means, errors = np.stack([draw[0] for draw in draws]), np.sqrt(np.stack([draw[1] for draw in draws]))
    for column in (0, -1):  # R_σ and the ELBO; R_h takes no samples
        inside = np.abs(means[:, column] - truth[column]) <= 1.96 * errors[:, column]
        print(f"coverage {inside.mean():.3f}")  # noqa: T201 - what a soak reports
        assert 0.93 <= inside.mean() <= 0.97
