"""Natural mistakes on the command line: what to write instead is said, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import elboverse
from elboverse.cli import cli
from elboverse.config import apply_override, load
from elboverse.errors import ConfigError, ElboverseError


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--epochs", "5"], "--set training.epochs=5"),
        (["--seed", "3"], "--set seed=3"),
        (["--latent-dim", "8"], "--set model.latent_dim=8"),
        (["--lr", "0.1"], "--set training.learning_rate=0.1"),
        (["--batch-size", "10"], "--set training.batch_size=10"),
        (["--set", "latent_dim=8"], "--set model.latent_dim=8"),
        (["--set", "epochs=8"], "--set training.epochs=8"),
        (["--set", "modle.latent_dim=8"], "did you mean 'model'"),
        (["--set", "nonsense=8"], "no setting 'nonsense'"),
        (["--data", "x.csv"], "--resume or --like"),
        (["nowhere.toml"], "no such file"),
        (["circel"], "did you mean 'circle'"),
    ],
)
def test_a_mistake_says_what_to_write_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["train", *arguments])
    assert result.exit_code in {1, 2}
    said = result.output + (str(result.exception) if isinstance(result.exception, ElboverseError) else "")
    assert advice in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "value"), [(".01", 0.01), ("1.", 1.0), ("-.5e2", -50.0), ("3", 3), ("a.5", "a.5")])
def test_numbers_are_numbers_however_people_write_them(text: str, value: object) -> None:
    table: dict[str, object] = {}
    apply_override(table, f"x={text}")
    assert table == {"x": value}


def test_a_run_may_go_without_the_constraint_of_its_config() -> None:
    given = {"model": {"name": "vae-1"}, "dataset": {"name": "circle"}, "constraint": {"name": "rescale"}}
    assert load(given, ["constraint=none"]).constraint is None


def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("name = 'mine'\ndataset = { name = 'circle' }\n", encoding="utf-8-sig")
    assert load(tmp_path / "own.toml").name == "mine"


def test_a_file_that_has_the_name_of_a_shipped_config_does_not_become_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "circle").write_text("nonsense")
    monkeypatch.chdir(tmp_path)
    assert load().name == "circle"
    with pytest.raises(ConfigError, match="TOML"):
        load("circle")


def test_a_data_file_is_trained_on_and_said_to_be_taken_as_such(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "points.csv", np.random.default_rng(0).normal(size=(40, 3)), delimiter=",")
    arguments = ["train", str(tmp_path / "points.csv"), "--out", str(tmp_path / "run"), "--set", "training.epochs=2"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "is a data file" in result.output
    out = tmp_path / "latents.csv"
    assert CliRunner().invoke(cli, ["encode", str(tmp_path / "run"), "-o", str(out)]).exit_code == 0
    assert len(out.read_text().splitlines()) == 41


def test_a_report_is_not_written_into_a_file_of_another_type(tmp_path: Path) -> None:
    table = {"dataset": {"name": "circle", "points": 40}, "training": {"epochs": 1, "batch_size": 10}}
    run = elboverse.train(table, out=tmp_path / "run")
    result = CliRunner().invoke(cli, ["report", str(run.path), "-o", str(tmp_path / "x.pdf")])
    assert "expected .html" in str(result.exception)
    assert not (tmp_path / "x.pdf").exists()
