from __future__ import annotations

import copy
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from support.builders import VARIANTS, build_model, configure, normal
from support.recorded_training import train_to_the_end
from torch import nn

from elboverse.components.hookspecs import Component
from elboverse.components.registry import Plugin, Registered, Selection
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training import grouped
from elboverse.training.grouped import measure_grouping
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import StepSettings

SEED, REPLICAS = 3, 3


def config_of(name: str, constraint: str | None, **settings: Any) -> Any:
    return configure(
        name,
        constraint,
        latent_dim=3,
        **({"epochs": 84, "evaluate_every": 50, "learning_rate": 1e-2} | settings),
    )


SCHEDULES = ({"name": "linear"}, {"name": "cyclical"}, {"name": "sigmoid"})


@pytest.mark.parametrize(
    ("name", "constraint", "variances", "annealing", "group"),
    [
        *((*variant, None, REPLICAS) for variant in VARIANTS),
        *(("vae-1", None, "learned", annealing, REPLICAS) for annealing in SCHEDULES),
        ("vae-2", "rescale", "optimal", None, 2),
        ("vae-3", None, "learned", None, 1),
    ],
)
def test_each_replica_is_the_single_run_with_its_seed(
    name: str, constraint: str | None, variances: str, annealing: dict[str, Any] | None, group: int
) -> None:
    settings = {"annealing": annealing, "variances": variances}
    together = train_to_the_end(
        config_of(name, constraint, seed=SEED, replicas=REPLICAS, replica_group=group, **settings)
    )
    series, state = together.series(), together.experiment.loop.state()
    assert len(together.steps) == 504
    for replica in range(REPLICAS):
        single = train_to_the_end(config_of(name, constraint, seed=SEED + replica, **settings))
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
    trained = train_to_the_end(config_of("vae-1", None, replicas=2, replica_group=2))
    assert isinstance(trained.experiment.loop._step, ReplicatedStep)
    for path, tensor in trained.experiment.loop.state().items():
        if path.startswith("model/") and "prior" not in path:
            assert not np.array_equal(tensor[0], tensor[1]), path


def test_replicas_of_several_samples_are_the_single_runs_too() -> None:
    together = train_to_the_end(config_of("vae-3", None, replicas=2, replica_group=2, samples=3))
    single = train_to_the_end(config_of("vae-3", None, seed=1, samples=3))
    np.testing.assert_allclose(together.series()["elbo"][:, 1], single.series()["elbo"][:, 0], rtol=1e-6)


def test_replicated_rescale_holds_for_every_replica() -> None:
    trained = train_to_the_end(config_of("vae-2", "rescale", replicas=REPLICAS, replica_group=REPLICAS))
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


class Unvectorisable(nn.Module):
    """A VAE whose encoder asks for a number's value, for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = configure("vae-1").model.build((4,)).double()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def encode(self, x: torch.Tensor) -> DiagonalGaussian:
        return self.inner.encode(x * float(x.sum().isfinite().item()))


def test_the_measured_group_size_lies_within_the_replicas() -> None:
    models = [build_model("vae-1", 4, seed=seed) for seed in range(5)]
    found = measure_grouping(models, StepSettings(), normal(0, 20, 4), normal(1, 20, 2))
    assert 1 <= found.size <= 5
    assert found.obstacle == ""


def found_with(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, list[float]], replicas: int = 8) -> int:
    """Return the group size found where steps of each size take the seconds given, the last of them ever after.

    A size that is not given cannot be tried.
    """
    taken = {size: iter([*values, *[values[-1]] * 100]) for size, values in seconds.items()}

    def trial(models: list[Any], *_: Any) -> Any:
        size = len(models)
        return (lambda: next(taken[size])) if size in taken else "RuntimeError: out of memory"

    monkeypatch.setattr(grouped, "_trial", trial)
    models = [build_model("vae-1", 4) for _ in range(replicas)]
    return measure_grouping(models, StepSettings(), normal(0, 20, 4), None).size


def test_a_moment_of_other_work_does_not_decide_the_group_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_with(monkeypatch, {1: [1.0], 2: [0.9], 4: [0.95, 0.5], 8: [0.7]}) == 4
    assert found_with(monkeypatch, {1: [1.4, 1.4, 0.5], 2: [1.1], 4: [0.9], 8: [0.7]}) == 1


def test_a_group_size_for_which_memory_ends_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_with(monkeypatch, {1: [1.0], 2: [0.9], 4: [0.8]}) == 4


def test_measuring_the_group_size_leaves_the_models_as_they_were() -> None:
    models = [build_model("vae-1", 4, seed=seed) for seed in range(3)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    measure_grouping(models, StepSettings(learning_rate=0.1), normal(0, 20, 4), normal(1, 20, 2))
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_model_that_cannot_be_vectorised_is_trained_one_by_one_with_the_reason() -> None:
    models: list[Any] = [Unvectorisable() for _ in range(3)]
    found = measure_grouping(models, StepSettings(), normal(0, 20, 4), normal(1, 20, 2))
    assert found.size == 1
    assert "item()" in found.obstacle


def test_a_run_of_replicas_records_its_group_size() -> None:
    experiment = train_to_the_end(config_of("vae-1", None, replicas=4, epochs=1)).experiment
    assert 1 <= experiment.documents["engine"]["replica_group"] <= 4


@attrs.frozen
class NoOptions:
    pass


class Normalised:
    """A network with batch normalisation on both sides."""

    encoder_features = decoder_features = 8

    def __init__(self, dimension: int, latent_dim: int) -> None:
        self.dimension = dimension
        self.encoder = nn.Sequential(nn.Linear(dimension, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 8), nn.BatchNorm1d(8), nn.Tanh())

    def build_output(self) -> nn.Module:
        return nn.Linear(8, self.dimension)

    def output_activation(self, pre_activation: torch.Tensor) -> torch.Tensor:
        return pre_activation


class Skipping(nn.Module):
    """A layer, a rectifier and a layer, the output of the first layer added to that of the last one."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.layers[0](x)
        output: torch.Tensor = self.layers[2](self.layers[1](first)) + first
        return output


