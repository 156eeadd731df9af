"""Analyses and datasets that break their contract: told with distribution and version, and nobody else is harmed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from elboverse.cli import main

ANALYSIS = """
import sys, attrs
from elboverse import Component, hookimpl
from elboverse.contracts import Result, Table

@attrs.frozen
class Options:
    {option}

def result(**parts):
    return Result(**{{"title": "t", "columns": ("a", "b"), "rows": [(1, 2)], **parts}})

{body}

@hookimpl
def elboverse_analyses():
    return [Component("tried", {config}, build, "an analysis that is tried")]
"""

BROKEN = {
    "raises": ("def build(options, run): raise KeyError('oops')", "failed: KeyError: 'oops'"),
    "exits": ("def build(options, run): sys.exit('bye')", "failed: SystemExit: bye"),
    "returns nothing": ("def build(options, run): pass", "build must return a contracts.Result, not None"),
    "a ragged table": (
        "def build(options, run): return result(rows=[(1, 2), (3,)])",
        "row 1 of 't' is (3,); expected 2 cells",
    ),
    "a cell that is a list": ("def build(options, run): return result(rows=[(1, [2])])", "holds [2] (list)"),
    "columns in one string": ("def build(options, run): return result(columns='ab')", "expected a list of names"),
    "notes in one string": ("def build(options, run): return result(notes='well')", "expected a list of sentences"),
    "a title that is none": ("def build(options, run): return result(title=None)", "expected a line of text"),
    "a drawing that raises": (
        "def draw(): raise ValueError('no ink')\ndef build(options, run): return result(draw=draw)",
        "failed: ValueError: no ink",
    ),
    "a drawing that is none": ("def build(options, run): return result(draw=lambda: 3)", "draw() returns a int"),
    "a further table that is none": ("def build(options, run): return result(further=[1])", "further holds a int"),
    "data that is a list": ("def build(options, run): return result(data=[1])", "data is a list; expected a dict"),
    "another signature": ("def build(run): return result()", "its build cannot be called as build(options, run)"),
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELBOVERSE_LOAD_PLUGINS", "")
        settings = ("training.epochs=2", "dataset.points=200", "training.batch_size=50", "training.device=cpu")
        options = [part for setting in settings for part in ("--set", setting)]
        main(["train", "--quiet", "--out", str(folder), *options])
    return folder


def install_analysis(install: Callable[..., str], body: str, option: str = "pass", config: str = "Options") -> None:
    install("tried", ANALYSIS.format(body=textwrap.dedent(body), option=option, config=config))


@pytest.mark.parametrize(("body", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_analysis_is_told_with_its_plugin_and_the_report_goes_on(
    run_folder: Path,
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
) -> None:
    install_analysis(install, body)
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
    with pytest.raises(SystemExit) as ended:
        main(["analyze", "tried", str(run_folder), "--figure", str(tmp_path / "figure.svg")])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "analysis 'tried' of plugin tried (tried-dist 1.2.3)" in told
    assert sentence in told
    assert "Traceback" not in told
    main(["analyze", "collapse", str(run_folder)])
    monkeypatch.setattr("elboverse.cli.report._FIRST", ("tried", "bounds"))
    monkeypatch.setattr("elboverse.components.registry.Registry.names", lambda self, kind: ["tried", "bounds"])
    main(["report", str(run_folder), "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="bounds">' in page
    assert "tried: analysis" in page
    assert "tried-dist 1.2.3" in page


def test_what_an_analysis_prints_does_not_reach_the_json(
    run_folder: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    install_analysis(install, "def build(options, run):\n    print('hello')\n    return result(data={'a': 1})")
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
    main(["analyze", "tried", str(run_folder), "--json"])
    told = capsys.readouterr()
    assert json.loads(told.out)["a"] == 1
    assert "hello" in told.err


def test_an_analysis_that_closes_its_run_does_not_close_that_of_the_next(
    run_folder: Path, tmp_path: Path, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_analysis(install, "def build(options, run):\n    run.close()\n    return result()")
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
    monkeypatch.setattr("elboverse.cli.report._FIRST", ("tried", "bounds"))
    monkeypatch.setattr("elboverse.components.registry.Registry.names", lambda self, kind: ["tried", "bounds"])
    main(["report", str(run_folder), "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="bounds">' in page


DATASET = """
import sys, attrs, torch
from elboverse import Component, hookimpl
from elboverse.contracts import Data, Scaling
from elboverse.data import prepare

@attrs.frozen
class Options:
    pass

def good(seed=0):
    return prepare(torch.rand(60, 2, generator=torch.Generator().manual_seed(seed)), seed=seed)

def build(options, seed):
    {body}

@hookimpl
def elboverse_datasets():
    return [Component("tried", Options, build, "a dataset that is tried")]
"""

DATASETS = {
    "raises": ("raise KeyError('oops')", "failed: KeyError: 'oops'"),
    "exits": ("sys.exit('bye')", "failed: SystemExit: bye"),
    "a tensor": ("return torch.rand(60, 2)", "build must return elboverse.contracts.Data, not Tensor"),
    "nothing": ("return None", "build must return elboverse.contracts.Data, not NoneType"),
    "an array": ("return attrs.evolve(good(), train=good().train.numpy())", "train is a ndarray"),
    "integers": ("return attrs.evolve(good(), train=torch.ones(9, 2, dtype=torch.int64))", "train has shape"),
    "another shape": ("return attrs.evolve(good(), shape=(3,))", "expected (points, 3)"),
    "nan": ("data = good(); data.train[3, 1] = float('nan'); return data", "nan"),
    "no points": ("return attrs.evolve(good(), train=torch.empty(0, 2))", "it has no training points"),
    "a scaling of another shape": (
        "return attrs.evolve(good(), scaling=Scaling('none', torch.zeros(3), torch.ones(3)))",
        "scaling.offset has shape (3,); expected (2,)",
    ),
    "another signature": ("raise build(options)", "failed: TypeError"),
}


@pytest.mark.parametrize(("body", "sentence"), DATASETS.values(), ids=DATASETS.keys())
def test_a_broken_dataset_is_refused_with_its_plugin_and_the_list_goes_on(
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
) -> None:
    install("tried", DATASET.format(body=body))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--quiet", "--set", "dataset=tried", "--out", str(tmp_path / "run")])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "dataset 'tried' of plugin tried (tried-dist 1.2.3)" in told
    assert sentence in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()
    main(["data", "list"])
    assert "circle" in capsys.readouterr().out
