"""Kill a trainer again and again until its run is done, and look at the run file after every kill."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import attrs
import h5py
import tomli_w
from support.forking_trainer import ForkingTrainer
from support.reliable import assert_prefix, assert_same_run

from elboverse.errors import RunFileError
from elboverse.runfile import Run

LONG: dict[str, Any] = {
    "dataset": {"name": "pca", "points": 400, "dimension": 4, "held_out": 0.2},
    "model": {"name": "vae-1", "network": {"name": "mlp", "hidden": [8]}},
    "training": {
        "epochs": 20,
        "batch_size": 40,
        "evaluate_every": 1,
        "save_every_seconds": 0.0,
        "device": "cpu",
    },
}
"""A run of 160 steps that may be saved after every eight, so that most of its time passes inside snapshots."""


@attrs.define
class Tally:
    """What happened to runs that were killed.

    Args:
        kills: processes that died of the signal.
        before_the_first_snapshot: those of them that left no run file of their run.
        inside_a_snapshot: those that left a temporary file.
        runs: runs that reached their end, each of them bitwise the run that nobody killed.
        largest_step: the furthest checkpoint that a kill left.
        seconds: all of it.
    """

    kills: int = 0
    before_the_first_snapshot: int = 0
    inside_a_snapshot: int = 0
    runs: int = 0
    largest_step: int = 0
    seconds: float = 0.0


def write_config(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "config.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


def kill_and_resume(folder: Path, kills: int, seed: int, longest: float) -> Tally:
    """Train to the end again and again, killed at random moments, until there were so many kills; check everything.

    Args:
        folder: an empty one.
        kills: how many at least.
        seed: of the moments.
        longest: seconds that a process lives at most, or the time of the whole run where that takes longer.
    """
    generator = random.Random(seed)
    config = write_config(folder, LONG)
    tally, started = Tally(), time.perf_counter()
    with ForkingTrainer(folder / "output") as trainer:
        trainer.start("train", config, "--quiet", "--out", folder / "whole")
        forked = time.perf_counter()
        assert trainer.wait() == (0, "")
        # On a slow or busy machine, processes that live more briefly than a start takes would never come to the end.
        longest = max(longest, 1.2 * (time.perf_counter() - forked))
        whole = folder / "whole" / "run.h5"
        while tally.kills < kills:
            path = folder / str(tally.runs) / "run.h5"
            _one_run(trainer, config, path, whole, generator, longest, tally)
            tally.runs += 1
    tally.seconds = time.perf_counter() - started
    return tally


def _one_run(
    trainer: ForkingTrainer,
    config: Path,
    path: Path,
    whole: Path,
    generator: random.Random,
    longest: float,
    tally: Tally,
) -> None:
    done, patience = 0, longest
    while True:
        fresh = ("train", config, "--quiet", "--out", path.parent)
        trainer.start(*(("train", "--quiet", "--resume", path) if path.exists() else fresh))
        ending = time.monotonic() + generator.uniform(0, patience)
        amid = generator.random() < 0.5  # a snapshot takes milliseconds: without waiting for one, few would be hit
        while time.monotonic() < ending and not (amid and _is_saving(path)):
            time.sleep(0.0005)
        trainer.kill()
        code, output = trainer.wait()
        assert output == ""
        assert code in {0, -signal.SIGKILL}
        if code == 0:
            break
        tally.kills += 1
        tally.inside_a_snapshot += _is_saving(path)
        if not path.exists():
            tally.before_the_first_snapshot += 1
            patience *= 1.5
            continue
        with h5py.File(path) as file:  # with default arguments, as anybody would open it
            assert len(file["trajectory/elbo"]) == file["checkpoint"].attrs["step"]
        now = assert_prefix(path, whole)
        assert now >= done  # what was saved once stays saved
        patience = longest if now > done else 1.5 * patience  # so that every run ends, however busy the machine is
        done = now
        tally.largest_step = max(tally.largest_step, done)
        with Run.open(path) as run:
            if run.status == "finished":  # killed behind its last snapshot
                break
    assert_same_run(path, whole)
    assert not _is_saving(path)


def _is_saving(path: Path) -> bool:
    """Return whether there is a file that a snapshot is written to."""
    return any(path.parent.glob(".run.h5.tmp-*"))


def rows_of(path: Path) -> int:
    """Return how many rows a run file has; none if there is none yet."""
    try:
        with Run.open(path) as run:
            return len(run.steps)
    except RunFileError:
        if path.exists():
            raise
        return 0
