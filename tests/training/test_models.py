from __future__ import annotations

from typing import Any

import pytest
import torch
from support.builders import MODELS, VARIANTS, build_model, configure, normal, randomise
from torch import nn
from torch.nn.functional import linear

from elboverse.contracts import Constrainable, Model, SamplingFree, VarianceParameters
from elboverse.errors import ConfigError
from elboverse.running.assembly import build_experiment
from elboverse.theory.elbo import batch_terms, point_terms
from elboverse.training.step import SingleStep, StepSettings

NETWORKS = {
    "affine": "affine",
    "one hidden layer": {"name": "mlp", "hidden": [8]},
    "two": {"name": "mlp", "hidden": [8, 6]},
}
WITH_NETWORK = tuple(name for name in MODELS if name != "linear-vae")
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name: str) -> None:
    model = build_model(name, 5)
    assert isinstance(model, nn.Module)
    assert isinstance(model, Model)
    assert isinstance(model, Constrainable)
    assert isinstance(model, SamplingFree) == (name == "linear-vae")
    names = dict(model.named_parameters())
    variances = model.variance_parameters()
    assert set(variances.closed_form + variances.heads) <= set(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vae-0", VarianceParameters()),
        ("vae-1", VarianceParameters(decoder="decoder_log_var")),
        ("vae-2", VarianceParameters(decoder="decoder_log_var", prior="prior_log_var")),
        ("vae-3", VarianceParameters(heads=("log_var_output.weight", "log_var_output.bias"))),
        ("linear-vae", VarianceParameters(decoder="decoder_log_var", heads=("encoder_log_var",))),
    ],
)
def test_every_model_names_the_parameters_that_are_variances(name: str, expected: VarianceParameters) -> None:
    assert build_model(name, 5).variance_parameters() == expected


@networks
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)], ids=str)
def test_gaussians_have_the_shapes_of_the_contract(name: str, network: Any, batch: tuple[int, ...]) -> None:
    model = build_model(name, 5, latent_dim=3, network=network)
    q = model.encode(normal(0, *batch, 5))
    p = model.decode(q.mean)
    prior = model.prior()
    assert q.mean.shape == (*batch, 3)
    assert torch.broadcast_shapes(q.log_var.shape, q.mean.shape) == q.mean.shape
    assert p.mean.shape == (*batch, 5)
    assert p.log_var.shape == ((*batch, 5) if name == "vae-3" else ())
    assert prior.mean.shape == prior.log_var.shape == (3,)
    assert not prior.mean.any()


@pytest.mark.parametrize("name", MODELS)
def test_points_of_any_shape_are_vectors_to_a_model(name: str) -> None:
    torch.manual_seed(0)
    model = configure(name).model.build((2, 3))
    assert model.decode(model.encode(torch.zeros(4, 6)).mean).mean.shape == (4, 6)


@pytest.mark.parametrize("name", ["vae-1", "vae-2", "linear-vae"])
def test_learned_decoder_variance_starts_as_configured(name: str) -> None:
    model = build_model(name, 5, options={"initial_decoder_log_var": -1.5})
    assert model.get_parameter(model.variance_parameters().decoder).item() == -1.5
    assert model.decode(normal(0, 4, 2)).log_var.item() == -1.5


def test_fixed_decoder_variance_is_as_configured_and_no_parameter() -> None:
    model = build_model("vae-0", 5, options={"decoder_log_var": -1.5})
    assert model.decode(normal(0, 4, 2)).log_var.item() == -1.5
    assert not [name for name, _ in model.named_parameters() if "log_var" in name]
    assert build_model("vae-0", 5).decode(normal(0, 4, 2)).log_var.item() == 0.0


def test_decoder_variance_of_vae_3_starts_around_what_is_configured_and_depends_on_the_latents() -> None:
    low, high = (build_model("vae-3", 5, options={"initial_decoder_log_var": value}) for value in (-6.0, -1.0))
    z = normal(0, 50, 2)
    difference = high.decode(z).log_var - low.decode(z).log_var
    torch.testing.assert_close(difference, torch.full_like(difference, 5.0))
    assert abs(low.decode(z).log_var.mean().item() + 6.0) < 0.5
    assert (low.decode(z).log_var.std(0) > 1e-3).all()


def test_prior_variance_of_vae_2_starts_as_configured() -> None:
    model = build_model("vae-2", 5, options={"initial_prior_log_var": 0.75})
    assert model.prior().log_var.tolist() == [0.75, 0.75]
    assert isinstance(model.prior_log_var, nn.Parameter)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vae-2"])
def test_prior_of_the_others_is_standard_normal_and_no_parameter(name: str) -> None:
    model = build_model(name, 5)
    assert not model.prior().log_var.any()
    assert not [parameter for parameter, _ in model.named_parameters() if "prior" in parameter]


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_encoder_variance_starts_near_what_is_configured(name: str) -> None:
    model = build_model(name, 5, options={"initial_encoder_log_var": -2.5})
    assert model.encoder_head.bias[2:].tolist() == [-2.5, -2.5]
    assert abs(model.encode(normal(0, 200, 5)).log_var.mean().item() + 2.5) < 0.5


def test_encoder_variance_of_the_linear_vae_is_as_configured_for_every_point() -> None:
    model = build_model("linear-vae", 5, options={"initial_encoder_log_var": -2.5})
    assert model.encode(normal(0, 4, 5)).log_var.tolist() == [-2.5, -2.5]


