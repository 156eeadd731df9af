"""The checks for plugin authors: they let the built-in components pass and catch one broken contract each."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from elboverse import Component, DiagonalGaussian
from elboverse.contracts import Data, VarianceParameters
from elboverse.data import prepare
from elboverse.errors import ConfigError, PluginError, UnknownNameError
from elboverse.seeding import generator
from elboverse.testing import check_constraint, check_dataset, check_model, check_schedule


@attrs.frozen(kw_only=True)
class NoOptions:
    pass


class Plain(nn.Module):
    """An affine VAE with a learned decoder variance, for others to break."""

    def __init__(self, dimension: int = 4, latent_dim: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(dimension, 2 * latent_dim)
        self.output = nn.Linear(latent_dim, dimension)
        self.log_var = nn.Parameter(torch.tensor(-1.0))
        self.register_buffer("zeros", torch.zeros(latent_dim))

    def encode(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*self.head(x).chunk(2, dim=-1))

    def decode(self, z: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.output(z), self.log_var)

    def prior(self) -> DiagonalGaussian:
        assert isinstance(self.zeros, Tensor)
        return DiagonalGaussian(self.zeros, self.zeros)

    def variance_parameters(self) -> VarianceParameters:
        return VarianceParameters(decoder="log_var")


class Random(Plain):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        return super().encode(x + torch.rand_like(x))


class ChangesArgument(Plain):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        return super().encode(x.clamp_(0.2, 0.8))


class Normalised(Plain):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        return super().encode(x - x.mean(-2, keepdim=True))


class KeepsStatistics(Plain):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        self.zeros.add_(1e-3)  # type: ignore[union-attr, operator]
        return super().encode(x)


class OneNumberType(Plain):
    def decode(self, z: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.output(z), self.log_var.float())


class Unused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class Detached(Plain):
    def decode(self, z: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.output(z), self.log_var.detach())


class LogStd(Plain):
    def decode(self, z: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.output(z), 2 * self.log_var)


class WrongWeight(Plain):
    def constrained_weight(self) -> str:
        return "head.weight"


class WrongError(Plain):
    def expected_squared_error(self, x: Tensor, encoder: DiagonalGaussian) -> Tensor:
        return (x - self.output(encoder.mean)).square()

    def decoder_log_variance(self) -> Tensor:
        return self.log_var


class Branching(Plain):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        return super().encode(-x if bool(self.head.weight.sum() > 1e6) else x)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae-0", {}),
        ("vae-1", {"network": {"name": "mlp", "hidden": [6], "activation": "tanh"}}),
        ("VAE_2", {"network": "affine"}),
        ("vae-3", {}),
        ("linear-vae", {}),
    ],
)
def test_the_built_in_models_keep_their_contract(name: str, options: dict[str, Any]) -> None:
    report = check_model(name, data_shape=(2, 3), latent_dim=3, **options)
    assert (report.latent_dim, report.obstacle) == (3, "")
    assert report.parameters > 0


def test_a_built_model_is_checked_and_left_as_it_was() -> None:
    model = Plain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert check_model(model, data_shape=(4,)).parameters == 4 * 4 + 4 + 2 * 4 + 4 + 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Random(), "encode.x. differs from call to call"),
        (ChangesArgument(), "encode.x. changes its argument"),
        (Normalised(), r"encode.x. of a batch of shape \(2, 5, 4\) is not that of its points"),
        (KeepsStatistics(), "changes the model's own state"),
        (OneNumberType(), "decode.z. returns .*float32"),
        (Unused(), "does not depend on parameter 'unused', so it never trains"),
        (Detached(), "does not depend on parameter 'log_var'"),
        (LogStd(), "says that 'log_var' is ln σ² of the decoder, but the ELBO's gradient says not"),
        (WrongWeight(), r"constrained_weight.* shape \(4, 4\); expected \(F, 2\)"),
        (WrongError(), "expected_squared_error.* is not what samples average to"),
        (nn.Linear(4, 2), "must return a torch.nn.Module with encode"),
    ],
)
def test_a_model_that_breaks_its_contract_is_refused_with_the_reason(model: nn.Module, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_model(model, data_shape=(4,))


def test_gaussians_with_a_density_of_their_own_break_the_gap_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussian, "log_prob", lambda self, value: Tensor.sum(value * 0 + 1.0, -1))
    with pytest.raises(PluginError, match="ELBO − H_sum = R_σ"):
        check_model(Plain(), data_shape=(4,))


def test_a_model_that_cannot_be_vectorised_passes_with_the_obstacle_reported() -> None:
    assert "vmap" in check_model(Branching(), data_shape=(4,)).obstacle


def test_a_model_that_is_built_with_other_weights_each_time_is_refused() -> None:
    stream = torch.Generator().manual_seed(0)

    def build(_options: NoOptions, data_shape: tuple[int, ...]) -> Plain:
        model = Plain(data_shape[0])
        nn.init.normal_(model.output.weight, generator=stream)
        return model

    with pytest.raises(PluginError, match="build gives other weights each time"):
        check_model(Component("moody", NoOptions, build, "moody"), data_shape=(4,))


def test_options_of_a_component_are_checked_like_those_of_a_config() -> None:
    with pytest.raises(ConfigError, match=r"model 'vae-1'\.latent_dims: unknown key"):
        check_model("vae-1", data_shape=(4,), latent_dims=2)
    with pytest.raises(UnknownNameError, match="did you mean 'vae-1'"):
        check_model("vea-1", data_shape=(4,))
    with pytest.raises(TypeError, match="Plain is built already, so latent_dim cannot be given"):
        check_model(Plain(), data_shape=(4,), latent_dim=2)


def points_of(seed: int, count: int = 20) -> Tensor:
    return torch.rand(count, 2, generator=generator(seed, "data"))


def dataset(build: Any) -> Component:
    return Component("mine", NoOptions, lambda _options, seed: build(seed), "mine")


@pytest.mark.parametrize("name", ["circle", "pca", "pca-ring", "1dgauss", "swiss_roll"])
def test_built_in_datasets_keep_their_contract(name: str) -> None:
    assert len(check_dataset(name, points=40).train) == 20


def test_a_dataset_of_fixed_points_keeps_its_contract() -> None:
    fixed = points_of(0)
    data = check_dataset(dataset(lambda _seed: prepare(fixed[:10], seed=0, held_out=fixed[10:])))
    assert check_dataset(data) is data


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda seed: prepare(torch.rand(20, 2), seed=seed), "other points the second time"),
        (lambda seed: prepare(points_of(seed, 20 + 2 * seed), seed=seed), r"\(\(2,\), 10, 10\) and \(\(2,\), 11, 11\)"),
        (
            lambda seed: prepare(points_of(seed), seed=seed, held_out=points_of(seed)),
            "every held-out point is a training",
        ),
        (lambda seed: attrs.evolve(prepare(points_of(seed), seed=seed), fingerprint="0"), "fingerprint"),
        (lambda seed: attrs.evolve(prepare(points_of(seed), seed=seed), names=("x",)), "1 names for 2 dimensions"),
        (points_of, "must return elboverse.contracts.Data, not Tensor"),
    ],
)
def test_a_dataset_that_breaks_its_contract_is_refused_with_the_reason(build: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_dataset(dataset(build))


def test_a_scaling_that_does_not_fit_the_points_is_refused() -> None:
    data: Data = prepare(points_of(0), seed=0)
    with pytest.raises(PluginError, match=r"positive scale of shape \(2,\)"):
        check_dataset(attrs.evolve(data, scaling=attrs.evolve(data.scaling, scale=torch.zeros(2))))


class Halve:
    def project(self, weight: Tensor) -> Tensor:
        return weight / 2


class InPlace:
    def project(self, weight: Tensor) -> Tensor:
        return weight.clamp_(-1, 1)


class Widen:
    def project(self, weight: Tensor) -> Tensor:
        return weight.double().clamp(-1, 1)


class Lost:
    def penalty(self, weight: Tensor) -> Tensor:
        return weight.detach().square().sum()


class Negative:
    def penalty(self, weight: Tensor) -> Tensor:
        return -weight.square().sum()


class Steep:
    def penalty(self, weight: Tensor) -> Tensor:
        return (weight - weight.detach()).square().sum().sqrt()


@pytest.mark.parametrize(("name", "options"), [("rescale", {}), ("regularize", {"gamma": 2.0})])
def test_the_built_in_constraints_keep_their_contract(name: str, options: dict[str, Any]) -> None:
    check_constraint(name, **options)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Halve(), "projecting twice is not once"),
        (InPlace(), "changes its argument"),
        (Widen(), "returns torch.float64 for torch.float32"),
        (Lost(), "does not depend on the weight"),
        (Negative(), "expected a finite number ≥ 0"),
        (Steep(), "gradient of penalty.weight. is not finite"),
        (object(), "must return an object with project"),
    ],
)
def test_a_constraint_that_breaks_its_contract_is_refused_with_the_reason(constraint: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_constraint(constraint)


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def weight(self, _step: int, _total_steps: int) -> float:
        self.calls += 1
        return float(self.calls)


@attrs.frozen
class Formula:
    formula: Any

    def weight(self, step: int, total_steps: int) -> float:
        return float(self.formula(step, total_steps))


def refuse(_step: int, _total_steps: int) -> float:
    raise ConfigError("annealing: too short")


@pytest.mark.parametrize("name", ["constant", "linear", "cyclical", "sigmoid"])
def test_the_built_in_schedules_keep_their_contract(name: str) -> None:
    check_schedule(name)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Formula(lambda step, _total: -step), r"weight\(1, 2\) is -1.0; expected a finite number ≥ 0"),
        (Formula(lambda _step, _total: float("nan")), r"weight\(0, 1\) is nan"),
        (Formula(refuse), "it refuses every run of 1, 2, 3, 10, 1000 steps: annealing: too short"),
        (Counting(), "gets other weights the second time"),
        (object(), "must return an object with weight"),
    ],
)
def test_a_schedule_that_breaks_its_contract_is_refused_with_the_reason(schedule: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_schedule(schedule)
