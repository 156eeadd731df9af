"""Choosing the number of latents: paired differences, outliers, and the command on data whose number is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from elboverse.builtin.analyses.dimension.numbers import Candidate, choose
from elboverse.cli import main


def candidate(latents: int, elbo: np.ndarray) -> Candidate:
    return Candidate(latents, np.atleast_2d(elbo), np.zeros(1), np.array([latents]))


def test_models_are_compared_point_by_point() -> None:
    base = 30 * np.random.default_rng(0).normal(size=200)  # points differ by far more than models
    gain = 0.2 + 0.1 * np.random.default_rng(1).normal(size=200)
    choice = choose([candidate(1, base), candidate(2, base + gain), candidate(3, base + gain + 1e-4 * base / 30)])
    assert choice.candidates[choice.chosen].latents == 2
    assert choice.indistinguishable == [2, 3]
    assert choice.standard_error[0] == pytest.approx((gain + 1e-4 * base / 30).std(ddof=1) / 200**0.5, rel=0.01)


def test_seeds_that_differ_widen_the_standard_error() -> None:
    base = np.random.default_rng(0).normal(size=100)
    seeds = base + np.array([[0.0], [1.0], [-1.0]])
    choice = choose([candidate(1, base + 0.5), Candidate(2, seeds, np.zeros(3), np.zeros(3))])
    assert choice.mean_error[1] > (1 / 3) ** 0.5


def test_one_outlier_does_not_decide() -> None:
    base = np.random.default_rng(0).normal(size=100)
    worse, spoiled = base - 0.3, base.copy()
    spoiled[17] = -500.0
    choice = choose([candidate(2, spoiled), candidate(1, worse)])
    assert choice.left_out.tolist() == [17]
    assert choice.candidates[choice.chosen].latents == 2


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(3)
    x = 2 * generator.normal(size=(240, 2)) @ generator.normal(size=(2, 5)) + generator.normal(size=(240, 5))
    x[7] += 400.0
    x[30, 2] -= 900.0
    path = tmp_path_factory.mktemp("choose") / "known.csv"
    np.savetxt(path, x, delimiter=",", header="a,b,c,d,e", comments="")
    return path


def test_the_known_number_of_latents_is_found_beside_gross_outliers(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, runs = tmp_path / "h.png", tmp_path / "runs"
    main(["choose-h", str(table), "--range", "1..3", "--out", str(runs), "--figure", str(figure)])
    told = " ".join(capsys.readouterr().out.split())
    assert "Left out: line 9, line 32, 2 in all" in told
    assert "one scale is used for all of them" in told
    assert "Take 2 latents" in told
    assert "BIC chooses 2, Minka's evidence 2" in told
    assert figure.stat().st_size > 10_000
    main(["analyze", "dimension", "--json", str(runs)])
    found = json.loads(capsys.readouterr().out)
    assert (found["chosen"], found["pruned"], found["evidence"]) == (2, 2, 2)
    assert [one["active"] for one in found["candidates"]] == [1, 2, 2]


@pytest.mark.parametrize("span", ["3", "2..2", "0..4", "a..b"])
def test_a_range_that_is_none_is_refused(table: Path, span: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["choose-h", str(table), "--range", span])
    assert f"--range: got {span!r}; expected a first and a larger last number" in capsys.readouterr().err
