from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.builders import configure

from elboverse.components.conformance import require_betas
from elboverse.errors import ConfigError


def betas(total_steps: int, name: str, **options: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    schedule = configure("vae-1", annealing={"name": name} | options).annealing.build()
    return require_betas(schedule, total_steps, name)


def test_constant_is_the_weight_in_every_step() -> None:
    assert betas(7, "constant").tolist() == [1.0] * 7
    assert betas(7, "constant", weight=0.25).tolist() == [0.25] * 7


def test_linear_rises_from_zero_to_one_over_the_first_thirty_percent() -> None:
    weights = betas(1001, "linear")
    expected = np.minimum(1.0, np.arange(1001) / 300)
    np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=1e-12)


def test_linear_goes_between_any_two_weights_also_downwards() -> None:
    weights = betas(101, "linear", start=2.0, end=0.5, fraction=0.5)
    assert weights[0] == 2.0
    assert weights[25] == pytest.approx(1.25)
    assert weights[50:] == pytest.approx(0.5)


@pytest.mark.parametrize("total_steps", [2, 3, 10, 997])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 1.0])
def test_linear_starts_at_its_start_and_reaches_its_end(total_steps: int, fraction: float) -> None:
    weights = betas(total_steps, "linear", start=0.1, end=0.9, fraction=fraction)
    assert weights[0] == pytest.approx(0.1)
    assert weights[-1] == pytest.approx(0.9)
    assert (np.diff(weights) >= 0).all()


def test_cyclical_is_the_formula_of_fu_and_others() -> None:
    weights = betas(100, "cyclical")
    for step in range(100):
        position = (step % 25) / 25
        assert weights[step] == pytest.approx(position / 0.5 if position <= 0.5 else 1.0)


def test_cyclical_repeats_and_reaches_its_end_in_every_cycle() -> None:
    weights = betas(120, "cyclical", start=0.2, end=0.8, cycles=3, fraction=0.25)
    np.testing.assert_array_equal(weights[:40], weights[40:80])
    np.testing.assert_array_equal(weights[:40], weights[80:])
    assert weights[0] == pytest.approx(0.2)
    assert weights[10:40] == pytest.approx(0.8)
    assert weights[5] == pytest.approx(0.5)


def test_sigmoid_is_the_logistic_curve() -> None:
    weights = betas(200, "sigmoid", end=0.5, midpoint=0.25, steepness=20.0)
    for step in (0, 10, 50, 120, 199):
        assert weights[step] == pytest.approx(0.5 / (1 + math.exp(-20 * (step / 200 - 0.25))), rel=1e-12)
    assert weights[50] == pytest.approx(0.25)
    assert (np.diff(weights) > 0).all()
    assert weights[-1] == pytest.approx(0.5, rel=1e-5)


def test_sigmoid_survives_a_steepness_that_would_overflow() -> None:
    weights = betas(10, "sigmoid", midpoint=0.5, steepness=1e6)
    assert weights[0] == pytest.approx(0.0, abs=1e-300)
    assert weights[-1] == 1.0


@pytest.mark.parametrize("name", ["linear", "cyclical"])
def test_a_schedule_that_changes_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="changes nothing"):
        configure("vae-1", annealing={"name": name, "start": 1.0, "end": 1.0})


@pytest.mark.parametrize(
    ("name", "options", "total_steps", "message"),
    [
        ("linear", {}, 1, "one step only"),
        ("cyclical", {"cycles": 4}, 4, r"annealing\.cycles: got 4.* at most 3"),
        ("sigmoid", {"midpoint": 0.95}, 100, "does not come near its end"),
    ],
)
def test_a_schedule_that_cannot_reach_its_end_is_refused(
    name: str, options: dict[str, Any], total_steps: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        betas(total_steps, name, **options)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("constant", "weight", -0.1),
        ("linear", "start", -1.0),
        ("linear", "fraction", 0.0),
        ("linear", "fraction", 1.5),
        ("cyclical", "cycles", 0),
        ("cyclical", "fraction", 0.0),
        ("sigmoid", "midpoint", 1.0),
        ("sigmoid", "steepness", 0.0),
        ("sigmoid", "end", 0.0),
    ],
)
def test_an_option_out_of_range_is_named(name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"annealing\.{option}: .*got"):
        configure("vae-1", annealing={"name": name, option: value})
