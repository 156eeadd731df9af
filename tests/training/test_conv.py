"""The convolutional network: shapes, its place in every VAE type, and batch normalisation in steps and evaluations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.builders import MODELS, configure, normal
from support.recorded_training import train_to_the_end
from torch import nn

from elboverse import testing
from elboverse.builtin.networks.conv import ConvOptions, build
from elboverse.config import load
from elboverse.errors import ConfigError

WITH_NETWORK = tuple(name for name in MODELS if name != "linear-vae")
SMALL = {"name": "conv", "channels": [4, 6]}
SEED = 5


def images_of(tmp_path: Any, count: int = 60) -> dict[str, Any]:
    """Return the dataset of small random images, (2, 6, 5)."""
    np.save(tmp_path / "images.npy", normal(0, count, 2, 6, 5).numpy())
    return {"name": "array", "path": str(tmp_path / "images.npy")}


def config_of(tmp_path: Any, name: str = "vae-1", **settings: Any) -> Any:
    settings = {"network": SMALL, "epochs": 3, "batch_size": 10, "learning_rate": 1e-2} | settings
    return configure(name, dataset=images_of(tmp_path), **settings)


def test_the_default_is_the_network_of_the_paper() -> None:
    network = build(ConvOptions(), (3, 64, 64), 20)
    convolutions = [layer for layer in network.encoder.modules() if isinstance(layer, nn.Conv2d)]
    transposes = [layer for layer in network.decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 64, 128, 256, 512]
    assert [layer.out_channels for layer in transposes] == [256, 128, 64, 32, 32]
    assert {(*layer.kernel_size, *layer.stride) for layer in (*convolutions, *transposes)} == {(3, 3, 2, 2)}
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.encoder.modules()) == 5
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.decoder.modules()) == 5
    assert network.encoder_features == 512 * 2 * 2
    assert (network.output_activation(torch.tensor(100.0))).item() == 1.0


@pytest.mark.parametrize("shape", [(3, 64, 64), (28, 28), (1, 5, 9), (2, 1, 1), (1, 33, 2)])
@pytest.mark.parametrize("batch", [(2,), (3, 2)])
def test_images_of_any_size_come_back_at_their_size(shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    network = build(ConvOptions(channels=(3, 4, 5)), shape, 2)
    dimension = int(np.prod(shape))
    assert network.encoder(torch.rand(*batch, dimension)).shape == (*batch, network.encoder_features)
    features = network.decoder(torch.rand(*batch, 2))
    assert features.shape == (*batch, network.decoder_features)
    assert network.build_output()(features).shape == (*batch, dimension)


def test_the_output_layer_is_affine() -> None:
    network = build(ConvOptions(channels=(3,)), (4, 4), 2)
    output = network.build_output()
    one, other = torch.rand(2, 7, network.decoder_features)
    assert torch.allclose(output(0.5 * (one + other)), 0.5 * (output(one) + output(other)), atol=1e-5)


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_every_vae_type_keeps_its_contract_with_it(name: str) -> None:
    report = testing.check_model(name, data_shape=(2, 6, 5), network=SMALL)
    assert report.obstacle == ""


def test_the_constrained_weight_is_the_first_linear_layer_from_the_latents(tmp_path: Any) -> None:
    trained = train_to_the_end(config_of(tmp_path, "vae-2"))
    weight = trained.experiment.loop.state()["model/decoder.0.weight"][0]
    assert weight.shape == (6 * 2 * 2, 2)
    np.testing.assert_allclose(np.linalg.norm(weight, axis=0), 1.0, atol=1e-12)


def test_the_variance_of_vae_3_is_a_convolution_of_its_own_per_pixel() -> None:
    model = load({"model": {"name": "vae-3", "network": SMALL}, "dataset": {"name": "circle"}}).model.build((2, 6, 5))
    decoder = model.decode(torch.rand(4, 2))
    assert decoder.log_var.shape == (4, 60)
    assert decoder.log_var.std(0).min() > 0
    assert model.variance_parameters().heads == ("log_var_output.0.weight", "log_var_output.0.bias")


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_trainable_parameter_moves(tmp_path: Any, batch_norm: bool) -> None:
    network = SMALL | {"batch_norm": batch_norm}
    first = train_to_the_end(config_of(tmp_path, "vae-3", network=network, epochs=1))
    later = train_to_the_end(config_of(tmp_path, "vae-3", network=network, epochs=2))
    for name, _ in first.experiment.loop._step.model.named_parameters():
        before, after = (run.experiment.loop.state()[f"model/{name}"] for run in (first, later))
        assert np.abs(before - after).max() > 1e-4, name


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_replicas_are_the_single_runs_with_their_seeds(tmp_path: Any, name: str) -> None:
    together = train_to_the_end(config_of(tmp_path, name, seed=SEED, replicas=2))
    single = train_to_the_end(config_of(tmp_path, name, seed=SEED + 1))
    state, alone = together.experiment.loop.state(), single.experiment.loop.state()
    assert any("running_mean" in path for path in state)
    for path, tensor in alone.items():
        np.testing.assert_allclose(state[path][1], tensor[0], rtol=1e-6, atol=1e-8, err_msg=path)
    for ours, theirs in zip(together.evaluations("held_out"), single.evaluations("held_out"), strict=True):
        np.testing.assert_allclose(ours.scalars["elbo"][1], theirs.scalars["elbo"][0], rtol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_move_the_running_averages_and_evaluations_leave_them(tmp_path: Any, replicas: int) -> None:
    trained = train_to_the_end(config_of(tmp_path, replicas=replicas, epochs=1))
    loop = trained.experiment.loop
    before = loop.state()
    loop._evaluate()
    after = loop.state()
    averages = [path for path in after if "running" in path]
    assert averages
    for path in averages:
        assert np.array_equal(before[path], after[path]), path
        assert not np.array_equal(after[path], np.full_like(after[path], float(path.endswith("var")))), path


def test_an_evaluation_does_not_depend_on_which_points_go_together(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_to_the_end(config_of(tmp_path, epochs=1))
    loop = trained.experiment.loop
    evaluator = loop._observers[0]
    whole = evaluator.evaluate(loop._step, 0, 0).per_latent["mean_variance"]
    monkeypatch.setattr(evaluator, "_at_once", lambda _: 7)
    np.testing.assert_allclose(evaluator.evaluate(loop._step, 0, 0).per_latent["mean_variance"], whole, rtol=1e-10)


def test_training_mode_is_on_during_steps_and_after_evaluations(tmp_path: Any) -> None:
    trained = train_to_the_end(config_of(tmp_path, epochs=1))
    assert all(module.training for module in trained.experiment.loop._step.model.modules())


def test_points_that_are_no_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"got conv, but the points have the shape \(5,\)"):
        build(ConvOptions(), (5,), 2)


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="channels: empty"):
        build(ConvOptions(channels=()), (4, 4), 2)


def test_a_batch_of_one_pixel_is_refused_in_training_and_fine_in_evaluation() -> None:
    network = build(ConvOptions(channels=(3,)), (1, 1, 1), 2)
    with pytest.raises(ConfigError, match=r"training\.batch_size: got 1"):
        network.encoder(torch.rand(1, 1))
    assert network.encoder.eval()(torch.rand(1, 1)).shape == (1, 3)


def test_without_batch_normalisation_nothing_is_normalised() -> None:
    network = build(ConvOptions(channels=(3,), batch_norm=False), (4, 4), 2)
    assert not any(
        isinstance(layer, nn.BatchNorm2d) for layer in (*network.encoder.modules(), *network.decoder.modules())
    )
