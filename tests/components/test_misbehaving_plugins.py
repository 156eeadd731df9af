"""A plugin that raises is shown with its name, version and frames, and what came before is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from elboverse.cli import main
from elboverse.runfile import Run

PLUGIN = """
import attrs, sys, torch
from torch import nn
from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import VarianceParameters
from elboverse.data import prepare

calls = []

def break_it():
    calls.append(1)
    if len(calls) > {calls}:
        {fault}

def maybe(kind):
    if kind == "{where}":
        break_it()

@attrs.frozen
class Options:
    pass

def build_points(options, seed):
    maybe("dataset")
    return prepare(torch.rand(80, {dimension}, generator=torch.Generator().manual_seed(seed)), seed=seed)

class Model(nn.Module):
    def __init__(self, options, data_shape):
        super().__init__()
        maybe("model when built")
        self.head = nn.Linear(3, 4)
        self.output = nn.Linear(2, 3)
        self.log_var = nn.Parameter(torch.zeros(()))
        self.register_buffer("zeros", torch.zeros(2))

    def encode(self, x):
        maybe("model")
        mean, log_var = self.head(x).chunk(2, -1)
        return DiagonalGaussian(mean[..., :{latents}], log_var)

    def decode(self, z):
        return DiagonalGaussian(self.output(z), self.log_var)

    def prior(self):
        return DiagonalGaussian(self.zeros, self.zeros)

    def variance_parameters(self):
        return VarianceParameters(decoder="log_var")

    def constrained_weight(self):
        return "output.weight"

class Schedule:
    def __init__(self, options):
        maybe("annealing when built")

    def weight(self, step, total_steps):
        maybe("annealing")
        return 1.0

class Constraint:
    def __init__(self, options):
        maybe("constraint when built")

    def project(self, weight):
        maybe("constraint")
        return weight{rows}

@hookimpl
def elboverse_datasets():
    return [Component("points", Options, build_points, "points")]

@hookimpl
def elboverse_models():
    return [Component("plain", Options, Model, "a model")]

@hookimpl
def elboverse_weight_constraints():
    return [Component("nothing", Options, Constraint, "no constraint")]

@hookimpl
def elboverse_annealing_schedules():
    return [Component("one", Options, Schedule, "one")]
"""

CONFIG = {
    "model": "plain",
    "dataset": "points",
    "constraint": "nothing",
    "annealing": "one",
    "training": {"epochs": 5, "batch_size": 10, "evaluate_every": 1, "device": "cpu"},
}


@pytest.fixture
def failure(
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Return a function that trains with a plugin that misbehaves, and returns the message, {module} for its file."""

    def train(where: str = "", calls: int = 0, fault: str = "raise KeyError('oops')", **shapes: object) -> str:
        settings = {"dimension": 3, "latents": 2, "rows": ""} | shapes
        module = install("rude", PLUGIN.format(where=where, calls=calls, fault=fault, **settings))
        monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "rude")
        config = tmp_path / "config.toml"
        config.write_text(tomli_w.dumps(CONFIG), encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            main(["train", "--quiet", str(config), "--out", str(tmp_path / "run")])
        assert ended.value.code == 1
        told = capsys.readouterr().err
        assert told.startswith("Error: ")
        assert "Traceback" not in told
        return told.replace(str(tmp_path / "site-packages" / f"{module}.py"), "{module}")

    return train


@pytest.mark.parametrize(
    ("where", "function"),
    [
        ("dataset", "build_points"),
        ("model when built", "__init__"),
        ("model", "encode"),
        ("annealing when built", "__init__"),
        ("annealing", "weight"),
        ("constraint when built", "__init__"),
        ("constraint", "project"),
    ],
)
def test_an_exception_before_training_is_shown_with_the_plugin_and_its_frames(
    failure: Callable[..., str], tmp_path: Path, where: str, function: str
) -> None:
    told = failure(where)
    kind = where.split(maxsplit=1)[0]
    name = {"dataset": "points", "model": "plain", "annealing": "one", "constraint": "nothing"}[kind]
    assert told.startswith(f"Error: {kind} '{name}' of plugin rude (rude-dist 1.2.3) failed: KeyError: 'oops'\n")
    frames = [line.strip() for line in told.splitlines()[1:]]
    assert [frame.split(" in ")[1].split(":")[0] for frame in frames] == [function, "maybe", "break_it"]
    assert all(frame.startswith("{module}:") for frame in frames)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("where", "calls", "fault"),
    [
        ("model", 22, "raise KeyError('oops')"),
        ("constraint", 14, "raise KeyError('oops')"),
        ("model", 22, "sys.exit('oops')"),
        ("model", 22, "torch.zeros(2) @ torch.zeros(3)"),
    ],
)
def test_an_exception_amid_training_is_shown_and_what_came_before_is_saved(
    failure: Callable[..., str], tmp_path: Path, where: str, calls: int, fault: str
) -> None:
    told = failure(where, calls, fault)
    error = {"raise": "KeyError: 'oops'", "sys.e": "SystemExit: oops", "torch": "RuntimeError: "}[fault[:5]]
    assert f"of plugin rude (rude-dist 1.2.3) failed: {error}" in told
    assert "in break_it: " in told
    path = tmp_path / "run" / "run.h5"
    assert told.endswith(f"mended, resume:\n  elboverse train --resume {path}\n")
    with Run.open(path) as run:
        assert run.status == "failed"
        assert 0 < run.checkpoint_step == len(run.steps) < 20
        assert run.checkpoint_step % 4 == 0  # the end of an epoch: what was recorded and where it stands agree
    main(["analyze", "collapse", str(path)])


