"""A data file in place of a config: settings that suit its size, and a sentence where the model is overfitted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elboverse.cli import main
from elboverse.config.own_data import table_of_data_file
from elboverse.config.tables import find_config
from elboverse.errors import ConfigError
from elboverse.runfile import Run
from elboverse.theory.certificate import certificates


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(90, 2)) @ generator.normal(size=(2, 6)) + 0.3 * generator.normal(size=(90, 6))
    path = tmp_path_factory.mktemp("own") / "measured.csv"
    np.savetxt(path, points, delimiter=",", header="a,b,c,d,e,f", comments="")
    return path


def test_a_small_table_is_trained_to_the_optimum_of_a_linear_vae_and_says_so(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", str(table), "--out", str(tmp_path / "run")])
    told = capsys.readouterr().out
    assert "linear-vae with 4 latents, trained until it is stationary" in told
    assert "Overfitted" not in told
    for options, units in ((), "data"), (("--scaled-units",), "scaled"):
        main(["score", str(tmp_path / "run"), "-o", str(tmp_path / f"{units}.csv"), *options])
        assert f"nats, in {units} units" in capsys.readouterr().err
    with Run.open(tmp_path / "run" / "run.h5") as run:
        assert [one.verdict for one in certificates(run.documents, run.checkpoint_step)] == ["stationary"]


def test_a_large_table_gets_a_network(tmp_path: Path) -> None:
    (tmp_path / "large.csv").write_bytes(b"1.0,2.0\n" * (1 << 18))
    assert table_of_data_file(tmp_path / "large.csv")["model"]["name"] == "vae-1"


def test_a_network_that_learned_a_small_table_by_heart_is_called_overfitted(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["model=vae-1", "model.latent_dim=4", "training.until=epochs", "training.epochs=2500"]
    main(["train", str(table), "--out", str(tmp_path), *(part for one in settings for part in ("--set", one))])
    told = capsys.readouterr().out
    assert "Overfitted: the ELBO of held-out points is" in told
    assert "Next: train longer" not in told


def test_a_mistyped_file_is_told_the_one_beside_it(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(table.parent)
    with pytest.raises(ConfigError, match=r"no config 'measured.cvs' \(did you mean 'measured.csv'\?\)"):
        find_config("measured.cvs")


def test_a_folder_that_may_not_be_listed_gives_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", ".")

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(ConfigError, match=r"no config 'measured.cvs': neither a file"):
        find_config("measured.cvs")


def test_a_warning_is_one_plain_line_of_the_command_line(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).poisson(3.0, size=(60, 3))
    np.savetxt(tmp_path / "counts.csv", rows, delimiter=",", header="a,b,c", comments="", fmt="%d")
    command = [sys.executable, "-m", "elboverse", "train", "counts.csv", "--quiet", "--set", "training.epochs=1"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    assert told.startswith("Warning: dataset 'array': ")
    assert ".py" not in told


def test_values_near_the_largest_number_are_no_outliers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "huge.npy", 1e300 * np.random.default_rng(0).normal(size=(200, 3)))
    main(["data", "info", str(tmp_path / "huge.npy")])
    told = capsys.readouterr()
    assert "carries" not in told.out + told.err
