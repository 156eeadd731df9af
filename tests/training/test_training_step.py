from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.builders import VARIANTS, build_model, configure, normal
from torch import Tensor

from elboverse.contracts import Penalty, Projection, SamplingFree
from elboverse.errors import RunFileError
from elboverse.theory.elbo import closed_form, moments
from elboverse.training.gradients import LOG_VAR_FLOOR
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, Step, StepSettings

D, H, BATCH = 4, 3, 20
ONE = torch.ones((), dtype=torch.float64)


def batch(model: Any, number: int) -> tuple[Tensor, Tensor | None]:
    """Return the points and, where the model needs it, the noise of a step."""
    return normal(number, BATCH, D), None if isinstance(model, SamplingFree) else normal(500 + number, 2, BATCH, H)


def build_step(
    model: Any,
    constraint: str | None = None,
    *,
    variances: str = "learned",
    learning_rate: float = 1e-2,
    variance_learning_rate: float = 1e-2,
) -> SingleStep:
    selection = configure("vae-1", constraint).constraint
    settings = StepSettings(
        constraint=selection.build() if selection else None,
        optimal=variances == "optimal",
        learning_rate=learning_rate,
        variance_learning_rate=variance_learning_rate,
    )
    return SingleStep(model, settings)


def elbo_by_definition(model: Any, x: Tensor, noise: Tensor | None, beta: Tensor) -> Tensor:
    q = model.encode(x)
    kl = q.kl(model.prior()).sum(-1).mean()
    if noise is None:
        error = model.expected_squared_error(x, q).sum(-1).mean()
        log_var = model.decoder_log_var
        return -0.5 * (D * (torch.log(torch.tensor(2 * torch.pi)) + log_var) + error / log_var.exp()) - beta * kl
    return model.decode(q.sample(noise)).log_prob(x).mean() - beta * kl


@pytest.mark.parametrize(
    ("name", "constraint"), [(name, constraint) for name, constraint, mode in VARIANTS if mode == "learned"]
)
def test_step_is_adam_on_minus_the_elbo(name: str, constraint: str | None) -> None:
    model = build_model(name, D, latent_dim=H)
    by_hand = copy.deepcopy(model)
    step = build_step(model, constraint, learning_rate=1e-2, variance_learning_rate=3e-3)
    selection = configure("vae-1", constraint).constraint
    built = selection.build() if selection else None
    names = by_hand.variance_parameters()
    variances = {*names.closed_form, *names.heads}
    optimizer = torch.optim.Adam(
        [
            {"params": [value], "lr": 3e-3 if parameter in variances else 1e-2}
            for parameter, value in by_hand.named_parameters()
        ],
        foreach=False,
    )
    weight = by_hand.get_parameter(by_hand.constrained_weight())
    for number in range(20):
        x, noise = batch(model, number)
        beta = torch.tensor(0.1 * number, dtype=torch.float64)
        if isinstance(built, Projection):
            weight.data = built.project(weight.data)
        loss = -elbo_by_definition(by_hand, x, noise, beta)
        if isinstance(built, Penalty):
            loss = loss + built.penalty(weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step(x, noise, beta)
    if isinstance(built, Projection):
        weight.data = built.project(weight.data)
    for (parameter, ours), theirs in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=parameter)


@pytest.mark.parametrize("name", ["vae-1", "vae-2", "vae-3", "linear-vae"])
def test_variances_and_they_alone_take_their_own_learning_rate(name: str) -> None:
    model = build_model(name, D, latent_dim=H)
    start = {parameter: value.detach().clone() for parameter, value in model.named_parameters()}
    x, noise = batch(model, 0)
    build_step(model, learning_rate=1e-3, variance_learning_rate=7e-3)(x, noise, ONE)
    names = model.variance_parameters()
    variances = {*names.closed_form, *names.heads}
    assert variances
    for parameter, value in model.named_parameters():
        moved = (value - start[parameter]).abs().max().item()
        assert moved == pytest.approx(7e-3 if parameter in variances else 1e-3, rel=1e-4), parameter


