"""Training until the certificate holds: it ends at the exact optimum, and goes on bitwise after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.builders import built_ins, configure
from support.pca_optimum import maximum_log_likelihood, principal_components

from elboverse.runfile import Run
from elboverse.running.assembly import build_experiment
from elboverse.running.runs import resume, train
from elboverse.theory.certificate import certificates
from elboverse.training.polish import Polish
from elboverse.training.stopping import UntilStationary

STATIONARY = {"until": "stationary", "epochs": 6, "max_epochs": 6, "evaluate_every": 2}


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elboverse.training.full_batch.FEWEST_SAMPLES", 1 << 11)
    monkeypatch.setattr("elboverse.training.stopping.MOST_ROWS", 1 << 14)


@pytest.mark.parametrize(("dimension", "latent_dim", "points"), [(4, 2, 240), (12, 3, 600)])
def test_a_linear_vae_ends_at_the_closed_form_optimum(
    tmp_path: Path, dimension: int, latent_dim: int, points: int
) -> None:
    data = {"name": "pca", "points": points, "dimension": dimension}
    config = configure("linear-vae", latent_dim=latent_dim, dataset=data, **STATIONARY)
    with train(config, out=tmp_path) as run:
        (found,) = certificates(run.documents, run.checkpoint_step)
        elbo = run.evaluation("train", "elbo")[-1, 0]
    train_points = build_experiment(config).data.train.double()
    best = maximum_log_likelihood(principal_components(train_points), range(latent_dim))
    assert found.verdict == "stationary"
    assert elbo == pytest.approx(best, abs=1e-6)


def test_replicas_each_end_with_a_certificate(tmp_path: Path) -> None:
    config = configure("linear-vae", replicas=3, **STATIONARY)
    with train(config, out=tmp_path) as run:
        found = certificates(run.documents, run.checkpoint_step)
    assert [one.verdict for one in found] == ["stationary"] * 3


@pytest.mark.usefixtures("few_samples")
@pytest.mark.parametrize("stop_after", [3, 40])
@pytest.mark.parametrize("model", ["linear-vae", "vae-1"])
def test_a_resumed_polish_is_bitwise_as_if_never_interrupted(tmp_path: Path, model: str, stop_after: int) -> None:
    network = {"name": "mlp", "hidden": [4]}
    config = configure(model, polish_steps=6, replicas=2, tolerance=0.2, network=network, **STATIONARY)
    with train(config, out=tmp_path / "whole") as run:
        whole = run.checkpoint(), run.series("elbo"), run.checkpoint_step
    experiment = build_experiment(config)
    loop = experiment.loop
    assert isinstance(loop, UntilStationary)
    for _ in loop.rounds():
        if loop.done >= min(stop_after, whole[2] - 1):
            break
    state, done = loop.state(), loop.done
    other = build_experiment(config).loop
    other.load(state, done)
    for _ in other.rounds():
        pass
    assert other.done == whole[2]
    again = other.state()
    assert again.keys() == whole[0].keys()
    for path, array in again.items():
        np.testing.assert_array_equal(array, whole[0][path], err_msg=path)


def test_a_finished_run_goes_on_until_it_is_stationary(tmp_path: Path) -> None:
    config = configure("linear-vae", epochs=2)
    with train(config, out=tmp_path) as run:
        (before,) = certificates(run.documents, run.checkpoint_step)
    assert before.verdict == "not stationary"
    with resume(tmp_path, overrides=["training.until=stationary"], registry=built_ins()) as run:
        (after,) = certificates(run.documents, run.checkpoint_step)
        assert run.checkpoint_step > 24
    assert after.verdict == "stationary"


def test_closed_form_variances_do_not_hide_that_training_has_not_ended(tmp_path: Path) -> None:
    for replicas in (1, 2):
        config = configure("linear-vae", variances="optimal", epochs=1, replicas=replicas)
        with train(config, out=tmp_path / str(replicas)) as run:
            found = certificates(run.documents, run.checkpoint_step)
            assert run.documents["model"]["learns_decoder_variance"] is True
        assert {one.verdict for one in found} == {"not stationary"}


def test_recorded_steps_of_the_polish_follow_those_of_training(tmp_path: Path) -> None:
    with train(configure("linear-vae", **STATIONARY), out=tmp_path) as run:
        np.testing.assert_array_equal(run.steps, np.arange(len(run.steps)))
        assert torch.isfinite(torch.from_numpy(np.asarray(run.series("elbo")))).all()
        assert isinstance(run, Run)


@pytest.mark.usefixtures("few_samples")
def test_a_sampled_model_ends_stationary_at_no_lower_elbo_than_as_many_plain_steps(tmp_path: Path) -> None:
    network = {"name": "mlp", "hidden": [6]}
    settings = {"network": network, "dataset": {"name": "circle", "points": 300}}
    settings |= {"evaluate_every": 10, "tolerance": 0.1, "learning_rate": 1e-2, "variance_learning_rate": 1e-2}
    with train(configure("vae-1", until="stationary", epochs=30, **settings), out=tmp_path / "until") as run:
        (found,) = certificates(run.documents, run.checkpoint_step)
        assert found.verdict == "stationary", found.sentence()
        steps, elbo = run.checkpoint_step, run.evaluation("train", "elbo")[-1, 0]
        error = run.evaluation("train", "elbo_standard_error")[-1, 0]
        per_epoch = int(run.evaluation_steps("train")[1]) // 10
    with train(configure("vae-1", epochs=-(-steps // per_epoch), **settings), out=tmp_path / "plain") as run:
        assert elbo >= run.evaluation("train", "elbo")[-1, 0] - error


def test_what_a_polish_gains_by_fitting_its_samples_does_not_count() -> None:
    config = configure("vae-1", network={"name": "mlp", "hidden": [16]}, dataset={"name": "circle", "points": 60})
    experiment = build_experiment(config)
    assert experiment.objective is not None
    full = experiment.objective(0)
    full.samples = 1
    tensors = experiment.loop.step.tensors().items()
    model = {path.removeprefix("model/"): values[0] for path, values in tensors if path.startswith("model/")}
    polish = Polish(full, model)
    for _ in range(60):
        polish.step()
    polish.begin_at(polish.theta)
    for _ in range(10):
        polish.step()
    own = polish.values[-1] - polish.values[0]
    full.samples = 256
    _, rise, error = polish.check()
    assert own > 0
    assert rise + 2 * error < own
