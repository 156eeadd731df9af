"""Repeating a run: `elboverse train --like RUN.h5` gives bitwise the same numbers, and says first what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.reliable import assert_same_run, small, train_in_pieces
from support.run_samples import forged, replace_document

from elboverse.cli import main
from elboverse.runfile import Run
from elboverse.running.runs import differences, resume, train


def repeated(path: Path, folder: Path, *options: str) -> Path:
    main(["train", "--like", str(path), "--out", str(folder), *options])
    return folder / "run.h5"


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "vae-2", "variances": "optimal", "dtype": "float32"},
        {"annealing": {"name": "cyclical"}, "samples": 3, "record_every": 4, "seed": 7},
        {"replicas": 3},
    ],
    ids=str,
)
def test_a_repeated_run_is_bitwise_the_same(
    tmp_path: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(small(**settings), out=tmp_path / "first").path
    assert_same_run(repeated(path.parent, tmp_path / "again"), path)
    assert f"Versions, device and plugins are those of {path}." in capsys.readouterr().out


def test_a_run_that_was_interrupted_and_extended_is_repeated_bitwise_in_one_go(tmp_path: Path) -> None:
    path = train_in_pieces(small(annealing={"name": "linear"}), tmp_path / "first", [7, 12])
    resume(path, overrides=["training.epochs=8"])
    assert_same_run(repeated(path, tmp_path / "again"), path)


def test_with_another_length_the_annealing_is_laid_out_anew(tmp_path: Path) -> None:
    path = train(small(annealing={"name": "linear"}), out=tmp_path / "first").path
    other = Run.open(repeated(path, tmp_path / "other", "--set", "training.epochs=8"))
    assert other.documents["schedule"] == {"annealing_steps": 48}


def test_a_run_is_repeated_with_another_seed_if_it_is_asked_for(tmp_path: Path) -> None:
    path = train(small(), out=tmp_path / "first").path
    other = Run.open(repeated(path, tmp_path / "other", "--set", "seed=1"))
    assert not np.array_equal(other.series("elbo"), Run.open(path).series("elbo"))


def test_differences_of_versions_device_and_plugins_are_listed_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(small(), out=tmp_path / "first").path
    run = Run.open(path)
    environment = run.environment
    environment["python"] = "3.12.1"
    environment["device"] = "NVIDIA H100"
    environment["packages"]["torch"] = "2.5.0"
    components = run.components
    components[0]["version"] = "0.0.1"
    with forged(path) as file:
        replace_document(file, "environment", environment)
        replace_document(file, "components", components)
    repeated(path, tmp_path / "again")
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(f"Not as in {path}, so the numbers may differ:")
    told = "\n".join(lines[first + 1 : first + 5])
    assert "python: 3.12.1 then, " in told
    assert "device: NVIDIA H100 then, cpu now" in told
    assert "torch: 2.5.0 then, " in told
    assert "model vae-1: elboverse 0.0.1 then, elboverse " in told
    assert not any("step " in line for line in lines[: first + 5])


def test_a_run_here_and_now_differs_in_nothing(tmp_path: Path) -> None:
    assert differences(train(small(), out=tmp_path), small()) == []


def test_other_data_are_told_before_training(tmp_path: Path) -> None:
    points = tmp_path / "points.npy"
    np.save(points, np.random.default_rng(0).random((80, 3)))
    path = train(small(dataset={"name": "array", "path": str(points)}), out=tmp_path / "first").path
    np.save(points, np.random.default_rng(1).random((80, 3)))
    with pytest.warns(RuntimeWarning, match=r"the dataset 'array' gives other data than for .*run.h5"):
        train(small(dataset={"name": "array", "path": str(points)}), out=tmp_path / "again", like=Run.open(path))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_what_is_no_run_is_not_repeated(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        repeated(path, tmp_path / "again")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"Error: {path}: is ")
    assert not (tmp_path / "again").exists()
