"""A real training in a real tracking store: what is read back equals the run file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elboverse
from elboverse.runfile import Run
from elboverse.running.runs import resume, train

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and what it imports


def config(store: Path, epochs: int) -> dict[str, Any]:
    return {
        "name": "tracked",
        "model": {"name": "vae-1", "latent_dim": 2, "network": {"name": "mlp", "hidden": [8]}},
        "dataset": {"name": "pca", "points": 200, "dimension": 3},
        "training": {"epochs": epochs, "batch_size": 20, "evaluate_every": 1, "device": "cpu"},
        "sinks": [{"name": "mlflow", "tracking_uri": store.as_uri(), "every": 2}],
    }


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "mlruns"


def test_parameters_metrics_and_figures_of_a_run_are_read_back_from_the_store(store: Path, tmp_path: Path) -> None:
    run = train(config(store, 3), out=tmp_path / "run")
    client = mlflow.MlflowClient(tracking_uri=store.as_uri())
    tracked = client.get_run((run.path.parent / "mlflow-run-id").read_text().strip())
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["model.latent_dim"] == "2"
    assert tracked.data.params["data.fingerprint"] == run.data["fingerprint"]
    with Run.open(run.path) as stored:
        elbo = client.get_metric_history(tracked.info.run_id, "elbo")
        assert [point.step for point in elbo] == stored.steps[::2].tolist()
        np.testing.assert_array_equal([point.value for point in elbo], stored.series("elbo", 0)[::2])
        kl = client.get_metric_history(tracked.info.run_id, "kl/1")
        np.testing.assert_array_equal([point.value for point in kl], stored.series("kl", 0)[::2, 1])
        held_out = client.get_metric_history(tracked.info.run_id, "held_out/elbo")
        np.testing.assert_array_equal([point.value for point in held_out], stored.evaluation("held_out", "elbo", 0))
    figures = [Path(one.path).name for one in client.list_artifacts(tracked.info.run_id, "figures")]
    assert sorted(figures) == ["bounds.png", "collapse.png"]


def test_a_resumed_run_continues_its_run_of_mlflow(store: Path, tmp_path: Path) -> None:
    first = train(config(store, 2), out=tmp_path / "run")
    before = (first.path.parent / "mlflow-run-id").read_text()
    resume(first.path, overrides=["training.epochs=3"])
    assert (first.path.parent / "mlflow-run-id").read_text() == before
    client = mlflow.MlflowClient(tracking_uri=store.as_uri())
    steps = {point.step for point in client.get_metric_history(before.strip(), "elbo")}
    assert steps == set(Run.open(first.path).steps[::2].tolist())


def test_a_store_that_cannot_be_reached_is_told_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    table = {**config(tmp_path, 1), "sinks": [{"name": "mlflow", "tracking_uri": "http://127.0.0.1:9"}]}
    with pytest.warns(RuntimeWarning, match=r"sink 'mlflow'.*elboverse-mlflow"):
        run = elboverse.train(table, out=tmp_path / "run")
    assert run.status == "finished"
