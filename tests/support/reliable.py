"""What the tests of reliability share: small runs, signals at a given update, and bitwise comparison of run files."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.builders import configure

from elboverse.config import ExperimentConfig
from elboverse.errors import Interrupted
from elboverse.runfile import Run
from elboverse.running.runs import RUN_FILE, resume, train
from elboverse.training.loop import Loop

STEPS = 30
"""Length of a `small` run: five epochs of six steps."""


def small(model: str = "vae-1", constraint: str | None = None, **settings: Any) -> ExperimentConfig:
    """Return the config of a run of 30 steps that is evaluated every twelve."""
    return configure(model, constraint, **{"evaluate_every": 2, **settings})


def after_update(number: int, action: Callable[[], object]) -> AbstractContextManager[None]:
    """Do something, once, when a loop has done so many updates since its run began."""
    return after_updates({number: action})


@contextmanager
def after_updates(actions: Mapping[int, Callable[[], object]]) -> Iterator[None]:
    """Do something, once each, when a loop has done so many updates since its run began; not to be nested."""
    pending = dict(actions)

    def read(loop: Loop) -> int:
        done: int = vars(loop)["done"]
        return done

    def write(loop: Loop, done: int) -> None:
        vars(loop)["done"] = done
        pending.pop(done, lambda: None)()

    Loop.done = property(read, write)  # type: ignore[assignment]
    try:
        yield
    finally:
        del Loop.done


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def train_in_pieces(config: ExperimentConfig, folder: Path, stops: list[int], *, to_the_end: bool = True) -> Path:
    """Train with a signal after each of some numbers of updates, resume every time, and return the run file."""
    path = folder / RUN_FILE
    done = 0
    for stop in stops:
        with after_update(stop, terminate), pytest.raises(Interrupted):
            train(config, out=folder) if done == 0 else resume(folder)
        with Run.open(path) as run:
            assert (run.status, run.checkpoint_step) == ("interrupted", stop)
        done = stop
    if to_the_end:
        resume(path)
    return path


def contents(path: Path) -> dict[str, Any]:
    """Return every trajectory, evaluation and parameter of a run, as bytes with shape and type, and where it stands."""
    with Run.open(path) as run:
        arrays = {
            "steps": run.steps,
            **{f"trajectory/{name}": run.series(name) for name in run.stored},
            **{f"checkpoint/{key}": array for key, array in run.checkpoint().items()},
        }
        for split in run.splits:
            arrays[f"{split}/steps"], arrays[f"{split}/epochs"] = (
                run.evaluation_steps(split),
                run.evaluation_epochs(split),
            )
            for name in run.evaluation_names(split, stored=True):
                arrays[f"{split}/{name}"] = run.evaluation(split, name)
        if run.frames is not None:
            arrays |= {f"frames/{name}": stored.read() for name, stored in run.frames.stored.items()}
            arrays["frames/step"] = run.frames.step
        found: dict[str, Any] = {name: (array.shape, array.dtype, array.tobytes()) for name, array in arrays.items()}
        return found | {"status": run.status, "step": run.checkpoint_step}


def assert_same_run(first: Path, second: Path) -> None:
    """Check that two run files hold bitwise the same numbers."""
    ours, theirs = contents(first), contents(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def assert_prefix(path: Path, whole: Path) -> int:
    """Check that a run's rows and evaluations are bitwise the first of the whole run's, and return its steps done."""
    with Run.open(path) as run, Run.open(whole) as reference:
        assert np.array_equal(run.steps, np.arange(run.checkpoint_step))
        for name in run.stored:
            assert run.series(name).tobytes() == reference.series(name)[: len(run.steps)].tobytes(), name
        for split in run.splits:
            count = len(run.evaluation_steps(split))
            assert run.evaluation_steps(split).tolist() == reference.evaluation_steps(split)[:count].tolist()
            assert run.evaluation_steps(split)[-1] <= run.checkpoint_step
            for name in run.evaluation_names(split, stored=True):
                ours, theirs = run.evaluation(split, name), reference.evaluation(split, name)
                assert ours.tobytes() == theirs[:count].tobytes(), name
        return run.checkpoint_step