class Sharing(nn.Module):
    """Two stacks with one layer in common, rectified in the first of them alone."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        shared = nn.Linear(inputs, 8)
        self.rectified, self.smooth = nn.Sequential(shared, nn.ReLU()), nn.Sequential(shared, nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.rectified(x) - self.smooth(x)
        return output


class Iterating(nn.Module):
    """Layers that are gone through one by one, the output of each added up."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x[:, :1])
        for layer in self.layers:
            x = layer(x)
            total = total + x
        return total


class Watched(nn.Module):
    """A stack whose first layer's output is kept by a hook and added at the end."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 8))
        self.layers[0].register_forward_hook(keep_output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layers(x) + self.layers[0].kept
        return output


def keep_output(module: Any, _arguments: Any, output: torch.Tensor) -> None:
    module.kept = output


class Peculiar(Normalised):
    """A network of which a module of one of the classes above is either side."""

    def __init__(self, side: Any, dimension: int, latent_dim: int) -> None:
        self.dimension = dimension
        self.encoder, self.decoder = side(dimension), side(latent_dim)


def with_network(network: Any, seed: int, replicas: int, **training: Any) -> Any:
    """Return the run of a VAE with the network that a function of D and H returns."""
    plugin = Plugin("any", "a-plugin", "1")
    component = Component("any", NoOptions, lambda _options, shape, latent_dim: network(shape[0], latent_dim), "")
    config = configure("vae-1", seed=seed, replicas=replicas, evaluate_every=1, **training)
    selection = Selection(Registered("network", component, plugin), NoOptions())
    model = attrs.evolve(config.model, options=attrs.evolve(config.model.options, network=selection))
    return train_to_the_end(attrs.evolve(config, model=model))


@pytest.mark.filterwarnings("ignore:the training step is differentiated anew")  # batch normalisation, as replicas
@pytest.mark.parametrize(
    "network",
    [Normalised, *(partial(Peculiar, side) for side in (Skipping, Sharing, Iterating, Watched))],
    ids=["batch normalisation", "skipping", "sharing", "iterating", "watched"],
)
def test_replicas_with_any_network_are_the_single_runs(network: Any) -> None:
    together = with_network(network, SEED, 3, replica_group=3)
    assert isinstance(together.experiment.loop._step, ReplicatedStep)
    state = together.experiment.loop.state()
    for replica in range(3):
        single = with_network(network, SEED + replica, 1)
        for path, tensor in single.experiment.loop.state().items():
            np.testing.assert_allclose(state[path][replica], tensor[0], rtol=1e-6, atol=1e-9, err_msg=path)
        for ours, theirs in zip(together.evaluations("held_out"), single.evaluations("held_out"), strict=True):
            np.testing.assert_allclose(ours.scalars["elbo"][replica], theirs.scalars["elbo"][0], rtol=1e-6)


def test_evaluation_leaves_the_running_statistics_of_batch_normalisation_alone() -> None:
    trained = with_network(Normalised, SEED, 1)
    assert trained.experiment.loop.state()["model/encoder.1.num_batches_tracked"][0] == len(trained.steps)