def test_once_the_plugin_is_mended_the_run_goes_on_bitwise(
    failure: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure("model", 22)
    (plugin,) = (tmp_path / "site-packages").glob("plugin_module_*.py")
    whole = tmp_path / "whole"
    import sys

    from support.reliable import assert_same_run

    monkeypatch.setattr(sys.modules[plugin.stem], "break_it", lambda: None)
    main(["train", "--quiet", "--resume", str(tmp_path / "run")])
    main(["train", "--quiet", str(tmp_path / "config.toml"), "--out", str(whole)])
    assert_same_run(tmp_path / "run" / "run.h5", whole / "run.h5")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"latents": 1}, r"the mean of encode(x) has shape (2, 1); expected (2, 2)"),
        ({"rows": "[:-1]"}, r"project(weight) has shape (2, 2); expected (3, 2)"),
        ({"dimension": 5}, "model 'plain' of plugin rude (rude-dist 1.2.3) failed: RuntimeError: mat1 and mat2 shapes"),
    ],
    ids=str,
)
def test_wrong_shapes_are_told_before_the_first_step(
    failure: Callable[..., str], tmp_path: Path, shapes: dict[str, object], message: str
) -> None:
    told = failure(**shapes)
    assert message in told
    assert "of plugin rude (rude-dist 1.2.3)" in told
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_with_another_version_of_a_plugin_says_so_and_records_it(
    tmp_path: Path, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"where": "", "calls": 0, "fault": "", "dimension": 3, "latents": 2, "rows": ""}
    install("polite", PLUGIN.format(**{**settings, "fault": "pass"}))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "polite")
    config = tmp_path / "config.toml"
    config.write_text(tomli_w.dumps(CONFIG), encoding="utf-8")
    main(["train", "--quiet", str(config), "--out", str(tmp_path / "run")])
    (metadata,) = (tmp_path / "site-packages").glob("polite_dist-*.dist-info/METADATA")
    metadata.write_text("Metadata-Version: 2.1\nName: polite-dist\nVersion: 2.0\n", encoding="utf-8")
    from elboverse import resume

    with pytest.warns(RuntimeWarning, match=r"model plain: polite-dist 1\.2\.3 then, polite-dist 2\.0 now"):
        resume(tmp_path / "run", overrides=["training.epochs=6"]).close()
    with Run.open(tmp_path / "run" / "run.h5") as run:
        used = run.environment["resumed"][0]["components"]
    assert {part["version"] for part in used if part["distribution"] == "polite-dist"} == {"2.0"}


def test_the_former_name_of_a_method_is_still_called_with_a_warning_that_names_the_plugin(
    install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from elboverse.config import from_table
    from elboverse.errors import ConfigError

    settings = {"where": "", "calls": 0, "fault": "pass", "dimension": 3, "latents": 2, "rows": ""}
    former = "class Options:\n    def misfits(self, config):\n        yield 'model: it does not fit'\n"
    install("older", PLUGIN.format(**settings).replace("class Options:\n    pass\n", former))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "older")
    with (
        pytest.warns(RuntimeWarning, match=r"of plugin older \(older-dist 1\.2\.3\): the method 'misfits'"),
        pytest.raises(ConfigError, match="it does not fit"),
    ):
        from_table(CONFIG)
