"""Every likelihood trains on points of its own through the command line, resumes bitwise, and is analysed.

`pytest tests/soak/families.py`; a part of it is in `tests/data/test_family_dataset.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.family_runs import ANALYSES, LIKELIHOODS, assert_calibrated_and_below_the_truth, walked


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_likelihood_finds_its_own_points_and_stays_below_the_truth(likelihood: str, tmp_path: Path) -> None:
    run = walked(likelihood, tmp_path, epochs=150, points=4000, analyses=ANALYSES)
    assert_calibrated_and_below_the_truth(run, likelihood)
