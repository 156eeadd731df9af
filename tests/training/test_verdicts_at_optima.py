"""The verdict at exact optima, on the way to them, and off them by twice the tolerance; the largest are in soak."""

from __future__ import annotations

import pytest
from support.optima import SETTINGS, verdicts


@pytest.mark.parametrize(("dimension", "latent_dim", "count"), SETTINGS)
def test_exact_optima_alone_are_called_stationary(dimension: int, latent_dim: int, count: int) -> None:
    found = verdicts(dimension, latent_dim, count)
    assert found.optimum.verdict == "stationary", found.optimum.sentence()
    assert found.stopped.verdict == "not stationary", found.stopped.sentence()
    assert found.mismatched.verdict == "not stationary", found.mismatched.sentence()
