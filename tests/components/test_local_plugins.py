"""A plugin that is one file beside a config, or handed over in Python; never loaded unasked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elboverse
from elboverse.cli import main
from elboverse.components import discover
from elboverse.errors import ConfigError, PluginError, UnknownNameError

PLUGIN = """
import attrs, torch
from torch import nn
from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import Result, VarianceParameters

@attrs.frozen(kw_only=True)
class Options:
    latent_dim: int = 2

class Tiny(nn.Module):
    def __init__(self, options, shape):
        super().__init__()
        d, h = shape[0], options.latent_dim
        self.encoder, self.decoder = nn.Linear(d, 2 * h), nn.Linear(h, d)
        self.log_var = nn.Parameter(torch.zeros(()))
        self.register_buffer("zeros", torch.zeros(h))
    def encode(self, x):
        return DiagonalGaussian(*self.encoder(x).chunk(2, -1))
    def decode(self, z):
        return DiagonalGaussian(self.decoder(z), self.log_var)
    def prior(self):
        return DiagonalGaussian(self.zeros, self.zeros)
    def variance_parameters(self):
        return VarianceParameters(decoder="log_var")

@attrs.frozen(kw_only=True)
class Nothing:
    pass

def last(options, run):
    return Result(title="Last ELBO", columns=("ELBO",), rows=[(float(run.series("elbo")[-1, 0]),)])

@hookimpl
def elboverse_models():
    return [Component("tiny", Options, Tiny, "a tiny VAE")]

@hookimpl
def elboverse_analyses():
    return [Component("last", Nothing, last, "the last ELBO")]
"""

CONFIG = """
plugins = ["mine.py"]
[model]
name = "tiny"
[dataset]
name = "circle"
points = 200
[training]
epochs = 2
batch_size = 50
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "mine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_file_beside_the_config_is_trained_resumed_analysed_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mine.toml", "--out", "r", "-q") == 0
    assert "mine.py (sha256 " in capsys.readouterr().err
    assert run("train", "--resume", "r", "--set", "training.epochs=3", "--plugin", "mine.py", "-q") == 0
    assert run("analyze", "last", "r/run.h5", "--plugin=mine.py") == 0
    assert "Last ELBO" in capsys.readouterr().out
    assert run("report", "r", "-o", "r.html", "--plugin", "mine.py") == 0
    assert "Last ELBO" in (folder / "r.html").read_text()


def test_the_file_of_the_docs_is_a_variant_and_an_analysis_in_45_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = json.loads((Path(__file__).parents[2] / "docs/notebooks/own-variant.ipynb").read_text(encoding="utf-8"))
    magic, *lines = next("".join(cell["source"]) for cell in notebook["cells"] if "code" in cell["cell_type"]).split(
        "\n"
    )
    assert magic == "%%writefile mine.py"  # the notebook goes on as the lines below do; tests/site executes it
    assert len(lines) <= 45
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = ["dataset.points=200", "training.batch_size=50", "training.epochs=1", "model={name='diagonal-vae'}"]
    circle = [word for setting in settings for word in ("--set", setting)]
    assert run("train", "circle", *circle, "--out", "r", "-q", "--plugin", "mine.py") == 0
    assert run("train", "--resume", "r", "--set", "training.epochs=2", "-q", "--plugin", "mine.py") == 0
    capsys.readouterr()
    assert run("analyze", "noise", "r", "--plugin", "mine.py", "--figure", "noise.png") == 0
    assert "dimension" in capsys.readouterr().out
    assert Path("noise.png").read_bytes().startswith(b"\x89PNG")
    assert run("report", "r", "-o", "r.html", "--plugin", "mine.py") == 0
    assert "Noise" in Path("r.html").read_text(encoding="utf-8")


def test_a_run_file_loads_no_code_and_says_which_file_it_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mine.toml", "--out", "r", "-q") == 0
    assert run("train", "--resume", "r", "--set", "training.epochs=3") == 1
    assert "give --plugin mine.py" in capsys.readouterr().err


