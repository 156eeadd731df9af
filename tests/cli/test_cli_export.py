"""``elboverse export``: every format holds the numbers of the run file, and nothing is overwritten unasked."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.run_samples import sample
from support.synthetic_runs import write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from elboverse.cli import main
from elboverse.runfile import Run


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return sample(tmp_path / "run.h5", steps=20, replicas=2, latent_dim=3)


def export(capsys: pytest.CaptureFixture[str], *arguments: Any) -> list[str]:
    """Return the lines that are printed."""
    main(["export", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def message(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["export", *(str(argument) for argument in arguments)])
    assert ended.value.code == 1
    return capsys.readouterr().err


def expected_columns(run: Run, table: str) -> dict[str, Any]:
    """Return the columns of a table as they should be, row by row and replica by replica."""
    read = run.series if table == "trajectory" else lambda name: run.evaluation(table, name)
    stored = run.stored if table == "trajectory" else run.evaluation_names(table, stored=True)
    columns = {}
    for name in dict.fromkeys((*stored, "entropy_sum", "gap")):
        values = np.moveaxis(read(name), 1, 0)
        if values.ndim == 2:
            columns[name] = values.ravel()
        else:
            columns |= {f"{name}_{h}": values[..., h].ravel() for h in range(3)}
    return columns


@pytest.mark.parametrize("table", ["trajectory", "train", "held_out"])
def test_csv_holds_every_number_exactly(capsys: pytest.CaptureFixture[str], run_file: Path, table: str) -> None:
    lines = export(capsys, run_file)
    folder = run_file.with_name("run-csv")
    assert lines == [str(folder / name) for name in ("trajectory.csv", "held_out.csv", "train.csv", "documents.json")]
    with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    run = Run.open(run_file)
    count = 20 if table == "trajectory" else 2
    assert [row["replica"] for row in rows] == ["0"] * count + ["1"] * count
    steps = run.steps if table == "trajectory" else run.evaluation_steps(table)
    assert [int(row["step"]) for row in rows] == [*steps, *steps]
    expected = expected_columns(run, table)
    assert {*rows[0]} - {"step", "epoch", "replica"} == {*expected}
    for name, values in expected.items():
        np.testing.assert_array_equal(np.array([row[name] for row in rows]).astype(values.dtype), values)


def test_documents_come_along(capsys: pytest.CaptureFixture[str], run_file: Path) -> None:
    export(capsys, run_file, "--out", run_file.parent / "there")
    documents = json.loads((run_file.parent / "there" / "documents.json").read_text(encoding="utf-8"))
    assert documents == Run.open(run_file).documents


def test_parquet_holds_every_number_exactly(capsys: pytest.CaptureFixture[str], run_file: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (elboverse[parquet])")
    export(capsys, run_file, "--format", "parquet")
    run = Run.open(run_file)
    for table in ("trajectory", "held_out"):
        columns = parquet.read_table(run_file.with_name("run-parquet") / f"{table}.parquet").to_pydict()
        for name, values in expected_columns(run, table).items():
            np.testing.assert_array_equal(np.array(columns[name], values.dtype), values)


def test_parquet_without_pyarrow_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'elboverse[parquet]'" in message(capsys, run_file, "--format", "parquet")
    assert not run_file.with_name("run-parquet").exists()


def test_npz_holds_every_array_with_its_axes(capsys: pytest.CaptureFixture[str], run_file: Path) -> None:
    (line,) = export(capsys, run_file, "--format", "npz")
    run = Run.open(run_file)
    with np.load(line, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["trajectory.step"], run.steps)
        for name in (*run.stored, "gap"):
            np.testing.assert_array_equal(archive[f"trajectory.{name}"], run.series(name))
        for split in run.splits:
            np.testing.assert_array_equal(archive[f"{split}.epoch"], run.evaluation_epochs(split))
            np.testing.assert_array_equal(archive[f"{split}.kl"], run.evaluation(split, "kl"))
        assert json.loads(archive["documents"].tobytes()) == run.documents


def test_tensorboard_shows_each_replica_as_a_run(capsys: pytest.CaptureFixture[str], run_file: Path) -> None:
    folders = export(capsys, run_file, "--format", "tensorboard")
    assert [Path(folder).name for folder in folders] == ["replica-0", "replica-1"]
    run = Run.open(run_file)
    for replica, folder in enumerate(folders):
        events = EventAccumulator(folder)
        events.Reload()
        shown = events.Scalars("bounds/elbo")
        assert [event.step for event in shown] == list(run.steps)
        assert [event.value for event in shown] == pytest.approx(run.series("elbo", replica).tolist())
        evaluated = events.Scalars("evaluation/held_out_elbo")
        assert [event.value for event in evaluated] == pytest.approx(
            run.evaluation("held_out", "elbo", replica).tolist()
        )


@pytest.mark.parametrize("form", ["csv", "npz", "tensorboard"])
def test_what_is_there_already_is_replaced_only_when_asked(
    capsys: pytest.CaptureFixture[str], run_file: Path, form: str
) -> None:
    first = export(capsys, run_file, "--format", form)
    assert "give --overwrite" in message(capsys, run_file, "--format", form)
    assert export(capsys, run_file, "--format", form, "--overwrite") == first
    assert not list(run_file.parent.rglob(".*.csv*"))


def test_a_run_without_rows_is_exported_with_its_heads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_run(tmp_path / "empty.h5", steps=0, evaluations=0)
    export(capsys, path)
    text = (tmp_path / "empty-csv" / "trajectory.csv").read_text(encoding="utf-8")
    assert text.startswith("step,replica,beta")
    assert len(text.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_one_sentence(capsys: pytest.CaptureFixture[str], run_file: Path) -> None:
    assert f"--out {run_file}: cannot be written" in message(capsys, run_file, "--out", run_file)
