"""Runs and results in a notebook: analyses by name, tables as data frames, figures, and what is shown."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import elboverse
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, ConfigError, UnknownNameError

TABLE = {
    "dataset": {"name": "circle", "points": 200},
    "model": {"name": "vae-1", "network": {"hidden": [8]}},
    "training": {"epochs": 2, "batch_size": 50, "replicas": 2, "device": "cpu"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> elboverse.Run:
    return elboverse.train(TABLE, out=tmp_path_factory.mktemp("run") / "r")


def test_an_analysis_is_made_by_name_with_its_options(run: elboverse.Run) -> None:
    result = elboverse.analyze(run, "collapse", threshold=-100.0)
    assert result.notes
    assert "<table>" in result._repr_html_()
    frame = result.to_pandas()
    assert list(frame.columns) == list(result.columns)
    assert len(frame) == len(result.rows)
    assert result.figure().axes


def test_a_figure_is_shown_once_in_a_notebook(run: elboverse.Run) -> None:
    shown = elboverse.analyze(run, "bounds").figure()
    assert shown._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # what a notebook asks for
    by_pyplot = Result(title="a stranger's", columns=(), rows=(), draw=plt.figure)
    assert isinstance(by_pyplot.figure(), Figure)
    assert plt.get_fignums() == []  # else it is shown once more at the end of the cell


def test_a_path_does_as_well_as_a_run(run: elboverse.Run) -> None:
    assert elboverse.analyze(Path(run.path).parent, "bounds").rows == elboverse.analyze(run, "bounds").rows


@pytest.mark.parametrize("name", ["bounds", "collapse", "compare", "latents", "samples", "spectrum", "stationarity"])
def test_a_figure_is_drawn_of_a_run_that_was_given_by_its_path(run: elboverse.Run, name: str) -> None:
    given = [run.path, run.path] if name == "compare" else run.path
    assert elboverse.analyze(given, name).figure().axes


def test_several_runs_go_to_an_analysis_that_takes_them_alone(run: elboverse.Run) -> None:
    assert elboverse.analyze([run, run], "compare").rows
    with pytest.raises(AnalysisError, match="got 2 runs; expected one"):
        elboverse.analyze([run, run], "latents")


def test_mistakes_are_told(run: elboverse.Run) -> None:
    with pytest.raises(UnknownNameError):
        elboverse.analyze(run, "colapse")
    with pytest.raises(ConfigError, match="threshhold"):
        elboverse.analyze(run, "collapse", threshhold=1.0)


def test_a_run_is_a_data_frame_and_a_labelled_dataset(run: elboverse.Run) -> None:
    frame = run.to_pandas(replica=1)
    np.testing.assert_array_equal(frame["elbo"], run.series("elbo", replica=1))
    np.testing.assert_array_equal(frame["kl[1]"], run.series("kl", replica=1)[:, 1])
    labelled = run.to_xarray()
    assert labelled["kl"].dims == ("step", "replica", "latent")
    assert labelled["elbo"].attrs["units"] == run.units("elbo")
    np.testing.assert_array_equal(labelled["step"], run.steps)


def test_a_notebook_shows_what_a_run_is(run: elboverse.Run) -> None:
    shown = run._repr_html_()
    assert "vae-1" in shown
    assert "finished" in shown


def test_a_warning_names_the_line_of_the_user(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(float)
    table = {"training": {"epochs": 1, "batch_size": 20}, "dataset": counts, "sinks": []}
    with pytest.warns(RuntimeWarning, match="whole numbers") as caught:
        elboverse.train(table, out=tmp_path)
    assert {Path(one.filename).name for one in caught} == {Path(__file__).name}
