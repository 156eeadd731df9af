"""Two at once: a second trainer is refused and changes nothing, and readers are welcome at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from support.forking_trainer import ROOT, ForkingTrainer
from support.killing import LONG, rows_of, write_config
from support.reliable import after_update, small

from elboverse.cli import main
from elboverse.runfile import Run
from elboverse.running.runs import train

SECOND_TRAINER = "import sys; from elboverse.cli import main; main(sys.argv[1:])"


def second_trainer(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SECOND_TRAINER, "train", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def everything_in(folder: Path) -> dict[str, bytes]:
    # Not the lock file: a process that closes it gives up its own lock.
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".run.h5.lock"]
    return {str(path): path.read_bytes() for path in sorted(files)}


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_second_trainer_is_refused_and_changes_nothing(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    config = write_config(tmp_path, LONG)
    arguments = ("--resume", folder) if how == "resume" else (config, "--out", folder, "--overwrite")
    refused: list[subprocess.CompletedProcess[str]] = []

    def compete() -> None:
        before = everything_in(folder)
        refused.append(second_trainer(*arguments))
        assert everything_in(folder) == before

    with after_update(7, compete):
        assert train(small(), out=folder).status == "finished"
    assert refused[0].returncode == 1
    assert "another process is writing to this run; wait for its end or choose another folder" in refused[0].stderr
    assert "Traceback" not in refused[0].stderr


def test_without_overwrite_an_existing_run_is_refused_as_before(tmp_path: Path) -> None:
    train(small(), out=tmp_path)
    before = everything_in(tmp_path)
    refused = second_trainer(write_config(tmp_path.parent, LONG), "--out", tmp_path)
    assert refused.returncode == 1
    assert "already exists; give --overwrite" in refused.stderr
    assert everything_in(tmp_path) == before


def test_readers_of_a_live_run_never_fail_and_never_see_fewer_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "run.h5"
    counts: list[int] = []
    with ForkingTrainer(tmp_path / "output") as trainer:
        trainer.start("train", write_config(tmp_path, LONG), "--quiet", "--out", path.parent)
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
        while rows_of(path) < 160:
            assert time.monotonic() < deadline
            with Run.open(path) as run:
                counts.append(len(run.series("elbo")))
                assert run.series("kl").shape == (counts[-1], 1, 2)
            with h5py.File(path) as file:
                counts.append(len(file["trajectory/encoder_entropy"][()]))
            main(["analyze", "collapse", str(path), "--json"])
        assert trainer.wait() == (0, "")
    assert counts == sorted(counts)
    assert len(set(counts)) > 2  # so the run was seen while it grew
    assert capsys.readouterr().err == ""