@networks
@pytest.mark.parametrize("name", WITH_NETWORK)
def test_encoder_heads_are_linear_with_a_free_bias(name: str, network: Any) -> None:
    model, x = build_model(name, 5, network=network), normal(0, 20, 5)
    randomise(model, 1)
    q = model.encode(x)
    weight, bias = model.encoder_head.weight, model.encoder_head.bias
    mean, log_var = linear(model.encoder(x), weight, bias).split(2, dim=-1)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.log_var, log_var)
    with torch.no_grad():
        bias += 10.0
    torch.testing.assert_close(model.encode(x).log_var, log_var + 10.0)
    with torch.no_grad():
        bias -= 30.0
    torch.testing.assert_close(model.encode(x).log_var, log_var - 20.0)


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_affine_network_makes_means_affine(name: str) -> None:
    model = build_model(name, 5, network="affine")
    x, y, z, w = normal(0, 4, 5), normal(1, 4, 5), normal(2, 4, 2), normal(3, 4, 2)
    torch.testing.assert_close(2 * model.encode((x + y) / 2).mean, model.encode(x).mean + model.encode(y).mean)
    torch.testing.assert_close(2 * model.decode((z + w) / 2).mean, model.decode(z).mean + model.decode(w).mean)


@pytest.mark.parametrize(
    ("activation", "function"),
    [("identity", lambda a: a), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)],
    ids=["identity", "sigmoid", "tanh"],
)
@pytest.mark.parametrize("network", ["affine", "mlp"])
def test_output_activation_acts_on_the_decoder_mean_alone(network: str, activation: str, function: Any) -> None:
    plain, model = (
        build_model("vae-3", 5, network={"name": network, "output_activation": name})
        for name in ("identity", activation)
    )
    z = normal(0, 4, 2)
    torch.testing.assert_close(model.decode(z).mean, function(plain.decode(z).mean))
    torch.testing.assert_close(model.decode(z).log_var, plain.decode(z).log_var)


def test_decoder_mirrors_the_encoder_unless_given() -> None:
    def widths(**network: Any) -> list[tuple[int, int]]:
        model = build_model("vae-1", 5, network={"name": "mlp", "hidden": [8, 6]} | network)
        return [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]

    assert sorted(widths()) == sorted([(5, 8), (8, 6), (6, 4), (2, 6), (6, 8), (8, 5)])
    assert sorted(widths(decoder_hidden=[7])) == sorted([(5, 8), (8, 6), (6, 4), (2, 7), (7, 5)])


@networks
@pytest.mark.parametrize("name", MODELS)
def test_constrained_weight_is_the_first_linear_map_from_the_latents(name: str, network: Any) -> None:
    model = build_model(name, 5, latent_dim=3, network=network)
    weight = model.get_parameter(model.constrained_weight())
    assert weight.shape[1] == 3
    with torch.no_grad():
        weight[:, 1] = 0.0
    z = normal(0, 4, 3)
    moved = z + torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(model.decode(z).mean, model.decode(moved).mean, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "constraint", "variances"), VARIANTS)
def test_every_trainable_parameter_moves_in_training(name: str, constraint: str | None, variances: str) -> None:
    config = configure(name, constraint, latent_dim=3, variances=variances)
    model = build_model(name, 5, latent_dim=3)
    chosen = config.constraint.build() if config.constraint else None
    start = {parameter: value.detach().clone() for parameter, value in model.named_parameters()}
    step = SingleStep(model, StepSettings(constraint=chosen, optimal=variances == "optimal"))
    for number in range(5):
        noise = None if isinstance(model, SamplingFree) else normal(100 + number, 20, 3)
        step(normal(number, 20, 5), noise, torch.ones(()).double())
    assert set(start) == {parameter for parameter, _ in model.named_parameters()}
    for parameter, value in model.named_parameters():
        assert (value != start[parameter]).all(), parameter


@networks
def test_vae_1_mapped_to_vae_2_has_the_same_elbo_at_every_point(network: Any) -> None:
    first = build_model("vae-1", 5, latent_dim=3, network=network)
    second = build_model("vae-2", 5, latent_dim=3, network=network)
    randomise(first, 1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        weight = second.get_parameter(second.constrained_weight())
        alpha = weight.norm(dim=0)
        weight /= alpha
        second.encoder_head.weight[:3] *= alpha[:, None]
        second.encoder_head.bias[:3] *= alpha
        second.encoder_head.bias[3:] += 2 * alpha.log()
        second.prior_log_var.copy_(2 * alpha.log())
    x, noise = normal(2, 20, 5), normal(3, 20, 3)
    one, two = point_terms(first, x, noise), point_terms(second, x, noise)
    assert (alpha - 1).abs().min() > 1e-2
    torch.testing.assert_close(one.elbo, two.elbo, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(one.kl, two.kl, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        batch_terms(first, x, noise).entropy_sum, batch_terms(second, x, noise).entropy_sum, rtol=1e-10, atol=1e-10
    )


def test_vae_2_without_a_constraint_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"constraint: missing; vae-2"):
        configure("vae-1", options={"name": "vae-2"})


def test_vae_3_with_closed_form_variances_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.variances: .*vae-3 has no closed-form"):
        configure("vae-3", variances="optimal")


@pytest.mark.parametrize(
    ("model", "decoder", "prior"),
    [
        ("vae-0", False, False),
        ("vae-1", True, False),
        ("vae-2", True, True),
        ("vae-3", True, False),
        ("linear-vae", True, False),
    ],
)
def test_a_run_records_which_variances_its_model_learns(model: str, decoder: bool, prior: bool) -> None:
    document = build_experiment(configure(model)).documents["model"]
    assert (document["learns_decoder_variance"], document["learns_prior_variance"]) == (decoder, prior)
