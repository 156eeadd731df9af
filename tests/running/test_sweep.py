"""Sweeps: one command, one run for each combination of some values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.reliable import after_update, assert_same_run, terminate

from elboverse.cli import main
from elboverse.config import apply_sweep, load, named_configs, read_table
from elboverse.errors import ConfigError, Interrupted, RunFileError, StudyError
from elboverse.runfile import Run
from elboverse.running.runs import train
from elboverse.running.sweep import SWEEP_FILE, expand, is_sweep, resume_sweep, train_sweep

LATENTS = {"model.latent_dim": [1, 2]}


def table(sweep: Any = LATENTS, **training: Any) -> dict[str, Any]:
    return {
        "model": {"name": "linear-vae"},
        "dataset": {"name": "pca", "points": 80, "dimension": 3},
        "training": {"epochs": 3, "batch_size": 20, "evaluate_every": 1, "device": "cpu", **training},
        "sweep": sweep,
    }


@pytest.fixture(autouse=True)
def built_ins_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "")


def test_a_sweep_has_a_run_for_each_combination() -> None:
    configs = expand(table({"model.latent_dim": [1, 2], "training.learning_rate": [1e-3, 0.01]}))
    found = {name: (config.model.options.latent_dim, config.training.learning_rate) for name, config in configs.items()}
    assert found == {
        "latent_dim=1,learning_rate=0.001": (1, 1e-3),
        "latent_dim=1,learning_rate=0.01": (1, 0.01),
        "latent_dim=2,learning_rate=0.001": (2, 1e-3),
        "latent_dim=2,learning_rate=0.01": (2, 0.01),
    }
    assert is_sweep(table())


def test_keys_need_no_quotes() -> None:
    assert list(expand(table({"model": {"latent_dim": [1, 2]}}))) == ["latent_dim=1", "latent_dim=2"]


def test_runs_are_told_apart_by_the_whole_key_where_its_last_part_is_not_enough() -> None:
    names = list(expand(table({"model.name": ["linear-vae"], "dataset.name": ["pca"]})))
    assert names == ["model.name=linear-vae,dataset.name=pca"]


def test_a_whole_component_can_be_swept_over() -> None:
    sweep = {"dataset": [{"name": "pca", "points": 60}, "circle"]}
    assert list(expand(table(sweep))) == ["dataset=pca", "dataset=circle"]


def test_names_are_safe_for_folders() -> None:
    assert list(expand(table({"dataset": [{"name": "array", "path": "../x.npy"}], "name": ["a b"]}))) == [
        "dataset=array,name=a-b"
    ]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, r"sweep: got \{\}; expected a table of settings and lists of values"),
        ([1], r"sweep: got \[1\]; expected a table of settings and lists of values"),
        ({"model.latent_dim": 2}, r"sweep\.model\.latent_dim: got 2; expected a list of at least one value"),
        ({"model.latent_dim": []}, r"sweep\.model\.latent_dim: got \[\]; expected"),
        ({"model.latent_dim": [2, 2]}, r"sweep\.model\.latent_dim: got 2 twice"),
        ({"model.latent_dim": [2, "x"]}, r"model\.latent_dim: .* in the run latent_dim=x"),
        ({"model.latent_dime": [2]}, r"model\.latent_dime: unknown key.* in the run latent_dime=2"),
        (
            {"seed": list(range(40)), "training.epochs": list(range(1, 41))},
            r"got 1,600 runs; expected at most 1,000",
        ),
    ],
)
def test_a_faulty_sweep_says_what_is_wrong(sweep: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(table(sweep))


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("model.latent_dim=[1, 2]", [1, 2]),
        ("model.latent_dim=1,2", [1, 2]),
        ("model.latent_dim=1", [1]),
        ("dataset=pca, circle", ["pca", "circle"]),
        ("model.network.hidden=[5, 5],[6]", [[5, 5], [6]]),
    ],
)
def test_values_on_the_command_line_may_be_a_list_or_bare(setting: str, values: list[Any]) -> None:
    swept: dict[str, Any] = {}
    apply_sweep(swept, setting)
    [found] = swept["sweep"].values()
    assert found == values


def test_one_run_is_never_made_of_a_sweep() -> None:
    with pytest.raises(ConfigError, match="describes several runs, where one is expected"):
        load(table())


def test_each_run_is_the_one_that_its_config_alone_gives(tmp_path: Path) -> None:
    paths = train_sweep(table(), out=tmp_path / "sweep")
    assert [path.parent.name for path in paths] == ["latent_dim=1", "latent_dim=2"]
    for path, config in zip(paths, expand(table()).values(), strict=True):
        assert_same_run(path, train(config, out=tmp_path / path.parent.name).path)
    assert read_table(tmp_path / "sweep" / SWEEP_FILE) == table()


@pytest.mark.parametrize("stop", [5, 13, 17])
def test_an_interrupted_sweep_goes_on_bitwise(tmp_path: Path, stop: int) -> None:
    whole = train_sweep(table({"model.latent_dim": [1, 2, 3]}), out=tmp_path / "whole")
    config = table({"model.latent_dim": [1, 2, 3]})
    number, done = divmod(stop - 1, 6)
    seen: list[str] = []

    def arm(name: str, _config: object) -> None:
        seen.append(name)

    with pytest.raises(Interrupted, match=r"To resume the whole sweep:\n  elboverse train --resume"):
        _interrupted(config, tmp_path / "pieces", number, done + 1, arm)
    assert len(seen) == number + 1
    resumed = resume_sweep(tmp_path / "pieces")
    assert len(resumed) == 3
    for one, other in zip(resumed, whole, strict=True):
        assert_same_run(one, other)


def _interrupted(config: dict[str, Any], out: Path, number: int, update: int, arm: Any) -> None:
    """Train a sweep, and ask it to stop after an update of the run of that number."""
    begun = 0

    def announce(name: str, single: object) -> None:
        nonlocal begun
        arm(name, single)
        if begun == number:
            stopping.__enter__()
        begun += 1

    stopping = after_update(update, terminate)
    try:
        train_sweep(config, out=out, announce=announce)
    finally:
        stopping.__exit__(None, None, None)


def test_a_finished_sweep_is_left_alone(tmp_path: Path) -> None:
    train_sweep(table(), out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("run.h5")}
    assert resume_sweep(tmp_path) == sorted(before)
    assert {path: path.read_bytes() for path in tmp_path.rglob("run.h5")} == before


def lengths(folder: Path) -> list[int]:
    return [Run.open(path).checkpoint_step for path in sorted(folder.rglob("run.h5"))]


def test_an_extended_sweep_trains_every_run_and_stays_extended(tmp_path: Path) -> None:
    train_sweep(table(), out=tmp_path)
    resume_sweep(tmp_path, overrides=["training.epochs=5"])
    assert lengths(tmp_path) == [10, 10]
    resume_sweep(tmp_path)
    assert lengths(tmp_path) == [10, 10]


def test_an_extension_that_is_interrupted_goes_on_like_any_sweep(tmp_path: Path) -> None:
    whole = train_sweep(table(epochs=5), out=tmp_path / "whole")
    pieces = tmp_path / "pieces"
    train_sweep(table(), out=pieces)
    with after_update(8, terminate), pytest.raises(Interrupted):
        resume_sweep(pieces, overrides=["training.epochs=5"])
    assert lengths(pieces) == [8, 6]
    for one, other in zip(resume_sweep(pieces), whole, strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=5", r"--set seed=5: seed cannot be changed when a sweep is resumed, only .*training\.epochs"),
        ("training.learning_rate=0.5", "cannot be changed when a sweep is resumed"),
        ("training.epochs=2", "training.epochs: got 2; expected at least 3, the length of"),
    ],
)
def test_nothing_else_of_a_sweep_is_changed(tmp_path: Path, override: str, message: str) -> None:
    train_sweep(table(), out=tmp_path)
    before = (tmp_path / SWEEP_FILE).read_bytes()
    with pytest.raises(ConfigError, match=message):
        resume_sweep(tmp_path, overrides=[override])
    assert (tmp_path / SWEEP_FILE).read_bytes() == before


def test_what_a_sweep_varies_is_not_extended(tmp_path: Path) -> None:
    train_sweep(table({"training.epochs": [1, 2]}), out=tmp_path)
    with pytest.raises(ConfigError, match=r"training\.epochs is what the sweep varies"):
        resume_sweep(tmp_path, overrides=["training.epochs=5"])


def test_runs_of_an_overwritten_sweep_are_never_taken_for_new_ones(tmp_path: Path) -> None:
    train_sweep(table(), out=tmp_path)
    with after_update(3, terminate), pytest.raises(Interrupted):
        train_sweep(table(learning_rate=0.05), out=tmp_path, overwrite=True)
    assert not (tmp_path / "latent_dim=2" / "run.h5").exists()
    for path in resume_sweep(tmp_path):
        assert Run.open(path).config["training"]["learning_rate"] == 0.05


def test_a_strangers_run_in_a_sweeps_folder_is_refused(tmp_path: Path) -> None:
    stranger = train(expand(table(learning_rate=0.5))["latent_dim=2"], out=tmp_path / "latent_dim=2").path
    with pytest.raises(RunFileError, match=r"latent_dim=2/run\.h5: already exists"):
        train_sweep(table(), out=tmp_path)
    assert not (tmp_path / SWEEP_FILE).exists()
    content = stranger.read_bytes()
    train_sweep(table(), out=tmp_path, overwrite=True)
    stranger.write_bytes(content)
    with pytest.raises(RunFileError, match=r"is not a run of this sweep, its training\.learning_rate differs"):
        resume_sweep(tmp_path)


def test_a_run_whose_numbers_go_wrong_does_not_stop_the_others(tmp_path: Path) -> None:
    config = table({"training.learning_rate": [1e30, 1e-3]})
    with pytest.raises(StudyError, match="learning_rate=1e"):
        train_sweep(config, out=tmp_path)
    assert Run.open(tmp_path / "learning_rate=0.001" / "run.h5").status == "finished"


def test_a_sweep_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    train_sweep(table(), out=tmp_path)
    with pytest.raises(RunFileError, match=r"sweep\.toml: already exists; give --overwrite"):
        train_sweep(table(), out=tmp_path)
    train_sweep(table(), out=tmp_path, overwrite=True)


def test_the_command_trains_and_resumes_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--set", "dataset.points=80", "--set", "training.epochs=2", "--set", "training.batch_size=20"]
    main(["train", "linear-pca", *options, "--sweep", "model.latent_dim=1,2", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "latent_dim=1\nTraining linear-vae on pca" in printed
    assert f"Saved 2 runs in {out}" in printed
    assert "elboverse analyze compare" in printed
    main(["analyze", "compare", str(out)])
    assert "2 runs, in nats per point" in capsys.readouterr().out
    main(["train", "--resume", str(out), "--set", "training.epochs=3"])
    assert Run.open(out / "latent_dim=2" / "run.h5").checkpoint_step == 6


@pytest.mark.parametrize("command", [["train"], ["config", "check"]])
def test_options_that_another_component_lacks_come_with_advice(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "circle", "--set", "model.name=linear-vae"])
    assert "--set model=linear-vae drops all options of that" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--set", "model.latent_dim=8"], ["--seeds", "0..3", "--sweep", "seed=1,2"]])
def test_a_setting_is_not_given_and_swept_over_at_once(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "linear-pca", "--sweep", "model.latent_dim=1,2", *given])
    assert "given one value and swept over as well" in capsys.readouterr().err


def test_a_sweep_that_cannot_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="batch_size"):
        train_sweep(table(batch_size=1000), out=tmp_path)
    assert not (tmp_path / SWEEP_FILE).exists()
    train_sweep(table(), out=tmp_path)


def test_a_sweep_with_runs_that_have_not_begun_is_not_analysed_as_a_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with after_update(3, terminate), pytest.raises(Interrupted):
        train_sweep(table(), out=tmp_path)
    with pytest.raises(SystemExit):
        main(["analyze", "compare", str(tmp_path)])
    told = capsys.readouterr().err
    assert "1 of the 2 runs of this sweep have not begun, latent_dim=2 first" in told
    assert f"elboverse train --resume {tmp_path}" in told


def test_an_earlier_run_is_not_repeated_as_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--like", str(tmp_path / "run.h5"), "--sweep", "seed=1,2"])
    assert "--like repeats one run" in capsys.readouterr().err


def test_a_sweep_is_checked_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "check", "paper/streaming"])
    assert "no faults in 3 runs" in capsys.readouterr().out
    main(["config", "show", "paper/streaming"])
    assert "# latent_dim=6\n" in capsys.readouterr().out


def test_the_streaming_experiment_is_shipped_as_a_sweep() -> None:
    configs = expand(read_table(named_configs()["paper/streaming"]))
    assert [config.model.options.latent_dim for config in configs.values()] == [2, 4, 6]
    assert {(config.training.batch_size, config.training.learning_rate) for config in configs.values()} == {(10, 2e-3)}
