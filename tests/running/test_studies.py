"""Studies: runs side by side in processes, what fails, what is resumed, and how runs are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.reliable import assert_same_run

from elboverse.cli import main
from elboverse.config import apply_sweeps, read_table
from elboverse.errors import ConfigError, StudyError, UnknownNameError
from elboverse.runfile import Run
from elboverse.running.sweep import SWEEP_FILE, expand, resume_sweep, run_files, train_sweep


def table(sweep: Any, **training: Any) -> dict[str, Any]:
    return {
        "model": {"name": "linear-vae"},
        "dataset": {"name": "pca", "points": 80, "dimension": 3},
        "training": {"epochs": 3, "batch_size": 20, "evaluate_every": 1, "device": "cpu", **training},
        "sweep": sweep,
    }


@pytest.fixture(autouse=True)
def built_ins_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "")


def test_runs_side_by_side_are_bitwise_those_one_by_one(tmp_path: Path) -> None:
    config = table({"model.latent_dim": [1, 2], "seed": [0, 1]})
    one_by_one = train_sweep(config, out=tmp_path / "one")
    side_by_side = train_sweep(config, out=tmp_path / "two", jobs=2)
    assert [path.parent.name for path in one_by_one] == [path.parent.name for path in side_by_side]
    for one, other in zip(one_by_one, side_by_side, strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize("jobs", [None, 2])
def test_a_value_that_cannot_be_trained_stops_no_other_run(tmp_path: Path, jobs: int | None) -> None:
    config = table({"training.batch_size": [20, 1000, 40]})
    with pytest.raises(
        StudyError, match=r"1 of the 3 runs failed; the other 2 are finished:\n  batch_size=1000: "
    ) as told:
        train_sweep(config, out=tmp_path, jobs=jobs)
    assert "elboverse train --resume" in str(told.value)
    for size in (20, 40):
        assert Run.open(tmp_path / f"batch_size={size}" / "run.h5").status == "finished"
    before = (tmp_path / "batch_size=20" / "run.h5").stat().st_mtime_ns
    with pytest.raises(StudyError, match="1 of the 3 runs failed"):
        resume_sweep(tmp_path, jobs=jobs)
    assert (tmp_path / "batch_size=20" / "run.h5").stat().st_mtime_ns == before


def test_a_study_killed_with_its_runs_is_resumed_with_nothing_lost_or_done_twice(tmp_path: Path) -> None:
    config = tmp_path / "study.toml"
    config.write_text(
        '[model]\nname = "linear-vae"\n[dataset]\nname = "pca"\npoints = 80\ndimension = 3\n'
        '[training]\nepochs = 60\nbatch_size = 20\ndevice = "cpu"\nsave_every_seconds = 0\n'
        '[sweep]\nseed = "0..4"\n'
    )
    out = tmp_path / "study"
    command = [sys.executable, "-m", "elboverse", "train", str(config), "--jobs", "2", "--out", str(out)]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not (out / "seed=1" / "run.h5").exists():
            assert study.poll() is None
            time.sleep(0.05)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
        assert study.stderr is not None
        study.stderr.close()
    resumed = resume_sweep(out, jobs=2)
    whole = train_sweep(read_table(out / SWEEP_FILE), out=tmp_path / "whole")
    for one, other in zip(resumed, whole, strict=True):
        assert_same_run(one, other)


def test_ctrl_c_ends_all_runs_saved(tmp_path: Path) -> None:
    arguments = [
        "--sweep",
        "seed=0..3",
        "--set",
        "training.epochs=100000",
        "--set",
        "training.save_every_seconds=0",
    ]
    out = tmp_path / "study"
    command = [sys.executable, "-m", "elboverse", "train", "circle", "--jobs", "2", "--out", str(out), *arguments]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not all((out / f"seed={seed}" / "run.h5").exists() for seed in (0, 1)):
        assert study.poll() is None
        time.sleep(0.05)
    study.send_signal(signal.SIGINT)
    _, told = study.communicate(timeout=60)
    assert study.returncode == 128 + signal.SIGINT
    assert "0 of 4 runs are finished, 0 failed, 2 are saved on their way, and 2 have not begun" in told
    for seed in (0, 1):
        with Run.open(out / f"seed={seed}" / "run.h5") as run:
            assert run.status == "interrupted"
    assert not (out / "seed=2").exists()


def test_a_run_whose_process_is_killed_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    from elboverse.builtin.launchers.local import Local, LocalOptions
    from elboverse.contracts.launcher import Job, Outcome

    jobs = [Job(name=name, folder=tmp_path / name, config={}) for name in ("killed", "other")]
    told = [one for one in Local(LocalOptions(jobs=1)).launch(jobs, kill_the_first) if isinstance(one, Outcome)]
    assert [(one.name, one.status) for one in told] == [("killed", "failed"), ("other", "finished")]
    assert "killed by SIGKILL" in told[0].message


def kill_the_first(job: Any, _report: Any = None) -> Any:
    from elboverse.contracts.launcher import Outcome

    if job.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(name=job.name, status="finished")


def test_seeds_that_follow_one_another_are_replicas_of_one_run() -> None:
    [(name, config)] = expand(table({"seeds": "3..6"})).items()
    assert (name, config.seed, config.training.replicas) == ("seeds=3..6", 3, 4)
    assert list(expand(table({"seeds": [0, 2]}))) == ["seed=0", "seed=2"]
    assert list(expand(table({"seeds": "0..1", "seeds_as": "runs"}))) == ["seed=0", "seed=1"]


def test_seeds_that_do_not_fit_as_replicas_become_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elboverse.running.assembly._regime_starts", lambda data: (data.fingerprint,))
    paths = train_sweep(table({"seeds": "0..1", "model.latent_dim": [1]}), out=tmp_path)
    assert [path.parent.name for path in paths] == ["latent_dim=1,seed=0", "latent_dim=1,seed=1"]
    assert paths == run_files(tmp_path)
    assert all(path.exists() for path in paths)


def test_zipped_settings_change_together_and_are_crossed_with_the_others() -> None:
    sweep = {
        "model.latent_dim": "1..2",
        "zip": [{"training.batch_size": [10, 20], "training.learning_rate": [0.1, 0.2]}],
    }
    found = {
        name: (config.training.batch_size, config.training.learning_rate)
        for name, config in expand(table(sweep)).items()
    }
    assert found == {
        f"latent_dim={h},batch_size={size},learning_rate={rate}": (size, rate)
        for h in (1, 2)
        for size, rate in ((10, 0.1), (20, 0.2))
    }


def test_whole_tables_of_one_component_are_told_apart_by_the_options_that_differ() -> None:
    sweep = {"dataset": [{"name": "pca", "points": 60}, {"name": "pca", "points": 80}, "circle"]}
    assert list(expand(table(sweep))) == ["dataset=pca-points=60", "dataset=pca-points=80", "dataset=circle"]


def test_a_whole_table_does_not_take_away_a_value_swept_over_inside_it() -> None:
    configs = expand(table({"dataset.points": [60, 70], "dataset": [{"name": "pca"}]}))
    assert [config.dataset.options.points for config in configs.values()] == [60, 70]


@pytest.mark.parametrize(
    "values",
    [["a/b.npy", "a-b.npy"], ["x" * 61 + "a", "x" * 61 + "b"], ["Data.npy", "data.npy"], ["a b", "a/b", "a-b"]],
)
def test_values_that_look_alike_have_folders_of_their_own(values: list[str]) -> None:
    sweep = {"dataset": [{"name": "array", "path": value} for value in values]}
    names = list(expand(table(sweep)))
    assert len({name.casefold() for name in names}) == len(values)
    assert all(len(name.encode()) <= 180 for name in names)


def test_a_sweep_option_that_is_given_again_adds_its_values() -> None:
    swept: dict[str, Any] = {"sweep": {"model": {"latent_dim": [9]}, "seed": [1]}}
    apply_sweeps(swept, ["model.latent_dim=1", "model.latent_dim=2..3"])
    assert list(expand(table(swept["sweep"]))) == [f"seed=1,latent_dim={h}" for h in (1, 2, 3)]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"seeds": "9..0"}, 'expected a range such as "0..9"'),
        ({"seeds": [1, 1]}, "got 1 twice"),
        ({"seeds": "0..2", "seed": [1]}, "leave one of them out"),
        ({"zip": {"seed": [1, 2], "training.epochs": [1]}}, r"different lengths \(seed 2, training.epochs 1\)"),
        ({"model.latent_dim": [1], "model": {"latent_dim": [2]}}, r"sweep\.model\.latent_dim: given twice"),
    ],
)
def test_a_faulty_study_says_what_is_wrong(sweep: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(table(sweep))


def test_a_launcher_that_is_not_installed_names_its_package_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises((UnknownNameError, ConfigError), match="elboverse-ray"):
        train_sweep(table({"seed": [1, 2]}), out=tmp_path / "s", launcher="ray")
    assert not (tmp_path / "s").exists()


def test_jobs_of_a_config_of_one_run_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "circle", "--jobs", "2"])
    assert "describes one run" in capsys.readouterr().err
