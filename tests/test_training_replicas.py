from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from builders import VARIANTS, configure
from trained import train_to_the_end

from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import StepSettings

SEED, REPLICAS = 3, 3


def config_of(name: str, constraint: str | None, variances: str, **settings: Any) -> Any:
    return configure(
        name,
        constraint,
        latent_dim=3,
        variances=variances,
        epochs=17,
        evaluate_every=10,
        learning_rate=1e-2,
        **settings,
    )


@pytest.mark.parametrize(("name", "constraint", "variances"), VARIANTS)
def test_each_replica_is_the_single_run_with_its_seed(name: str, constraint: str | None, variances: str) -> None:
    together = train_to_the_end(config_of(name, constraint, variances, seed=SEED, replicas=REPLICAS))
    series, state = together.series(), together.experiment.loop.state()
    assert len(together.steps) == 102
    for replica in range(REPLICAS):
        single = train_to_the_end(config_of(name, constraint, variances, seed=SEED + replica))
        for series_name, values in single.series().items():
            np.testing.assert_allclose(
                series[series_name][:, replica], values[:, 0], rtol=1e-6, atol=1e-8, err_msg=series_name
            )
        for path, tensor in single.experiment.loop.state().items():
            np.testing.assert_allclose(state[path][replica], tensor[0], rtol=1e-6, atol=1e-8, err_msg=path)
        for split in ("train", "held_out"):
            for ours, theirs in zip(together.evaluations(split), single.evaluations(split), strict=True):
                assert ours.step == theirs.step
                for quantity, value in (theirs.scalars | theirs.per_latent).items():  # type: ignore[operator]
                    own = (ours.scalars | ours.per_latent)[quantity]  # type: ignore[operator]
                    np.testing.assert_allclose(own[replica], value[0], rtol=1e-6, atol=1e-8, err_msg=quantity)


def test_replicas_differ_from_each_other() -> None:
    trained = train_to_the_end(config_of("vae-1", None, "learned", replicas=2))
    assert isinstance(trained.experiment.loop._step, ReplicatedStep)
    for path, tensor in trained.experiment.loop.state().items():
        if path.startswith("model/") and "prior" not in path:
            assert not np.array_equal(tensor[0], tensor[1]), path


def test_replicas_of_several_samples_are_the_single_runs_too() -> None:
    together = train_to_the_end(config_of("vae-3", None, "learned", replicas=2, samples=3))
    single = train_to_the_end(config_of("vae-3", None, "learned", seed=1, samples=3))
    np.testing.assert_allclose(together.series()["elbo"][:, 1], single.series()["elbo"][:, 0], rtol=1e-6)


def test_replicated_rescale_holds_for_every_replica() -> None:
    trained = train_to_the_end(config_of("vae-2", "rescale", "learned", replicas=REPLICAS))
    norms = np.linalg.norm(trained.experiment.loop.state()["model/decoder.0.weight"], axis=-2)
    assert norms.shape == (REPLICAS, 3)
    np.testing.assert_allclose(norms, 1.0, atol=1e-12)


def test_replicas_leave_the_models_that_they_started_from_as_they_were() -> None:
    from_one = configure("vae-1").model.build((4,)).double()
    start = {name: value.clone() for name, value in from_one.state_dict().items()}
    step = ReplicatedStep([from_one, configure("vae-1").model.build((4,)).double()], StepSettings())
    step(torch.ones(2, 5, 4).double(), torch.ones(2, 5, 2).double(), torch.ones(()).double())
    for name, value in from_one.state_dict().items():
        assert torch.equal(value, start[name]), name
