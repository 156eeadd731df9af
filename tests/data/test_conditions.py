"""Conditions of each point: from the columns of a table through training to the use of the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from support.family_runs import command
from support.reliable import assert_same_run, train_in_pieces
from torch import Tensor, nn

import elboverse
from elboverse.analysis.exporting import export_programs
from elboverse.analysis.trained import TrainedModel, load
from elboverse.components.hookspecs import Component
from elboverse.components.registry import discover
from elboverse.config import ExperimentConfig, from_table
from elboverse.contracts import Condition, Data, Scaling, VarianceParameters
from elboverse.data.conditions import with_conditions
from elboverse.errors import ConfigError, DataError, PluginError
from elboverse.running.runs import train
from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian

REGISTRY = discover({"ELBOVERSE_LOAD_PLUGINS": ""})
LIKELIHOOD = {"name": "gaussian", "initial_log_var": 0.0}
SHIFT = np.array([4.0, -4.0, 0.0])
"""Of the points of batch b from those of batch a."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 400 rows with a name, a batch and an age each; its name in `x` says which row it was."""
    random = np.random.default_rng(0)
    batch, age = random.choice(["a", "b"], 400), random.normal(size=400).round(3)
    values = random.normal(size=(400, 1)) @ np.ones((1, 3)) + (batch == "b")[:, None] * SHIFT
    values += 0.5 * age[:, None] + 0.5 * random.normal(size=(400, 3))
    frame = pd.DataFrame(values, columns=["x", "y", "w"]).assign(batch=batch, age=age)
    frame.insert(0, "cell", [f"cell {row}" for row in range(400)])
    path = tmp_path_factory.mktemp("conditions") / "cells.csv"
    frame.to_csv(path, index=False)
    return path


def config(table: Path, **model: Any) -> ExperimentConfig:
    settings: dict[str, Any] = {
        "model": {"name": "vae", "latent_dim": 1, "network": {"name": "mlp", "hidden": [8]}, "likelihood": LIKELIHOOD}
        | model,
        "dataset": {"name": "array", "path": str(table), "conditions": ["batch", "age"], "scaling": "none"},
        "training": {
            "epochs": 150,
            "batch_size": 20,
            "learning_rate": 1e-2,
            "variance_learning_rate": 1e-2,
            "evaluate_every": 75,
            "device": "cpu",
            "replica_group": 1,
        },
    }
    return from_table(settings, REGISTRY)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(table), out=tmp_path_factory.mktemp("run")).path.parent


@pytest.fixture(scope="module")
def model(run: Path) -> TrainedModel:
    return load(run)


def test_held_out_points_keep_their_conditions(table: Path) -> None:
    data: Data = config(table).dataset.build(0)
    assert data.names == ("x", "y", "w")
    assert data.condition_names == ("batch=a", "batch=b", "age")
    frame = pd.read_csv(table)
    joined = with_conditions(data)
    rows = torch.cat((joined.train, joined.held_out)).numpy()
    assert data.order is not None
    columns = frame.assign(a=frame.batch == "a", b=frame.batch == "b")[["x", "y", "w", "a", "b", "age"]]
    expected = columns.to_numpy(dtype=np.float64)
    np.testing.assert_allclose(rows, expected[data.order])


def test_columns_of_a_plain_array_are_conditions_by_their_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(40, 4))
    np.save(tmp_path / "values.npy", values)
    chosen = {"name": "array", "path": str(tmp_path / "values.npy"), "conditions": [2], "scaling": "none"}
    data: Data = from_table({"dataset": chosen}, REGISTRY).dataset.build(0)
    assert data.dimension == 3
    assert data.conditions is not None
    assert data.order is not None
    np.testing.assert_array_equal(data.conditions[:, 0].numpy(), values[data.order, 2])


def test_bytes_stay_bytes_beside_levels() -> None:
    pixels = torch.arange(12, dtype=torch.uint8).reshape(4, 3)
    data = Data(
        train=pixels[:3],
        held_out=pixels[3:],
        shape=(3,),
        scaling=Scaling("min-max", torch.zeros(3), torch.full((3,), 10.0)),
        fingerprint="",
        conditions=torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64),
        condition_columns=(Condition("kind", ("a", "b")),),
    )
    joined = with_conditions(data)
    assert joined.train.dtype == torch.uint8
    torch.testing.assert_close(joined.scaled(joined.train.float())[1], torch.tensor([3.0, 4.0, 5.0, 0.0, 1.0]))
    torch.testing.assert_close(joined.scaling.apply(joined.train[1].float()), torch.tensor([0.3, 0.4, 0.5, 0.0, 1.0]))
    halves = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    numbers = with_conditions(attrs.evolve(data, conditions=halves))
    torch.testing.assert_close(numbers.train[1], torch.tensor([0.3, 0.4, 0.5, 0.0, 0.5]))


