"""The trained model of a run file: the same parameters, data and numbers, or a sentence on why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import MODELS, built_ins, configure
from support.pca_optimum import maximum_log_likelihood
from support.trained_runs import write_optimal_run, write_trained_run

from elboverse.analysis.trained import TrainedModel
from elboverse.errors import AnalysisError
from elboverse.runfile import Run


def rebuild(path: Path, replica: int = 0) -> TrainedModel:
    return TrainedModel.of(Run.open(path), replica, built_ins())


@pytest.mark.parametrize("name", MODELS)
def test_a_rebuilt_model_has_the_parameters_that_were_saved(tmp_path: Path, name: str) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure(name))
    saved = Run.open(path).checkpoint("model")
    for parameter, value in rebuild(path).model.state_dict().items():
        assert value.dtype == torch.float64
        np.testing.assert_array_equal(value.numpy(), saved[parameter][0])


def test_each_replica_has_its_own_parameters_and_its_own_data(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1", replicas=2, seed=5))
    first, second = rebuild(path, 0), rebuild(path, 1)
    alone = write_trained_run(tmp_path / "alone.h5", configure("vae-1", seed=6))
    assert not np.array_equal(first.points("train"), second.points("train"))
    np.testing.assert_array_equal(second.points("train"), rebuild(alone).points("train"))
    np.testing.assert_array_equal(
        second.posterior_moments(second.points("train"))[0], rebuild(alone).posterior_moments(second.points("train"))[0]
    )


def test_statistics_at_the_exact_optimum_average_to_the_maximum_log_likelihood(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", active=(0, 1))
    trained = rebuild(path)
    found = trained.statistics(trained.points("train"), "test")
    expected = maximum_log_likelihood(pca, (0, 1))
    assert found.elbo.mean() == pytest.approx(expected, abs=1e-10)
    assert found.entropy_sum == pytest.approx(np.full(400, expected), abs=1e-10)


def test_statistics_agree_with_the_evaluation_within_the_noise_of_the_samples(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-3", samples=4))
    run, trained = Run.open(path), rebuild(path)
    found = trained.statistics(trained.points("held_out"), "test")
    assert found.kl.mean(0) == pytest.approx(run.evaluation("held_out", "kl", 0)[-1], rel=1e-9)
    error = run.evaluation("held_out", "elbo_standard_error", 0)[-1]
    assert found.elbo.mean() == pytest.approx(run.evaluation("held_out", "elbo", 0)[-1], abs=4 * error)
    again = trained.statistics(trained.points("held_out"), "test")
    np.testing.assert_array_equal(found.elbo, again.elbo)
    other = trained.statistics(trained.points("held_out"), "other")
    assert not np.array_equal(found.elbo, other.elbo)


def test_the_gradient_vanishes_at_the_exact_optimum_and_not_elsewhere(tmp_path: Path) -> None:
    at_optimum, _ = write_optimal_run(tmp_path / "optimum.h5")
    elsewhere = write_trained_run(tmp_path / "start.h5", configure("linear-vae"))
    for path, vanishes in ((at_optimum, True), (elsewhere, False)):
        trained = rebuild(path)
        gradients = trained.gradients(trained.points("train"), 4, "test")
        assert {name: values.shape[0] for name, values in gradients.items()} == dict.fromkeys(gradients, 4)
        size = math.sqrt(sum(float((values.mean(0) ** 2).sum()) for values in gradients.values()))
        assert (size < 1e-10) == vanishes


def test_points_come_back_in_data_units(tmp_path: Path) -> None:
    dataset = {"name": "circle", "points": 50, "scaling": "min-max", "held_out": 0.2}
    trained = rebuild(write_trained_run(tmp_path / "run.h5", configure("vae-1", dataset=dataset)))
    raw = trained.unscaled(trained.points("train"))
    assert np.hypot(raw[:, 0], raw[:, 1]) == pytest.approx(np.ones(40), abs=0.3)
    assert trained.points("train").min(0) == pytest.approx([0, 0], abs=1e-6)
    assert trained.image_shape is None


def test_noise_and_choices_are_named_not_advanced(tmp_path: Path) -> None:
    trained = rebuild(write_trained_run(tmp_path / "run.h5", configure("vae-1")))
    before = torch.get_rng_state()
    np.testing.assert_array_equal(trained.noise((3, 2), "a", 1), trained.noise((3, 2), "a", 1))
    assert not np.array_equal(trained.noise((3, 2), "a", 1), trained.noise((3, 2), "a", 2))
    chosen = trained.choose(5, 1000, "a")
    assert sorted(set(chosen)) == [0, 1, 2, 3, 4]
    assert torch.equal(torch.get_rng_state(), before)


def test_other_data_than_the_run_was_trained_on_are_refused(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"), fingerprint="0" * 32)
    with pytest.raises(AnalysisError, match=r"other data than when the run began .* not 0{32}"):
        rebuild(path).count("train")


def test_a_run_that_does_not_say_what_its_data_were_is_refused(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"), fingerprint=None)
    with pytest.raises(AnalysisError, match="keeps no fingerprint"):
        rebuild(path).count("train")


def test_data_that_are_gone_are_told_with_the_runs_path(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)))
    dataset = {"name": "array", "path": str(tmp_path / "points.npy")}
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1", dataset=dataset))
    assert rebuild(path).points("train").shape[1] == 3
    (tmp_path / "points.npy").unlink()
    with pytest.raises(AnalysisError, match=r"run\.h5: the data that it was trained on cannot be read.*points\.npy"):
        rebuild(path).count("train")


def test_a_missing_plugin_is_told_by_what_it_would_provide(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"))
    run = Run.open(path)
    run.config["dataset"]["name"] = "mnist"
    with pytest.raises(AnalysisError, match="pip install elboverse-images"):
        TrainedModel.of(run, 0, built_ins())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decoder_log_var", np.zeros((1, 2)), "decoder_log_var has the shape"),
        ("surplus", np.zeros((1, 2)), "surplus has the shape"),
        ("decoder_log_var", None, "decoder_log_var has the shape of nothing"),
        ("decoder_log_var", np.full(1, np.nan), "decoder_log_var of the checkpoint is not finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(
    tmp_path: Path, name: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"))
    run = Run.open(path)
    stored = run.checkpoint("model")
    stored.pop(name, None)
    if value is not None:
        stored[name] = value
    monkeypatch.setattr(run, "checkpoint", lambda prefix: stored)
    with pytest.raises(AnalysisError, match=message):
        TrainedModel.of(run, 0, built_ins())


def test_there_is_no_replica_beyond_the_last(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"))
    with pytest.raises(AnalysisError, match=r"got replica 1; expected 0 … 0"):
        rebuild(path, 1)
