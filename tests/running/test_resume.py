"""Exact resuming: interrupted anywhere, any number of times, a run ends bitwise as if nothing had happened."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.builders import VARIANTS
from support.reading_runs import events
from support.reliable import STEPS, after_update, assert_same_run, contents, small, terminate, train_in_pieces

from elboverse.cli import main
from elboverse.errors import ConfigError, Interrupted, RunFileError
from elboverse.runfile import Run
from elboverse.running.runs import resume, train
from elboverse.training.evaluation import Evaluator

SCHEDULES: tuple[dict[str, Any], ...] = (
    {"name": "constant", "weight": 0.5},
    {"name": "linear"},
    {"name": "cyclical"},
    {"name": "sigmoid"},
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run file of the small run that nobody interrupted."""
    return train(small(), out=tmp_path_factory.mktemp("whole")).path


@pytest.mark.parametrize(
    ("variant", "annealing", "replicas"),
    [
        # β is known beforehand for every step, so schedules and variants do not interact.
        *((variant, SCHEDULES[number % 4], replicas) for number, variant in enumerate(VARIANTS) for replicas in (1, 3)),
        *((("vae-1", None, "learned"), schedule, 1) for schedule in SCHEDULES),
    ],
    ids=str,
)
def test_every_model_constraint_variance_mode_and_schedule_resumes_bitwise(
    tmp_path: Path, variant: tuple[str, str | None, str], annealing: dict[str, Any], replicas: int
) -> None:
    model, constraint, variances = variant
    settings: dict[str, Any] = {"variances": variances, "annealing": annealing, "replicas": replicas}
    # Inside an epoch, right at an evaluation, right after it, and right before the end.
    pieces = train_in_pieces(small(model, constraint, **settings), tmp_path / "pieces", [4, 12, 13, STEPS - 1])
    group = Run.open(pieces).documents["engine"]["replica_group"]  # as the first piece measured it
    uninterrupted = train(small(model, constraint, **settings, replica_group=group), out=tmp_path / "whole").path
    assert_same_run(pieces, uninterrupted)


STREAM: dict[str, Any] = {
    "name": "gaussian-stream",
    "regimes": [{"latents": 2, "points": 70}, {"latents": 1, "points": 50}],
    "dimension": 3,
    "held_out_points": 50,
}


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("model", ["linear-vae", "vae-3"])
def test_a_run_on_a_stream_resumes_bitwise(tmp_path: Path, model: str, replicas: int) -> None:
    # Of the 6 batches of a pass, 4 begin in the first regime.
    config = small(model, dataset=STREAM, replicas=replicas, replica_group=2, evaluate_every=0.5)
    pieces = train_in_pieces(config, tmp_path / "pieces", [1, 3, 4, 6, 7, 11])
    assert_same_run(pieces, train(config, out=tmp_path / "whole").path)


def test_an_extended_run_on_a_stream_is_bitwise_the_longer_one(tmp_path: Path) -> None:
    train(small("linear-vae", dataset=STREAM, epochs=1), out=tmp_path / "longer")
    extended = resume(tmp_path / "longer", overrides=["training.epochs=3"]).path
    assert_same_run(extended, train(small("linear-vae", dataset=STREAM, epochs=3), out=tmp_path / "whole").path)