@pytest.mark.parametrize("name", ["vae-1", "vae-2", "linear-vae"])
def test_optimal_variances_are_those_of_the_batch_before_the_update(name: str) -> None:
    model = build_model(name, D, latent_dim=H)
    x, noise = batch(model, 0)
    found = moments(model, x, noise, average_points=True)
    best = closed_form(model, found)
    build_step(model, variances="optimal")(x, noise, ONE)
    names = model.variance_parameters()
    assert best.decoder is not None
    torch.testing.assert_close(model.get_parameter(names.decoder).detach(), best.decoder)
    if names.prior:
        assert best.prior is not None
        torch.testing.assert_close(model.get_parameter(names.prior).detach(), best.prior)


def step_of(models: list[Any], settings: StepSettings) -> Step:
    return SingleStep(models[0], settings) if len(models) == 1 else ReplicatedStep(models, settings)


@pytest.mark.parametrize("variances", ["learned", "optimal"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_decoder_variance_never_falls_below_its_floor(variances: str, replicas: int) -> None:
    models = [build_model("linear-vae", D, latent_dim=H) for _ in range(replicas)]
    for model in models:  # it reconstructs zeros without error
        with torch.no_grad():
            model.decoder.weight.zero_()
            model.decoder.bias.zero_()
            model.decoder_log_var.fill_(LOG_VAR_FLOOR + 0.5)
    settings = StepSettings(optimal=variances == "optimal", learning_rate=1e-12, variance_learning_rate=1.0)
    step = step_of(models, settings)
    x = torch.zeros(BATCH, D, dtype=torch.float64)
    for _ in range(3):
        columns = step(x if replicas == 1 else x.expand(2, -1, -1), None, ONE)
    assert step.tensors()["model/decoder_log_var"].tolist() == [LOG_VAR_FLOOR] * replicas
    assert columns.isfinite().all()
    assert (columns[..., 1] == LOG_VAR_FLOOR).all()


@pytest.mark.parametrize("replicas", [1, 2])
def test_closed_form_prior_variance_of_a_collapsed_latent_never_falls_below_its_floor(replicas: int) -> None:
    models = [build_model("vae-2", D, latent_dim=H) for _ in range(replicas)]
    for model in models:
        with torch.no_grad():
            model.encoder_head.weight.zero_()
            model.encoder_head.bias.copy_(torch.tensor([0.0] * H + [-40.0] * H))
    step = step_of(models, StepSettings(optimal=True))
    lead = () if replicas == 1 else (replicas,)
    columns = step(normal(0, *lead, BATCH, D), normal(1, *lead, BATCH, H), ONE)
    assert (step.tensors()["model/prior_log_var"] == LOG_VAR_FLOOR).all()
    assert (columns[..., -H:] == LOG_VAR_FLOOR).all()
    assert columns.isfinite().all()


def state_of(step: Step) -> dict[str, Tensor]:
    return {path: tensor.clone() for path, tensor in step.tensors().items()}


@pytest.mark.parametrize("replicas", [1, 3])
def test_loading_a_state_brings_back_every_tensor_of_it(replicas: int) -> None:
    def fresh(seed: int) -> Step:
        models = [build_model("vae-1", D, latent_dim=H, seed=seed + replica) for replica in range(replicas)]
        return step_of(models, StepSettings())

    first, second = fresh(0), fresh(100)
    shape = () if replicas == 1 else (replicas,)
    for number in range(3):
        first(normal(number, *shape, BATCH, D), normal(10 + number, *shape, BATCH, H), ONE)
    saved = state_of(first)
    assert {path: len(tensor) for path, tensor in saved.items()} == dict.fromkeys(saved, replicas)
    second.load(saved)
    loaded = state_of(second)
    for path, tensor in saved.items():
        assert torch.equal(loaded[path], tensor), path
    assert saved["optimizer/step/decoder_log_var"].tolist() == [3.0] * replicas


def test_a_state_of_another_model_is_refused() -> None:
    state = state_of(build_step(build_model("vae-1", D, latent_dim=H)))
    with pytest.raises(RunFileError, match=r"shape .* not"):
        build_step(build_model("vae-1", D, latent_dim=H + 1)).load(state)
    with pytest.raises(RunFileError, match="on one side only"):
        build_step(build_model("vae-0", D, latent_dim=H)).load(state)
