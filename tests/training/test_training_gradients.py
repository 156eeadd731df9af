from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.builders import MODELS, build_model, configure, normal, randomise
from torch import Tensor, nn

from elboverse.builtin.models.vae3 import VAE3
from elboverse.contracts import SamplingFree
from elboverse.theory.elbo import closed_form, moments, terms_of
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.grouped import build_step
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, Step, StepSettings

D, H, BATCH, SAMPLES = 4, 3, 6, 5
BETA = torch.tensor(0.7, dtype=torch.float64)

KINDS = (*MODELS, "diagonal", "one variance per point")
"""The built-in models, a VAE-1 with one variance per dimension, and a VAE-3 with one variance per point."""


class OneVariancePerPoint(VAE3):
    def decode(self, z: Tensor) -> DiagonalGaussian:
        decoder = super().decode(z)
        return DiagonalGaussian(decoder.mean, decoder.log_var.mean(-1, keepdim=True))


def random_model(kind: str, seed: int = 0) -> Any:
    model = build_model({"diagonal": "vae-1", "one variance per point": "vae-3"}.get(kind, kind), D, latent_dim=H)
    if kind == "diagonal":
        model.decoder_log_var = nn.Parameter(torch.zeros(D, dtype=torch.float64))
    if kind == "one variance per point":
        model.__class__ = OneVariancePerPoint
    randomise(model, seed)
    return model


def batch(model: Any, *lead: int, samples: int | None = SAMPLES) -> tuple[Tensor, Tensor | None]:
    shape = (BATCH, H) if samples is None else (samples, BATCH, H)
    return normal(1, *lead, BATCH, D), None if isinstance(model, SamplingFree) else normal(2, *lead, *shape)


def by_automatic_differentiation(
    model: Any, x: Tensor, noise: Tensor | None, settings: StepSettings
) -> tuple[dict[str, Tensor], Tensor]:
    """Return ∂loss/∂θ of the parameters that train, and the columns of a row, from the formulas of `elbo`."""
    found = moments(model, x, noise, average_points=True)
    terms = terms_of(found, closed_form(model, found) if settings.optimal else None)
    loss = BETA * terms.kl.sum() - terms.log_likelihood
    if settings.constraint is not None:
        loss = loss + settings.constraint.penalty(model.get_parameter(model.constrained_weight()))  # type: ignore[union-attr]
    trained = {
        name: value
        for name, value in model.named_parameters()
        if not (settings.optimal and name in model.variance_parameters().closed_form)
    }
    gradients = torch.autograd.grad(loss, list(trained.values()))
    standardised_error = D - 2 * terms.decoder_residual
    second_moment = 1 - 2 * terms.prior_residual
    scalars = torch.stack((standardised_error, terms.decoder_log_var))
    encoder_log_var = 2 * (terms.encoder_entropy - DiagonalGaussian(scalars, torch.zeros(()).double()).entropy())
    columns = torch.cat((scalars, second_moment, encoder_log_var, terms.prior_log_var))
    return dict(zip(trained, gradients, strict=True)), columns.detach()