def test_the_identity_holds_for_conditional_models(table: Path) -> None:
    chosen = config(table).model
    vae = chosen.build_given(3, (3,)).double()
    x = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = families.family_terms(vae, x, torch.randn(4, 6, 1, generator=torch.Generator().manual_seed(1)).double())
    residuals = terms.decoder_residual + terms.prior_residual.sum()
    assert float((terms.elbo - terms.entropy_sum - residuals).detach()) == pytest.approx(0, abs=1e-9)


def test_samples_have_the_conditions_that_are_asked_for(model: TrainedModel) -> None:
    means = [model.sample(4000, seed=1, conditions={"batch": batch, "age": 0.0}).mean(0) for batch in "ab"]
    np.testing.assert_allclose(means[1] - means[0], SHIFT, atol=0.5)


def test_samples_have_the_conditions_of_training_points_by_default(model: TrainedModel) -> None:
    drawn = model.sample(4000, seed=1)
    np.testing.assert_allclose(drawn.mean(0), model.own_points().flat.mean(0), atol=0.3)
    np.testing.assert_allclose(drawn.std(0), model.own_points().flat.std(0), rtol=0.2)


def test_latents_need_not_say_what_the_conditions_say(model: TrainedModel) -> None:
    frame = pd.read_csv(model.config.dataset.options.path)
    latents = model.encode(frame).to_numpy()[:, 0]
    assert abs(np.corrcoef(latents, frame.batch == "b")[0, 1]) < 0.2


def test_conditions_come_with_a_table_or_beside_an_array(model: TrainedModel) -> None:
    frame = pd.read_csv(model.config.dataset.options.path)
    one = frame[frame.batch == "a"]
    of_table = model.encode(one).to_numpy()
    of_array = model.encode(one[["x", "y", "w"]].to_numpy(), conditions={"batch": "a", "age": one.age.to_numpy()})
    np.testing.assert_allclose(of_table, of_array, rtol=1e-6)
    own = np.asarray(model.encode())[(frame.batch == "a").to_numpy()]
    np.testing.assert_allclose(of_table, own, rtol=1e-5, atol=1e-6)


def test_an_unknown_level_is_named_with_those_that_are_known(model: TrainedModel) -> None:
    frame = pd.read_csv(model.config.dataset.options.path)
    frame.loc[7, "batch"] = "z"
    with pytest.raises(DataError, match=r"condition 'batch', row 7 .*got 'z'; expected one of a, b"):
        model.encode(frame)


def test_missing_conditions_are_asked_for(model: TrainedModel) -> None:
    with pytest.raises(DataError, match="without conditions"):
        model.encode(np.zeros((2, 3)))
    with pytest.raises(DataError, match="'age' is missing"):
        model.sample(3, conditions={"batch": "a"})


def test_the_commands_take_conditions(run: Path, table: Path, tmp_path: Path) -> None:
    command("encode", str(run), str(table), "--out", str(tmp_path / "latents.csv"), "--quiet")
    command("score", str(run), str(table), "--out", str(tmp_path / "scores.csv"), "--quiet")
    asked = ("--condition", "batch=b", "--condition", "age=0.5")
    command("sample", str(run), "--count", "5", *asked, "--out", str(tmp_path / "new.csv"), "--quiet")
    assert len(pd.read_csv(tmp_path / "latents.csv")) == len(pd.read_csv(tmp_path / "scores.csv")) == 400
    assert list(pd.read_csv(tmp_path / "new.csv").columns) == ["x", "y", "w"]
    for colour in ("batch", "age"):
        command("analyze", "latents", str(run), "--colour", colour, "--figure", str(tmp_path / f"{colour}.svg"))


def test_a_conditional_run_resumes_bitwise(table: Path, tmp_path: Path) -> None:
    chosen = config(table)
    short = attrs.evolve(chosen, training=attrs.evolve(chosen.training, epochs=4, evaluate_every=2, frames=2))
    pieces = train_in_pieces(short, tmp_path / "pieces", [13])
    assert_same_run(pieces, train(short, out=tmp_path / "whole").path)


