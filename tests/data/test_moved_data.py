"""Data that have moved since a run was trained on them, and configs that lie in another folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import elboverse
from elboverse.cli import cli
from elboverse.errors import ElboverseError
from elboverse.runfile import Run

CONFIG = """
name = "own"
model = { name = "linear-vae", latent_dim = 1 }
dataset = { name = "array", path = "points.npy" }
training = { epochs = 2, batch_size = 10 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    np.save(folder / "points.npy", np.random.default_rng(0).normal(size=(60, 3)))
    (folder / "own.toml").write_text(CONFIG)
    return folder


def test_a_relative_path_counts_from_the_folder_of_the_config(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = elboverse.train(folder / "own.toml", out=tmp_path / "run")
    assert run.config["dataset"]["path"] == str(folder / "points.npy")


def test_a_relative_path_on_the_command_line_counts_from_the_present_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "points.npy").rename(tmp_path / "other.npy")
    monkeypatch.chdir(tmp_path)
    config = elboverse.load_config(folder / "own.toml", ["dataset.path=other.npy"])
    assert config.dataset.options.path == tmp_path / "other.npy"


def test_the_message_names_the_full_path_that_was_looked_for(folder: Path) -> None:
    (folder / "points.npy").unlink()
    with pytest.raises(ElboverseError, match=str(folder / "points.npy")):
        elboverse.train(folder / "own.toml", out=folder / "run")


@pytest.fixture
def moved(folder: Path) -> tuple[Path, Path]:
    """A run whose data were moved afterwards, and where they are now."""
    elboverse.train(folder / "own.toml", out=folder / "run")
    there = folder / "elsewhere.npy"
    (folder / "points.npy").rename(there)
    return folder / "run", there


@pytest.mark.parametrize("analysis", ["samples", "latents"])
def test_an_analysis_takes_the_new_place(moved: tuple[Path, Path], analysis: str) -> None:
    run, there = moved
    lost = CliRunner().invoke(cli, ["analyze", analysis, str(run)])
    assert "cannot be read" in str(lost.exception)
    found = CliRunner().invoke(cli, ["analyze", analysis, str(run), "--data", str(there)])
    assert found.exit_code == 0, found.output


def test_a_run_is_resumed_with_its_data_elsewhere(moved: tuple[Path, Path]) -> None:
    run, there = moved
    longer = elboverse.resume(run, overrides=["training.epochs=4", f"dataset.path={there}"])
    assert longer.config["dataset"]["path"] == str(there)
    assert longer.status == "finished"


def test_other_data_than_before_are_refused_by_their_fingerprint(moved: tuple[Path, Path]) -> None:
    run, there = moved
    np.save(there, np.random.default_rng(1).normal(size=(60, 3)))
    with pytest.raises(ElboverseError, match="other data"):
        elboverse.resume(run, overrides=["training.epochs=4"], data=there)
    result = CliRunner().invoke(cli, ["analyze", "samples", str(run), "--data", str(there)])
    assert "other data" in str(result.exception)


def test_a_dataset_that_is_generated_has_no_place(tmp_path: Path) -> None:
    table = {"dataset": {"name": "circle", "points": 40}, "training": {"epochs": 1, "batch_size": 10}}
    elboverse.train(table, out=tmp_path / "run")
    with pytest.raises(ElboverseError, match="not read from a place"):
        Run.open(tmp_path / "run").model(data=tmp_path / "x.npy")


def test_a_data_file_in_place_of_a_config_is_trained_on(folder: Path) -> None:
    run = elboverse.train(folder / "points.npy", out=folder / "run")
    assert run.config["dataset"] | {"name": "array", "path": str(folder / "points.npy")} == run.config["dataset"]
    assert run.model().encode().shape == (60, run.latent_dim)
