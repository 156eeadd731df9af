"""Crashes: a trainer that is killed at any moment leaves a valid file, from which the run ends bitwise the same.

The long version, with a hundred kills and more, is `tests/soak/kills.py`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.forking_trainer import ForkingTrainer
from support.killing import LONG, kill_and_resume, rows_of, write_config
from support.reading_runs import events
from support.reliable import after_update, assert_prefix, assert_same_run, small

from elboverse.runfile import Run
from elboverse.running.runs import resume, train


def test_a_run_that_is_killed_again_and_again_ends_bitwise_like_one_that_is_not(tmp_path: Path) -> None:
    tally = kill_and_resume(tmp_path, kills=6, seed=1, longest=1.5)
    assert tally.kills >= 6
    assert tally.runs >= 1


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkingTrainer]:
    with ForkingTrainer(tmp_path_factory.mktemp("trainer") / "output") as forking:
        yield forking


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(LONG, out=tmp_path_factory.mktemp("whole")).path


def start_and_wait_for_rows(trainer: ForkingTrainer, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    trainer.start("train", write_config(folder, LONG), "--quiet", "--out", folder / "run")
    path = folder / "run" / "run.h5"
    deadline = time.monotonic() + 60
    while rows_of(path) < 16:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_so_and_ends_with_its_exit_code(
    tmp_path: Path, trainer: ForkingTrainer, whole: Path, number: int, code: int
) -> None:
    path = start_and_wait_for_rows(trainer, tmp_path)
    trainer.kill(number)
    ended, output = trainer.wait()
    assert ended == code, output
    done = assert_prefix(path, whole)
    assert output == (  # click ends the line that a terminal shows ^C in
        f"\nInterrupted after step {done} of 160; all of it is saved in {path}. To resume:\n"
        f"  elboverse train --resume {path}\n"
    )
    assert Run.open(path).status == "interrupted"
    assert_same_run(resume(path).path, whole)


def test_after_sigkill_tensorboard_shows_each_step_once(tmp_path: Path, trainer: ForkingTrainer, whole: Path) -> None:
    path = start_and_wait_for_rows(trainer, tmp_path)
    trainer.kill()
    assert trainer.wait() == (-signal.SIGKILL, "")
    resume(path)
    assert events(path.parent) == events(whole.parent)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@contextmanager
def by_default(number: int) -> Iterator[None]:
    """Let a signal do what it does by default, also where the tests run in the background, where SIGINT is ignored."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_second_interrupt_stops_at_once_and_leaves_the_last_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(small(), out=tmp_path / "whole").path
    flush = os.fsync
    kept: list[str] = []  # digests

    def interrupted(descriptor: int) -> None:
        kept.append(digest(tmp_path / "run" / "run.h5"))
        interrupt()  # the second one, amid the snapshot that the first one asked for
        flush(descriptor)

    with (
        monkeypatch.context() as patched,
        after_update(14, lambda: (interrupt(), patched.setattr(os, "fsync", interrupted))),
        pytest.raises(KeyboardInterrupt),
        by_default(signal.SIGINT),
    ):
        train(small(save_every_seconds=0.0), out=tmp_path / "run")
    path = tmp_path / "run" / "run.h5"
    assert kept == [digest(path)]
    assert sorted(one.name for one in path.parent.iterdir()) == [".run.h5.lock", "run.h5", "tensorboard"]
    assert assert_prefix(path, whole) < 14
    assert_same_run(resume(path).path, whole)


def test_a_signal_in_the_last_step_lets_the_run_finish(tmp_path: Path) -> None:
    with after_update(30, interrupt):
        assert train(small(), out=tmp_path).status == "finished"


def test_the_first_snapshot_is_there_before_the_first_step(tmp_path: Path) -> None:
    found: list[Any] = []

    def look() -> None:
        run = Run.open(tmp_path / "run.h5")
        found.append((run.status, len(run.steps), run.evaluation_steps("train").tolist()))

    with after_update(1, look):
        train(small(), out=tmp_path)
    assert found == [("running", 0, [0])]