@pytest.mark.parametrize("optimal", [False, True], ids=["learned", "optimal"])
@pytest.mark.parametrize("samples", [None, 1, SAMPLES])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_columns_are_those_of_automatic_differentiation(
    kind: str, samples: int | None, optimal: bool
) -> None:
    model = random_model(kind)
    x, noise = batch(model, samples=samples)
    settings = StepSettings(optimal=optimal, samples_at_once=SAMPLES)
    expected, expected_columns = by_automatic_differentiation(model, x, noise, settings)
    columns, _ = SingleStep(model, settings)._gradients(x, noise, BETA)
    assert not columns.requires_grad
    torch.testing.assert_close(columns, expected_columns, rtol=1e-10, atol=1e-12)
    for name, parameter in model.named_parameters():
        if name in expected:
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12, msg=name)
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("optimal", [False, True], ids=["learned", "optimal"])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear-vae"])
def test_samples_worked_off_a_few_at_a_time_give_the_same_gradients(kind: str, at_once: int, optimal: bool) -> None:
    results = []
    for samples_at_once in (SAMPLES, at_once):
        model = random_model(kind)
        x, noise = batch(model)
        step = SingleStep(model, StepSettings(optimal=optimal, samples_at_once=samples_at_once))
        columns, optima = step._gradients(x, noise, BETA)
        results.append(
            [columns, *optima, *(value.grad for _, value in model.named_parameters() if value.requires_grad)]
        )
    for together, apart in zip(*results, strict=True):
        assert together is not None
        assert apart is not None
        torch.testing.assert_close(apart, together, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimal", [False, True], ids=["learned", "optimal"])
@pytest.mark.parametrize(("samples", "at_once"), [(None, 1), (SAMPLES, SAMPLES), (SAMPLES, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_each_replica_are_those_of_its_own_model(
    kind: str, samples: int | None, at_once: int, optimal: bool
) -> None:
    models = [random_model(kind, seed) for seed in range(3)]
    x, noise = batch(models[0], 3, samples=samples)
    settings = StepSettings(optimal=optimal, samples_at_once=at_once)
    step = ReplicatedStep(models, settings)
    columns, _ = step._gradients(x, noise, BETA)
    for replica, model in enumerate(models):
        own_noise = None if noise is None else noise[replica]
        expected, expected_columns = by_automatic_differentiation(model, x[replica], own_noise, settings)
        torch.testing.assert_close(columns[replica], expected_columns, rtol=1e-10, atol=1e-12)
        assert expected.keys() == step._trained.keys()
        for name, gradient in expected.items():
            found = step._parameters[name].grad
            assert found is not None, name
            torch.testing.assert_close(found[replica], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", ["vae-2", "linear-vae"])
def test_a_penalty_adds_its_own_gradient_for_one_model_and_for_each_replica(kind: str) -> None:
    selection = configure("vae-2", "regularize").constraint
    assert selection is not None
    settings = StepSettings(constraint=selection.build())
    models = [random_model(kind, seed) for seed in range(2)]
    x, noise = batch(models[0], 2)
    expected = [
        by_automatic_differentiation(model, x[replica], None if noise is None else noise[replica], settings)[0]
        for replica, model in enumerate(models)
    ]
    replicated = ReplicatedStep(models, settings)
    replicated._gradients(x, noise, BETA)
    SingleStep(models[0], settings)._gradients(x[0], None if noise is None else noise[0], BETA)
    weight = models[0].constrained_weight()
    single_gradient, gradients = models[0].get_parameter(weight).grad, replicated._parameters[weight].grad
    assert single_gradient is not None
    assert gradients is not None
    torch.testing.assert_close(single_gradient, expected[0][weight], rtol=1e-10, atol=1e-12)
    for replica in range(2):
        torch.testing.assert_close(gradients[replica], expected[replica][weight], rtol=1e-10, atol=1e-12)


def test_a_model_that_needs_samples_is_refused_without_noise() -> None:
    model = random_model("vae-1")
    with pytest.raises(ValueError, match="noise of shape"):
        SingleStep(model, StepSettings())._gradients(normal(1, BATCH, D), None, BETA)


@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, on whatever it finds on a machine
@pytest.mark.parametrize("replicas", [1, 2])
def test_compiled_functions_give_the_same_numbers(
    replicas: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kernels that were compiled for another vector width (ATEN_CPU_CAPABILITY) fail when torch finds them again.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def build(mode: str | None) -> Step:
        models = [build_model("vae-3", 5, seed=seed, latent_dim=2) for seed in range(replicas)]
        return build_step(models, StepSettings(compile_mode=mode), replicas)

    lead = (replicas,) if replicas > 1 else ()
    x, noise, beta = normal(0, *lead, 12, 5), normal(1, *lead, 12, 2), torch.ones(()).double()
    eager, compiled = build(None), build("default")
    for _ in range(3):
        torch.testing.assert_close(compiled(x, noise, beta), eager(x, noise, beta), rtol=1e-9, atol=1e-12)
    for path, tensor in eager.tensors().items():
        torch.testing.assert_close(compiled.tensors()[path], tensor, rtol=1e-9, atol=1e-12)