def test_a_model_without_conditions_is_refused_them(table: Path, tmp_path: Path) -> None:
    unconditional = {
        "model": {"name": "vae-1"},
        "dataset": {"name": "array", "path": str(table), "conditions": ["batch"]},
        "training": {"epochs": 1, "device": "cpu"},
    }
    with pytest.raises(ConfigError, match=r"dataset\.conditions: .*'vae-1' takes no\s+conditions"):
        train(from_table(unconditional, REGISTRY), out=tmp_path)


class Stranger(nn.Module):
    def __init__(self, dimension: int, conditions: int) -> None:
        super().__init__()
        self.condition_dimension = conditions
        self.encoder = nn.Linear(dimension + conditions, 2)
        self.decoder = nn.Linear(1 + conditions, dimension)
        self.log_var = nn.Parameter(torch.zeros(()))
        self.register_buffer("zero", torch.zeros(1))

    def encode(self, x: Tensor, c: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*self.encoder(torch.cat((x, c), -1)).chunk(2, -1))

    def decode(self, z: Tensor, c: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.decoder(torch.cat((z, c), -1)), self.log_var)

    def prior(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.get_buffer("zero"), self.get_buffer("zero"))

    def variance_parameters(self) -> VarianceParameters:
        return VarianceParameters(heads=("log_var",))


@attrs.frozen
class NoOptions:
    """None."""


def strangers(build: Any, table: Path) -> ExperimentConfig:
    chosen = config(table)
    component = Component("stranger", NoOptions, build, "a conditional VAE")
    registered = attrs.evolve(chosen.model.registered, component=component)
    return attrs.evolve(
        chosen,
        model=attrs.evolve(chosen.model, registered=registered, options=NoOptions()),
        training=attrs.evolve(chosen.training, epochs=2, evaluate_every=1, replicas=2, replica_group=2),
    )


def test_a_strangers_conditional_model_trains_with_replicas(table: Path, tmp_path: Path) -> None:
    def build(options: NoOptions, data_shape: tuple[int, ...], conditions: int) -> Stranger:
        return Stranger(data_shape[0], conditions)

    run = train(strangers(build, table), out=tmp_path)
    assert run.series("elbo").shape == (20, 2)
    assert np.isfinite(run.series("elbo")).all()


def test_a_model_that_forgets_its_conditions_is_told_how_many_there_are(table: Path, tmp_path: Path) -> None:
    def build(options: NoOptions, data_shape: tuple[int, ...], conditions: int) -> Stranger:
        return Stranger(data_shape[0], 1)

    with pytest.raises(PluginError, match="condition_dimension is 1; expected 3"):
        train(strangers(build, table), out=tmp_path)


def test_conditions_of_a_table_in_memory_are_columns_by_name(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table).drop(columns="cell")
    settings = {
        "model": {"name": "vae", "latent_dim": 1, "network": {"name": "mlp", "hidden": [4]}, "likelihood": LIKELIHOOD},
        "dataset": {"data": frame, "conditions": ["batch", "age"]},
        "training": {"epochs": 2, "batch_size": 40, "device": "cpu"},
    }
    run = elboverse.train(settings, out=tmp_path / "run")
    assert run.data["names"] == ["x", "y", "w"]
    model = run.model()
    np.testing.assert_allclose(model.encode(), model.encode(frame), rtol=1e-5, atol=1e-6)
    again = load(tmp_path / "run", data=frame)
    assert again.sample(3, conditions={"batch": "b", "age": 0}).shape == (3, 3)
    with pytest.raises(DataError, match="the condition 'batsch' is missing"):
        elboverse.train({**settings, "dataset": {"data": frame, "conditions": ["batsch"]}}, out=tmp_path / "other")


def test_an_exported_encoder_takes_conditions_as_its_second_argument(model: TrainedModel, tmp_path: Path) -> None:
    encoder, _ = export_programs(model, tmp_path)
    frame = pd.read_csv(model.config.dataset.options.path)
    x, c = (
        torch.tensor(frame.assign(a=frame.batch == "a", b=frame.batch == "b")[columns].to_numpy(dtype=np.float32))
        for columns in (["x", "y", "w"], ["a", "b", "age"])
    )
    mean, _ = torch.export.load(encoder).module()(x, c)
    np.testing.assert_allclose(mean.detach().numpy(), model.encode(frame).to_numpy(), rtol=1e-4, atol=1e-5)
