"""Mutual information against normal variables, for which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from elboverse.theory.information import mutual_information


@pytest.mark.parametrize("variance", [0.1, 0.5])
def test_the_information_of_a_normal_channel_is_half_the_log_of_its_signal_to_noise(variance: float) -> None:
    generator = np.random.default_rng(0)
    means = generator.normal(size=(2000, 2)) * np.sqrt(1 - variance)
    found = mutual_information(means, np.full((2000, 2), variance), generator.normal(size=(2000, 2)))
    assert abs(found.value + np.log(variance)) <= 2 * found.standard_error + 0.02  # two latents, ½ ln 1/τ² each


def test_latents_that_do_not_depend_on_the_point_tell_nothing() -> None:
    noise = np.random.default_rng(1).normal(size=(300, 3))
    assert mutual_information(np.ones((300, 3)), np.full((300, 3), 0.7), noise).value == pytest.approx(0, abs=1e-12)
