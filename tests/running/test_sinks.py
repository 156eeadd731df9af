"""What follows a run: the text tables hold what the run file holds, and a sink that breaks costs itself alone."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

import elboverse
from elboverse.cli import main
from elboverse.contracts import Rows
from elboverse.errors import ConfigError
from elboverse.runfile import Run

TABLE: dict[str, Any] = {
    "model": {"name": "linear-vae"},
    "dataset": {"name": "pca", "points": 80, "dimension": 3},
    "training": {"epochs": 3, "batch_size": 20, "evaluate_every": 1, "device": "cpu", "replicas": 2, "threads": 1},
    "sinks": [{"name": "csv"}],
}


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_tables_hold(folder: Path) -> None:
    with Run.open(folder / "run.h5") as run:
        steps = lines(folder / "steps.csv")
        for replica in range(run.replicas):
            own = [line for line in steps if int(line["replica"]) == replica]
            assert [int(line["step"]) for line in own] == run.steps.tolist()
            for name in ("elbo", "decoder_entropy", "kl_1"):
                series, _, _latent = name.partition("_1") if name == "kl_1" else (name, "", "")
                values = run.series(series, replica=replica)
                values = values[:, 1] if name == "kl_1" else values
                np.testing.assert_array_equal(np.array([float(line[name]) for line in own], values.dtype), values)
        for split in run.splits:
            own = [line for line in lines(folder / "evaluations.csv") if line["split"] == split]
            assert [int(line["step"]) for line in own[::2]] == run.evaluation_steps(split).tolist()
            values = run.evaluation(split, "elbo")
            assert [float(line["elbo"]) for line in own] == values.ravel().tolist()


def test_the_text_tables_hold_what_the_run_file_holds(tmp_path: Path) -> None:
    elboverse.train(TABLE, out=tmp_path).close()
    assert_tables_hold(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "evaluations.csv", "run.h5", "steps.csv",
    ]  # fmt: skip


def test_a_resumed_run_goes_on_in_the_same_tables_with_each_step_once(tmp_path: Path) -> None:
    elboverse.train(TABLE, out=tmp_path).close()
    with (tmp_path / "steps.csv").open("a", encoding="utf-8") as file:
        file.write("6,0,half a li")  # as a process that was killed leaves it
    elboverse.resume(tmp_path, overrides=["training.epochs=5"]).close()
    assert_tables_hold(tmp_path)


def test_every_so_many_steps_are_written_where_that_is_asked_for(tmp_path: Path) -> None:
    elboverse.train({**TABLE, "sinks": [{"name": "csv", "every": 5}]}, out=tmp_path).close()
    assert [int(line["step"]) for line in lines(tmp_path / "steps.csv")[::2]] == [0, 5]


def test_no_sinks_leave_the_run_file_alone(tmp_path: Path) -> None:
    elboverse.train({**TABLE, "sinks": []}, out=tmp_path).close()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["run.h5"]
    with Run.open(tmp_path / "run.h5") as run:
        assert run.config["sinks"] == []


def test_tensorboards_log_is_the_default_and_what_follows_a_run_can_be_changed_on_resuming(tmp_path: Path) -> None:
    elboverse.train({key: value for key, value in TABLE.items() if key != "sinks"}, out=tmp_path).close()
    assert list(tmp_path.glob("tensorboard/events.*"))
    elboverse.resume(tmp_path, overrides=["training.epochs=4", 'sinks=[{name="csv"}]']).close()
    assert [int(line["step"]) for line in lines(tmp_path / "steps.csv")[::2]] == [6, 7]


class Follower:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, run: Any) -> None:
        self.calls.append(f"begin {run.done} of {run.total_steps}")

    def receive(self, record: Any) -> None:
        self.calls.append(type(record).__name__)
        if isinstance(record, Rows):
            assert not any(values.flags.writeable for values in (record.step, *record.scalars.values()))

    def saved(self, steps: int) -> None:
        self.calls.append(f"saved {steps}")

    def end(self, status: str) -> None:
        self.calls.append(f"end {status}")


def test_an_object_with_the_four_methods_follows_a_run_in_python(tmp_path: Path) -> None:
    follower = Follower()
    elboverse.train({**TABLE, "sinks": []}, out=tmp_path, sinks=[follower]).close()
    assert follower.calls[0] == "begin 0 of 6"
    assert {"Rows", "Evaluation"} <= set(follower.calls)
    assert follower.calls[-2:] == ["saved 6", "end finished"]
    again = Follower()
    elboverse.resume(tmp_path, overrides=["training.epochs=4"], sinks=[again]).close()
    assert (again.calls[0], again.calls[-1]) == ("begin 6 of 8", "end finished")


def test_an_object_that_is_no_sink_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 3, which has no begin and no receive"):
        elboverse.train(TABLE, out=tmp_path / "run", sinks=[3])  # type: ignore[list-item]
    assert not (tmp_path / "run").exists()


SINK = """
import sys, attrs, time
from elboverse import Component, hookimpl