@pytest.mark.parametrize("stop", [1, 6, 11, 23, 24, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_are_recorded_now_and_then_resume_bitwise(tmp_path: Path, stop: int, dtype: str) -> None:
    config = small(record_every=4, dtype=dtype, samples=3)
    uninterrupted = train(config, out=tmp_path / "whole").path
    assert_same_run(train_in_pieces(config, tmp_path / "pieces", [stop]), uninterrupted)


def test_a_run_interrupted_after_every_single_step_resumes_bitwise(tmp_path: Path, whole: Path) -> None:
    assert_same_run(train_in_pieces(small(), tmp_path, list(range(1, STEPS))), whole)


def test_a_run_interrupted_before_its_first_step_resumes_bitwise(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Evaluator.evaluate

    def interrupting(self: Evaluator, *arguments: Any) -> Any:
        if self.split == "train":
            terminate()
        return evaluate(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "evaluate", interrupting)
        with pytest.raises(Interrupted, match="after step 0 of 30"):
            train(small(), out=tmp_path)
    assert Run.open(tmp_path / "run.h5").checkpoint_step == 0
    assert_same_run(resume(tmp_path).path, whole)
    assert events(tmp_path) == events(whole.parent)


def test_a_run_is_resumed_by_its_folder_or_its_file(tmp_path: Path, whole: Path) -> None:
    for name, given in (("folder", ""), ("file", "run.h5")):
        train_in_pieces(small(), tmp_path / name, [7], to_the_end=False)
        assert_same_run(resume(tmp_path / name / given).path, whole)


def test_the_environment_of_every_resumption_is_kept(tmp_path: Path) -> None:
    run = Run.open(train_in_pieces(small(), tmp_path, [7, 20]))
    assert [one["step"] for one in run.environment["resumed"]] == [7, 20]


def test_the_seconds_of_all_parts_of_a_run_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 100)
    monkeypatch.setattr("elboverse.running.sinks.run_file.time", SimpleNamespace(monotonic=lambda: next(clock)))
    first = Run.open(train_in_pieces(small(), tmp_path, [7], to_the_end=False)).training_seconds
    assert first == 200  # a snapshot at once, and one at the interruption
    assert resume(tmp_path).training_seconds == 300


# --- TensorBoard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[7], [12], [1, 12, 24, 29]])
def test_tensorboard_shows_each_step_once_whatever_the_interruptions(
    tmp_path: Path, whole: Path, stops: list[int]
) -> None:
    train_in_pieces(small(), tmp_path, stops)
    shown = events(tmp_path)
    assert shown == events(whole.parent)
    assert shown["bounds/elbo"] == list(range(STEPS))
    assert shown["evaluation/train_elbo"] == [0, 12, 24, 30]


def test_pictures_made_right_at_an_interruption_stay_in_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.random.default_rng(0).random((80, 3, 3), dtype=np.float32)
    np.save(tmp_path / "images.npy", points)
    config = small(dataset={"name": "array", "path": str(tmp_path / "images.npy")}, epochs=6)
    train(config, out=tmp_path / "whole")
    train_in_pieces(config, tmp_path / "pieces", [4])
    shown = events(tmp_path / "pieces")
    assert any(tag.startswith("pictures/") for tag in shown)
    assert shown == events(tmp_path / "whole")


# --- extending -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [("vae-1", None, "learned"), ("vae-2", "rescale", "optimal")], ids=str)
@pytest.mark.parametrize(
    "settings", [{}, {"record_every": 4, "evaluate_every": 3}, {"replicas": 3, "replica_group": 2}], ids=str
)
def test_an_extended_run_is_bitwise_the_longer_one(
    tmp_path: Path, variant: tuple[str, str | None, str], settings: dict[str, int]
) -> None:
    model, constraint, variances = variant
    longer = train(small(model, constraint, variances=variances, epochs=8, **settings), out=tmp_path / "longer").path
    train(small(model, constraint, variances=variances, epochs=5, **settings), out=tmp_path / "extended")
    assert_same_run(resume(tmp_path / "extended", overrides=["training.epochs=8"]).path, longer)


def test_an_interrupted_run_is_extended_bitwise_too(tmp_path: Path) -> None:
    longer = train(small(epochs=8), out=tmp_path / "longer").path
    train_in_pieces(small(), tmp_path / "pieces", [13], to_the_end=False)
    assert_same_run(resume(tmp_path / "pieces", overrides=["training.epochs=8"]).path, longer)


def test_beyond_its_first_length_an_extended_run_keeps_the_last_beta(tmp_path: Path) -> None:
    before = train(small(annealing={"name": "linear", "end": 0.7}), out=tmp_path).series("beta")
    after = resume(tmp_path, overrides=["training.epochs=8"]).series("beta")
    np.testing.assert_array_equal(after[:STEPS], before)
    np.testing.assert_array_equal(after[STEPS:], 0.7)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "seed cannot be changed when a run is resumed, only .*training.epochs"),
        ("model.latent_dim=3", "model.latent_dim cannot be changed"),
        ("training.learning_rate=0.1", "training.learning_rate cannot be changed"),
        ("annealing=linear", "annealing cannot be changed"),
        ("training.epochs=4", "training.epochs: got 4; expected at least 5"),
        ("training.epochs=5", r"all 5 epochs are done; extend the run with --set training.epochs=10"),
        ("training.epochs=many", "training.epochs: got 'many'"),
    ],
)
def test_a_change_that_cannot_be_resumed_is_refused_by_name_and_changes_nothing(
    tmp_path: Path, override: str, message: str
) -> None:
    path = train(small(), out=tmp_path).path
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message):
        resume(path, overrides=[override])
    assert path.read_bytes() == before


@pytest.fixture
def changing_data(tmp_path: Path) -> Path:
    path = tmp_path / "points.npy"
    np.save(path, np.random.default_rng(0).random((80, 3)))
    return path


def test_a_run_whose_data_have_changed_is_not_resumed(tmp_path: Path, changing_data: Path) -> None:
    config = small(dataset={"name": "array", "path": str(changing_data)})
    path = train_in_pieces(config, tmp_path / "run", [7], to_the_end=False)
    before = path.read_bytes()
    np.save(changing_data, np.random.default_rng(1).random((80, 3)))
    with pytest.raises(RunFileError, match="gives other data than when the run began"):
        resume(path)
    assert path.read_bytes() == before


def test_what_is_no_run_is_not_resumed_and_no_lock_is_left(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file"):
        resume(tmp_path)
    (tmp_path / "run.h5").write_bytes(b"nonsense")
    with pytest.raises(RunFileError, match="is not an HDF5 file"):
        resume(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    from support.run_samples import forged

    path = train_in_pieces(small(), tmp_path, [7], to_the_end=False)
    with forged(path) as file:
        del file["checkpoint/model/decoder_log_var"]
    with pytest.raises(RunFileError, match=r"the checkpoint does not fit the model: model/decoder_log_var"):
        resume(path)


# --- the command line ------------------------------------------------------------------------------------------


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_message_of_an_interruption_says_what_to_type_and_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["training.epochs=3", "dataset.points=100", "training.batch_size=10", "training.device=cpu"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    main(["train", "--quiet", "--out", str(tmp_path / "whole"), *overrides])
    with after_update(8, terminate):
        assert exit_code("train", "--out", str(tmp_path / "pieces"), *overrides) == 143
    told = capsys.readouterr().err
    assert f"Interrupted after step 8 of 15; all of it is saved in {tmp_path / 'pieces' / 'run.h5'}" in told
    command = told.strip().splitlines()[-1].split()
    assert command[:3] == ["elboverse", "train", "--resume"]
    main(command[1:])
    assert_same_run(tmp_path / "pieces" / "run.h5", tmp_path / "whole" / "run.h5")
    assert contents(tmp_path / "pieces" / "run.h5")["status"] == "finished"


@pytest.mark.parametrize("option", [["circle"], ["--out", "x"], ["--overwrite"], ["--like", "run.h5"]])
def test_resuming_takes_no_other_config_or_folder(tmp_path: Path, option: list[str]) -> None:
    assert exit_code("train", "--resume", str(tmp_path), *option) == 2
