"""The check of data before training: what they look like, which likelihood fits, and where a value does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.family_runs import command

import elboverse
from elboverse.cli import main
from elboverse.components.registry import discover
from elboverse.config import from_table
from elboverse.contracts import Data
from elboverse.data import prepare
from elboverse.data.check import findings, ties
from elboverse.errors import DataError
from elboverse.running.assembly import build_experiment
from elboverse.running.runs import train

REGISTRY = discover({"ELBOVERSE_LOAD_PLUGINS": ""})
RANDOM = np.random.default_rng(0)
REAL = RANDOM.normal(size=(200, 3))


def data(values: Any, scaling: str = "none", **more: Any) -> Data:
    return prepare(torch.as_tensor(np.asarray(values), dtype=torch.float64), seed=0, scaling=scaling, **more)


def said(values: Any, support: Any = "real", **more: Any) -> dict[str, str]:
    return {finding.about: finding.text for finding in findings(data(values, **more), support)}


@pytest.mark.parametrize("scaling", ["none", "min-max", "standard"])
@pytest.mark.parametrize(
    ("values", "about", "advice"),
    [
        ((REAL > 0).astype(float), "binary", '"bernoulli"'),
        (np.eye(4)[RANDOM.integers(0, 4, 200)], "binary", '"categorical" with categories = 4'),
        (RANDOM.poisson(3, (200, 3)), "counts", '"poisson"'),
        (REAL.round(1), "ties", "in steps of 0.1"),
        (np.exp(3 * REAL), "range", '"log-normal"'),
        (1 / (1 + np.exp(-REAL)), "range", '"beta"'),
        (np.column_stack((REAL, REAL[:, 0] > 0)), "mixed", "1 of 4 dimensions hold 0 and 1 alone"),
        (np.column_stack((REAL, RANDOM.poisson(3, 200))), "mixed", "1 of 4 dimensions hold whole numbers"),
        (np.column_stack((REAL, np.ones(200))), "constant", "1 of 4 dimensions never vary"),
    ],
    ids=["binary", "one-hot", "counts", "rounded", "wide", "shares", "some binary", "some counts", "constant"],
)
def test_what_values_look_like_is_said_with_what_fits_them(values: Any, about: str, advice: str, scaling: str) -> None:
    assert advice in said(values, scaling=scaling)[about]


def test_real_numbers_need_no_word() -> None:
    assert said(REAL) == {}


def test_float32_values_that_were_scaled_are_still_known_for_counts() -> None:
    values = torch.as_tensor(RANDOM.poisson(300, (200, 3)), dtype=torch.float32)
    assert [one.about for one in findings(prepare(values, seed=0, scaling="standard"), "real")] == ["counts"]


def test_a_discrete_likelihood_is_told_of_constant_dimensions_alone() -> None:
    values = np.column_stack((RANDOM.poisson(3, (200, 2)), np.zeros(200)))
    assert set(said(values, "counts")) == {"constant"}


def test_grey_values_at_the_ends_endanger_a_continuous_bernoulli() -> None:
    values = RANDOM.uniform(size=(200, 3))
    values[:40, 1] = 0
    assert "1 of 3 dimensions" in said(values, "unit")["edges"]


def test_the_gap_between_repeating_values_is_that_of_the_scaled_data() -> None:
    found = ties(data(REAL.round(1), scaling="standard"))
    assert found.dimensions == 3
    assert found.gap == pytest.approx(0.1 / REAL.std(), rel=0.2)


NUMBERS = {"shares": 1 / (1 + np.exp(-REAL)), "counts": RANDOM.poisson(3, (200, 3)), "binary": (REAL > 0).astype(int)}


@pytest.mark.parametrize(
    ("likelihood", "good", "bad", "advice"),
    [
        ("bernoulli", "counts", 2, '"poisson"'),
        ("poisson", "counts", -3, '"gaussian"'),
        ("negative-binomial", "counts", 1.5, '"gaussian"'),
        ("beta", "shares", 1.25, '"gamma"'),
        ("beta", "binary", 0, '"bernoulli"'),
        ("gamma", "shares", -0.5, '"gaussian"'),
        ("bernoulli", "shares", 0.5, '"continuous-bernoulli"'),
    ],
)
def test_bad_values_are_named_by_line_and_column_and_nothing_is_written(
    tmp_path: Path, likelihood: str, good: str, bad: float, advice: str
) -> None:
    frame = pd.DataFrame(NUMBERS[good], columns=["u", "v", "w"])
    if likelihood != "bernoulli" and good != "binary":
        frame["v"] = frame["v"].astype(float)
        frame.loc[137, "v"] = bad
        place = r"line 139, column 'v': got {}".format(f"{bad:g}".replace(".", r"\."))
    else:
        place = r"line \d+, column '[uvw]': got "
    frame.to_csv(tmp_path / "data.csv", index=False)
    settings = {
        "model": {"name": "vae", "likelihood": likelihood},
        "dataset": {"name": "array", "path": str(tmp_path / "data.csv")},
        "training": {"epochs": 1, "device": "cpu"},
    }
    with pytest.raises(DataError, match=rf"(?s){place}.*defined on nothing else.*{advice}"):
        train(from_table(settings, REGISTRY), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_of_an_array_are_those_of_the_file(tmp_path: Path) -> None:
    values = RANDOM.poisson(3, (50, 2)).astype(float)
    values[31, 1] = -1
    np.save(tmp_path / "data.npy", values)
    settings = {
        "model": {"name": "vae", "likelihood": "poisson"},
        "dataset": {"name": "array", "path": str(tmp_path / "data.npy")},
        "training": {"epochs": 1, "device": "cpu"},
    }
    with pytest.raises(DataError, match=r"row 31 \(counted from 0\), column 1 \(counted from 0\): got -1"):
        build_experiment(from_table(settings, REGISTRY))


def test_held_out_values_beyond_the_range_are_taken_as_its_ends_and_said(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=(200, 2))
    np.save(tmp_path / "data.npy", values)
    settings = {
        "model": {"name": "vae", "likelihood": "continuous-bernoulli"},
        "dataset": {"name": "array", "path": str(tmp_path / "data.npy"), "seed": 3},
        "training": {"epochs": 2, "batch_size": 50, "device": "cpu"},
    }
    config = from_table(settings, REGISTRY)
    assert config.dataset.options.scaling == "min-max"
    with pytest.warns(RuntimeWarning, match="held-out values lie beyond the range of the training data"):
        run = train(config, out=tmp_path / "run")
    assert np.isfinite(run.evaluation("held_out", "elbo")).all()


def test_a_density_that_piles_up_on_repeating_values_is_told(tmp_path: Path) -> None:
    settings = {
        "model": {"name": "vae-1", "initial_decoder_log_var": -14.0},
        "dataset": {"name": "array", "path": str(tmp_path / "data.npy")},
        "training": {"epochs": 1, "variance_learning_rate": 1e-9, "device": "cpu"},
    }
    np.save(tmp_path / "data.npy", REAL.round(1))
    run = train(from_table(settings, REGISTRY), out=tmp_path / "run")
    assert any("piles up" in note for note in elboverse.analyze(run, "stationarity").notes)


def test_data_info_and_config_check_say_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame(NUMBERS["counts"], columns=["u", "v", "w"]).to_csv(tmp_path / "counts.csv", index=False)
    (tmp_path / "config.toml").write_text(
        '[model]\nname = "vae"\n[dataset]\nname = "array"\npath = "counts.csv"\n', encoding="utf-8"
    )
    command("data", "info", str(tmp_path / "counts.csv"))
    command("config", "check", str(tmp_path / "config.toml"))
    out = capsys.readouterr().out
    assert out.count('"negative-binomial"') == 2
    with pytest.raises(SystemExit) as refused:
        main(["config", "check", str(tmp_path / "config.toml"), "--set", 'model.likelihood="bernoulli"'])
    assert refused.value.code == 1
    assert "column 'u'" in capsys.readouterr().err
