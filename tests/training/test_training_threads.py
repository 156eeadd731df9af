"""Threads: one unless several pay, recorded, kept on resume, and the process left as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import elboverse
from elboverse.config import load
from elboverse.errors import ConfigError
from elboverse.runfile import Run
from elboverse.training import threads
from elboverse.training.threads import chosen_threads, restored_threads

TABLE = {"dataset": "circle", "training": {"epochs": 1, "batch_size": 500}}


@pytest.fixture(autouse=True)
def _as_before() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_is_busy", lambda: False)


def steps_of(one: float, several: float) -> Callable[[], float]:
    return lambda: one if torch.get_num_threads() == 1 else several


def test_several_threads_are_taken_where_they_pay() -> None:
    assert chosen_threads(steps_of(1.0, 0.6), 2) == 2


def test_one_thread_is_taken_where_several_hardly_pay() -> None:
    assert chosen_threads(steps_of(1.0, 0.9), 2) == 1


def test_short_steps_are_never_shared() -> None:
    assert chosen_threads(steps_of(1e-4, 1e-6), 2) == 1


def test_a_busy_machine_gets_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_is_busy", lambda: True)
    assert chosen_threads(steps_of(1.0, 0.1), 2) == 1


def test_the_process_has_its_threads_back() -> None:
    torch.set_num_threads(2)
    with restored_threads():
        torch.set_num_threads(1)
    assert torch.get_num_threads() == 2


def test_a_run_records_the_threads_it_was_given_and_a_resumed_one_keeps_them(tmp_path: Path) -> None:
    table = {**TABLE, "training": {**TABLE["training"], "threads": 2}}
    before = torch.get_num_threads()
    run = elboverse.train(table, out=tmp_path / "run")
    assert run.documents["engine"]["threads"] == run.environment["threads"] == 2
    assert torch.get_num_threads() == before
    run.close()
    elboverse.resume(tmp_path / "run", overrides=["training.epochs=2"]).close()
    assert Run.open(tmp_path / "run" / "run.h5").documents["engine"]["threads"] == 2


def test_a_run_that_found_its_threads_keeps_them_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr("elboverse.training.grouped.chosen_threads", lambda _seconds, most: most)
    elboverse.train(TABLE, out=tmp_path / "run").close()
    monkeypatch.setattr("elboverse.training.grouped.chosen_threads", lambda _seconds, _most: 1)
    elboverse.resume(tmp_path / "run", overrides=["training.epochs=2"]).close()
    assert Run.open(tmp_path / "run" / "run.h5").documents["engine"]["threads"] == 2


@pytest.mark.parametrize("given", [0, -1, "many"])
def test_threads_are_auto_or_a_count(given: object) -> None:
    with pytest.raises(ConfigError, match=r"training\.threads"):
        load({"dataset": "circle", "training": {"threads": given}})