@attrs.frozen
class Options:
    pass

class Tried:
    def __init__(self, options): pass
    def begin(self, run): pass
    def receive(self, record): pass
    def saved(self, steps): pass
    def end(self, status): pass

{body}

@hookimpl
def elboverse_sinks():
    return [Component("tried", Options, Tried, "a sink that is tried")]
"""

# What the class does beside `Tried`, and a part of the sentence that is told; the run trains all the same.
BROKEN = {
    "raises at first": ("def begin(self, run): raise KeyError('oops')", "begin(run) failed: KeyError: 'oops'."),
    "exits amid": ("def receive(self, record): sys.exit('bye')", "receive(record) failed: SystemExit: bye."),
    "writes into records": (
        "def receive(self, record): getattr(record, 'scalars', {}).get('elbo')[:] = 0",
        "receive(record) failed: ValueError: assignment destination is read-only.",
    ),
    "raises when saved": ("def saved(self, steps): 1 / 0", "saved(steps) failed: ZeroDivisionError: division by zero."),
    "raises at the end": ("def end(self, status): raise OSError('full')", "end(status) failed: OSError: full."),
    "another signature": ("def receive(self): pass", "receive(record) failed: TypeError: "),
}


def installed(install: Callable[..., str], monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    code = textwrap.dedent(body)
    code = code if body.startswith("Tried") else "class Tried(Tried):\n" + textwrap.indent(code, "    ")
    install("tried", SINK.format(body=code))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")


@pytest.mark.filterwarnings("always::RuntimeWarning")
@pytest.mark.parametrize(("body", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_sink_is_told_and_switched_off_and_the_others_go_on(
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
) -> None:
    installed(install, monkeypatch, body)
    config = tmp_path / "run.toml"
    config.write_text(tomli_w.dumps({**TABLE, "sinks": [{"name": "tried"}, {"name": "csv"}]}), encoding="utf-8")
    out = tmp_path / "run"
    main(["train", "--quiet", str(config), "--out", str(out)])
    told = capsys.readouterr().err
    assert told.count("sink 'tried' of plugin tried (tried-dist 1.2.3): ") == 1
    assert sentence in told
    assert "It is switched off; training goes on" in told
    assert "Traceback" not in told
    assert_tables_hold(out)
    with Run.open(out / "run.h5") as run:
        assert run.status == "finished"
        assert (run.series("elbo") != 0).all()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Tried = lambda options: 3", "build must return a `contracts.Sink`; got a int, which has no begin"),
        ("Tried = lambda: 3", "its build cannot be called as build(options): too many positional arguments"),
        ("def __init__(self, options): raise KeyError('oops')", "failed: KeyError: 'oops'"),
    ],
)
def test_what_is_no_sink_is_refused_before_the_run(
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
) -> None:
    installed(install, monkeypatch, body)
    config = tmp_path / "run.toml"
    config.write_text(tomli_w.dumps({**TABLE, "sinks": [{"name": "tried"}]}), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--quiet", str(config), "--out", str(tmp_path / "run")])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "sink 'tried' of plugin tried (tried-dist 1.2.3)" in told
    assert sentence in told
    assert not (tmp_path / "run").exists()


def test_a_run_whose_sink_is_no_longer_installed_is_resumed_with_other_sinks(
    tmp_path: Path, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(install, monkeypatch, "Tried = Tried")
    elboverse.train({**TABLE, "sinks": [{"name": "tried"}]}, out=tmp_path / "run").close()
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "")
    main(["analyze", "collapse", str(tmp_path / "run")])
    with pytest.raises(ConfigError, match=r"made with tried-dist 1\.2\.3, which is missing: pip install tried-dist==1"):
        elboverse.resume(tmp_path / "run", overrides=["training.epochs=4"])
    elboverse.resume(tmp_path / "run", overrides=["training.epochs=4", "sinks=[]"]).close()


def test_an_object_with_the_four_methods_follows_a_loop_of_ones_own(tmp_path: Path) -> None:
    follower = Follower()
    x, latents = torch.rand(8, 4), torch.zeros(8, 2)
    with elboverse.record(tmp_path / "run", sinks=[follower]) as run:
        for _ in range(3):
            run.loss(x=x, q=(latents, latents), p=(torch.zeros(8, 4), torch.zeros(())))
    assert follower.calls[0] == "begin 0 of 0"
    assert "Rows" in follower.calls
    assert follower.calls[-2:] == ["saved 3", "end finished"]
