from __future__ import annotations

from typing import Any

import pytest
import torch
from support.builders import build_model, configure, normal
from torch import Tensor

from elboverse.running.assembly import build_experiment
from elboverse.training.step import SingleStep, StepSettings


def constraint(name: str, **options: Any) -> Any:
    selection = configure("vae-2", {"name": name} | options).constraint
    assert selection is not None
    return selection.build()


def stepper(model: Any, name: str, learning_rate: float = 1e-2) -> SingleStep:
    return SingleStep(
        model,
        StepSettings(constraint=constraint(name), learning_rate=learning_rate, variance_learning_rate=learning_rate),
    )


def constrained(model: Any) -> torch.nn.Parameter:
    parameter: torch.nn.Parameter = model.get_parameter(model.constrained_weight())
    return parameter


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", [{"name": "mlp", "hidden": [16]}, "affine"], ids=["mlp", "affine"])
def test_rescale_trains_the_layer_and_holds_every_column_at_norm_one(network: Any, dtype: torch.dtype) -> None:
    model = build_model("vae-2", 5, latent_dim=3, network=network).to(dtype)
    step = stepper(model, "rescale")
    start = constrained(model).detach().clone()
    for number in range(100):
        step(normal(number, 20, 5).to(dtype), normal(1000 + number, 20, 3).to(dtype), torch.ones((), dtype=dtype))
        assert (constrained(model).norm(dim=0) - 1).abs().max() < 1e-6
    assert ((constrained(model) - start).norm(dim=0) > 0.05).all()


def test_rescale_holds_before_the_first_step() -> None:
    model = build_model("vae-2", 5, latent_dim=3)
    assert (constrained(model).norm(dim=0) - 1).abs().min() > 1e-3
    stepper(model, "rescale")
    torch.testing.assert_close(constrained(model).norm(dim=0), torch.ones(3).double(), rtol=0, atol=1e-12)


def test_rescale_keeps_the_parameter_that_the_optimiser_holds() -> None:
    model = build_model("vae-2", 5, latent_dim=3)
    before = constrained(model)
    step = stepper(model, "rescale")
    step(normal(0, 20, 5), normal(1, 20, 3), torch.ones(()).double())
    assert constrained(model) is before
    held = {group.values.untyped_storage().data_ptr() for group, _state in step._optimizer._groups}
    assert before.untyped_storage().data_ptr() in held


def test_rescale_keeps_the_direction_of_every_column() -> None:
    weight = normal(0, 7, 4)
    projected = constraint("rescale").project(weight)
    torch.testing.assert_close(projected, weight / weight.square().sum(0).sqrt(), rtol=1e-12, atol=1e-12)


def test_rescale_done_twice_is_rescale_done_once() -> None:
    once = constraint("rescale").project(normal(0, 7, 4))
    torch.testing.assert_close(constraint("rescale").project(once), once, rtol=1e-15, atol=1e-15)


def test_rescale_leaves_a_zero_column_at_zero() -> None:
    weight = normal(0, 7, 4)
    weight[:, 1] = 0.0
    projected = constraint("rescale").project(weight)
    assert torch.equal(projected[:, 1], torch.zeros(7).double())
    assert projected.isfinite().all()


@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_regularize_is_the_formula(gamma: float) -> None:
    weight = normal(0, 7, 4)
    expected = gamma * sum((column @ column - 1) ** 2 for column in weight.T)
    torch.testing.assert_close(constraint("regularize", gamma=gamma).penalty(weight), expected, rtol=1e-12, atol=0)


def test_regularize_has_the_gradient_four_gamma_times_excess_times_weight() -> None:
    weight = normal(0, 7, 4).requires_grad_()
    penalty = constraint("regularize", gamma=0.3).penalty
    (gradient,) = torch.autograd.grad(penalty(weight), weight)
    expected = 4 * 0.3 * (weight.square().sum(0) - 1) * weight
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(penalty, weight)


def test_regularize_is_zero_exactly_where_every_column_has_norm_one() -> None:
    weight: Tensor = constraint("rescale").project(normal(0, 7, 4))
    penalty = constraint("regularize").penalty
    assert penalty(weight).item() == pytest.approx(0.0, abs=1e-28)
    assert penalty(1.1 * weight).item() > 0.1


def test_regularize_pulls_the_columns_towards_norm_one_in_training() -> None:
    model = build_model("vae-2", 5, latent_dim=3)
    with torch.no_grad():
        constrained(model).mul_(3.0)
    start = (constrained(model).norm(dim=0) - 1).abs()
    step = stepper(model, "regularize")
    for number in range(200):
        step(normal(number, 20, 5), normal(1000 + number, 20, 3), torch.ones(()).double())
    assert ((constrained(model).norm(dim=0) - 1).abs() < 0.5 * start).all()


@pytest.mark.parametrize("model", ["linear-vae", "vae-1"])
def test_a_projection_beside_a_fixed_prior_is_warned_of_before_training(model: str) -> None:
    with pytest.warns(
        RuntimeWarning, match=rf"constraint 'rescale' fixes the scale .* model '{model}' has a fixed prior"
    ):
        build_experiment(configure(model, "rescale"))


@pytest.mark.parametrize(("model", "constraint"), [("vae-2", "rescale"), ("vae-1", "regularize"), ("vae-1", None)])
def test_nothing_is_warned_of_where_the_prior_makes_up_for_a_constraint_or_nothing_is_fixed(
    model: str, constraint: str | None
) -> None:
    build_experiment(configure(model, constraint))  # a warning is an error here
