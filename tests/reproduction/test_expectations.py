"""Expectations: their limits, where their numbers are found, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elboverse.components.registry import discover
from elboverse.config import named_configs
from elboverse.errors import AnalysisError, ConfigError
from elboverse.reproduction import experiments
from elboverse.reproduction.expectations import Expectation, Limits, expected_file, found_at, load_expected

DATA: dict[str, Any] = {
    "final": [{"elbo": 1.0}, {"elbo": 4.0}],
    "quantities": [{"name": "ELBO", "trained": 3.5, "optimum": 3.75}, {"name": "σ²", "trained": 0.01}],
    "gap": {"median": None},
    "verdict": "stationary",
    "exact": True,
    "zero": 0.0,
}


def expectation(**fields: Any) -> Expectation:
    given = {"what": "a number", "analysis": "spectrum", "source": "an equation", "path": "zero", "at_most": 1.0}
    return Expectation(**(given | fields))


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (Limits(value=2.0, tolerance=0.5), (1.5, 2.0, 2.5), (1.49, 2.51)),
        (Limits(value=2.0, tolerance=0.0), (2.0,), (1.999, 2.001)),
        (Limits(at_least=-1.0), (-1.0, 1e9), (-1.01,)),
        (Limits(at_most=-1.0), (-1.0, -1e9), (-0.99,)),
        (Limits(at_least=-1.0, at_most=1.0), (-1.0, 0.0, 1.0), (-1.01, 1.01)),
    ],
    ids=str,
)
def test_limits_hold_inside_and_at_their_bounds_alone(
    limits: Limits, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert all(map(limits.holds, inside))
    assert not any(map(limits.holds, outside))


def test_no_limits_hold_for_what_is_not_finite() -> None:
    assert not Limits(at_least=-1e300).holds(None)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(value=2.0, tolerance=0.5), "2 ± 0.5"),
        (Limits(value=2.0, tolerance=0.0), "2"),
        (Limits(at_least=-1.0), "≥ -1"),
        (Limits(at_most=4.0), "≤ 4"),
        (Limits(at_least=-1.0, at_most=4.0), "-1 … 4"),
    ],
)
def test_limits_are_shown_as_they_are_written(limits: Limits, text: str) -> None:
    assert str(limits) == text


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"value": 1.0},
        {"tolerance": 1.0},
        {"value": 1.0, "at_least": 0.0},
        {"tolerance": 1.0, "at_most": 0.0},
        {"value": 1.0, "tolerance": 1.0, "at_most": 0.0},
    ],
)
def test_limits_are_a_value_with_a_tolerance_or_bounds(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="value and tolerance together, or at_least, at_most or both"):
        Limits(**fields)


def test_limits_that_nothing_meets_are_refused() -> None:
    with pytest.raises(ValueError, match="got at_least = 2 and at_most = 1, which nothing meets"):
        Limits(at_least=2.0, at_most=1.0)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("final.0.elbo", 1.0),
        ("final.-1.elbo", 4.0),
        ("quantities.name=σ².trained", 0.01),
        ("gap.median", None),
    ],
)
def test_a_path_leads_through_keys_positions_and_names(path: str, number: float | None) -> None:
    assert found_at(DATA, path, "spectrum") == number


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("finale", "spectrum: no 'finale' in its data; there is final, quantities, gap, verdict, exact, zero"),
        ("final.2.elbo", "spectrum: no '2' in final; there is a list of 2"),
        ("final.-3.elbo", "spectrum: no '-3' in final; there is a list of 2"),
        ("final.x", "spectrum: no 'x' in final; there is a list of 2"),
        ("quantities.name=KL.trained", "spectrum: no 'name=KL' in quantities; there is name = ELBO, σ²"),
        ("verdict.x", "spectrum: no 'x' in verdict; there is 'stationary'"),
        ("verdict", "spectrum: verdict is 'stationary', and a number is expected"),
        ("exact", "spectrum: exact is 'True', and a number is expected"),
        ("gap", "spectrum: gap is \"{'median': None}\", and a number is expected"),
    ],
)
def test_a_path_to_no_number_is_refused_with_what_is_there(path: str, message: str) -> None:
    with pytest.raises(AnalysisError) as caught:
        found_at(DATA, path, "spectrum")
    assert str(caught.value) == message


def test_a_number_may_be_a_difference_or_a_ratio() -> None:
    trained, optimum = "quantities.name=ELBO.trained", "quantities.name=ELBO.optimum"
    assert expectation(path=trained, minus=optimum).measured(DATA) == -0.25
    assert expectation(path="final.1.elbo", over="final.0.elbo").measured(DATA) == 4.0
    assert expectation(path="final.1.elbo", minus="final.0.elbo", over=trained).measured(DATA) == 3.0 / 3.5


@pytest.mark.parametrize(
    "fields", [{"path": "gap.median"}, {"minus": "gap.median"}, {"over": "gap.median"}, {"over": "zero"}]
)
def test_a_number_with_a_part_that_is_not_finite_is_not_finite(fields: dict[str, str]) -> None:
    assert expectation(**({"path": "final.0.elbo"} | fields)).measured(DATA) is None


def test_the_scaled_down_experiment_may_have_limits_of_its_own() -> None:
    loose = Limits(at_most=9.0)
    assert expectation(quick=loose).limits(quick=True) == loose
    assert str(expectation(quick=loose).limits(quick=False)) == "≤ 1"
    assert str(expectation().limits(quick=True)) == "≤ 1"


def test_every_fault_of_a_file_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.expected.toml"
    file.write_text(
        'minutes = 0\n[figure]\nanalysis = "bounds"\n[[expect]]\nwhat = "w"\nanalysis = "bounds"\npath = "final"\n'
        'source = "s"\nat_mots = 1.0\nquick = { at_most = true }\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_expected(file, discover())
    places = [".".join(fault.path).removeprefix("mine.expected.toml.") for fault in caught.value.faults]
    assert places == ["minutes", "expect.0.at_mots", "expect.0.quick.at_most"]


def test_every_config_of_the_paper_has_expectations_and_expectations_are_no_configs() -> None:
    names = set(named_configs())
    assert {name.removeprefix("paper/") for name in names if name.startswith("paper/")} == set(experiments())
    assert not any("expected" in name for name in names)


@pytest.mark.parametrize("name", sorted(experiments()))
def test_shipped_expectations_name_analyses_options_and_sources_that_exist(name: str) -> None:
    registry = discover()
    expected = load_expected(expected_file(experiments()[name]), registry)
    assert expected.expect
    for part in (expected.figure, *expected.expect):
        fields = {field.name for field in registry.find("analysis", part.analysis).config_class().__attrs_attrs__}
        assert set(part.options) <= fields
    assert all(len(one.source) > 20 for one in expected.expect)