def test_a_changed_file_is_refused_on_resume(folder: Path) -> None:
    elboverse.train("mine.toml", out="r")
    (folder / "mine.py").write_text(PLUGIN + "# changed\n")
    with pytest.raises(ConfigError, match=r"got sha256:.*expected sha256:"):
        elboverse.resume("r", overrides=["training.epochs=3"], plugins=["mine.py"])


def test_local_plugins_can_be_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "mine.toml", "--no-local-plugins", "--out", "r") == 1
    assert "local plugins are refused" in capsys.readouterr().err
    assert not (folder / "r").exists()


@pytest.mark.parametrize("name", ["../mine.py", "/etc/passwd", "nowhere.py", "sub/mine.py", "mine.txt"])
def test_a_config_takes_plugins_from_its_own_folder_alone(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "mine.py").write_text(PLUGIN)
    (folder / "mine.toml").write_text(CONFIG.replace("mine.py", name))
    with pytest.raises(ConfigError, match="plugins: got"):
        elboverse.load_config("mine.toml")


def test_modules_and_components_are_plugins_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    import mine

    table = {"model": {"name": "tiny"}, "dataset": {"name": "circle", "points": 200}}
    table["training"] = {"epochs": 1, "batch_size": 50}
    assert elboverse.train(table, out="a", plugins=[mine]).status == "finished"
    component = elboverse.Component("tiny", mine.Options, mine.Tiny, "a tiny VAE", kind="model")
    assert elboverse.train(table, out="b", plugins=[component]).status == "finished"
    with pytest.raises(PluginError, match="of which kind"):
        discover(plugins=[elboverse.Component("tiny", mine.Options, mine.Tiny, "a tiny VAE")])
    del sys.modules["mine"]


def test_a_file_without_hooks_is_told_so(folder: Path) -> None:
    (folder / "empty.py").write_text("x = 1\n")
    with pytest.raises(PluginError, match="no function such as elboverse_models"):
        discover(plugins=["empty.py"])
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        discover(plugins=["broken.py"])


def test_without_the_file_the_model_is_unknown() -> None:
    with pytest.raises(UnknownNameError):
        discover().find("model", "tiny")


class Follower:
    """Keeps which runs it was told of, and how they ended."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, run: Any) -> None:
        self.told.append(run.folder.name)

    def receive(self, record: Any) -> None: ...

    def saved(self, steps: int) -> None: ...

    def end(self, status: str) -> None:
        self.told.append(status)


def test_a_sweep_takes_plugins_and_sinks(folder: Path) -> None:
    table = {"model": {"name": "tiny"}, "dataset": {"name": "circle", "points": 60}, "sinks": []}
    table |= {"training": {"epochs": 1, "batch_size": 20}, "sweep": {"seed": [0, 1]}}
    follower = Follower()
    here = elboverse.train_sweep(table, out="here", plugins=["mine.py"], sinks=[follower])
    assert follower.told == ["seed=0", "finished", "seed=1", "finished"]
    beside = elboverse.train_sweep(table, out="beside", plugins=["mine.py"], jobs=2)
    for one, other in zip(here, beside, strict=True):
        np.testing.assert_array_equal(elboverse.Run.open(one).series("elbo"), elboverse.Run.open(other).series("elbo"))
    extended = elboverse.resume_sweep("here", overrides=["training.epochs=2"], plugins=["mine.py"])
    assert [elboverse.Run.open(path).config["training"]["epochs"] for path in extended] == [2, 2]
    with pytest.raises(ConfigError, match=r"sinks: got objects.* name sinks in the config"):
        elboverse.train_sweep(table, out="third", plugins=["mine.py"], sinks=[follower], jobs=2)
    assert not (folder / "third").exists()


def test_a_study_whose_config_names_a_plugin_is_trained_and_summed_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "study.toml").write_text(CONFIG + "\n[sweep]\nseed = [0, 1]\n")
    assert run("train", "study.toml", "--out", "s", "-q") == 0
    assert "mine.py (sha256 " in capsys.readouterr().err
    assert [path.parent.name for path in sorted(folder.glob("s/*/run.h5"))] == ["seed=0", "seed=1"]
