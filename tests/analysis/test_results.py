"""The trained model in use: rows in, latents, reconstructions, samples and scores out, in the units of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from click.testing import CliRunner

import elboverse
from elboverse.cli import cli
from elboverse.errors import AnalysisError, DataError
from elboverse.runfile import Run

TRAINING = {"epochs": 40, "batch_size": 64, "learning_rate": 0.01, "variance_learning_rate": 0.01, "dtype": "float64"}


def table(rows: int = 100, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(rows, 2))
    values = latent @ rng.normal(size=(2, 4)) * [1, 10, 100, 1] + [0, 5, 500, -3] + 0.1 * rng.normal(size=(rows, 4))
    return pd.DataFrame(values, columns=["a", "b", "c", "d"], index=[f"row-{row}" for row in range(rows)])


def trained_on(data: Any, out: Path, model: str = "linear-vae", **training: Any) -> Run:
    config = {
        "model": {"name": model, "latent_dim": 2},
        "dataset": {"data": data, "scaling": "standard", "held_out": 0.2},
        "training": TRAINING | training,
    }
    return elboverse.train(config, out=out)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained_on(table(), tmp_path_factory.mktemp("results") / "run")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained_on(table(), tmp_path_factory.mktemp("results") / "run", model="vae-3")


def test_a_table_comes_back_as_a_table_with_its_index(run: Run) -> None:
    data = table()
    latents = run.model().encode(data)
    assert list(latents.columns) == ["z0", "z1"]
    pd.testing.assert_index_equal(latents.index, data.index)
    assert isinstance(run.model().encode(pl.from_pandas(data)), pl.DataFrame)
    np.testing.assert_array_equal(run.model().encode(data.to_numpy()), latents.to_numpy())


def test_columns_are_found_by_name_and_others_may_be_there(run: Run) -> None:
    data = table()
    mixed = data[["d", "b", "a", "c"]].assign(species="setosa")
    np.testing.assert_array_equal(run.model().encode(mixed).to_numpy(), run.model().encode(data).to_numpy())


def test_a_missing_column_is_named(run: Run) -> None:
    with pytest.raises(DataError, match="column 'c' is missing"):
        run.model().encode(table().drop(columns="c"))


def test_a_value_that_is_not_finite_is_named_by_row_and_column(run: Run) -> None:
    data = table().to_numpy().copy()
    data[7, 2] = np.inf
    with pytest.raises(DataError, match=r"row 7 .* column 2"):
        run.model().encode(data)


def test_new_points_need_no_original_data_and_are_scaled_as_those_of_training_were(run: Run) -> None:
    model, fresh = elboverse.load(run.path.parent), table(30, seed=1)
    scaling = run.data["scaling"]
    by_hand = (fresh.to_numpy() - scaling["offset"]) / scaling["scale"]
    expected = model.model.encode(torch.from_numpy(by_hand)).mean.detach().numpy()
    np.testing.assert_allclose(model.encode(fresh).to_numpy(), expected, rtol=1e-10)


def test_reconstructions_decode_the_latents_in_data_units(run: Run) -> None:
    model, data = run.model(), table()
    reconstructed = model.reconstruct(data)
    pd.testing.assert_frame_equal(reconstructed, model.decode(model.encode(data)))
    assert (reconstructed.std() < data.std()).all()
    assert (np.square(reconstructed - data).mean() < data.var()).all()


def test_the_run_s_own_data_come_in_their_original_order(run: Run) -> None:
    data = table()
    own = run.model(data=data).encode()
    pd.testing.assert_frame_equal(own, run.model().encode(data))


def test_rows_shuffled_by_the_split_are_put_back(tmp_path: Path) -> None:
    data = table()
    np.save(tmp_path / "x.npy", data.to_numpy())
    config = {
        "model": {"name": "linear-vae", "latent_dim": 2},
        "dataset": {"name": "array", "path": str(tmp_path / "x.npy"), "held_out": 0.3},
        "training": TRAINING | {"epochs": 1},
    }
    model = elboverse.train(config, out=tmp_path / "run").model()
    np.testing.assert_allclose(model.own_points().flat, data.to_numpy(), rtol=1e-12)
    assert (model.own_splits() == "held_out").sum() == 30


def test_data_in_memory_are_asked_for_again(run: Run) -> None:
    with pytest.raises(AnalysisError, match=r"run.model\(data=X\)"):
        elboverse.load(run.path).encode()


def test_other_data_than_those_of_training_are_refused(run: Run) -> None:
    with pytest.raises(AnalysisError, match="other data"):
        elboverse.load(run.path, data=table(seed=3)).encode()


def test_the_linear_model_scores_the_exact_evidence_at_its_optimum(tmp_path: Path) -> None:
    data = table()
    run = trained_on(data, tmp_path / "run", epochs=3000, batch_size=80)
    model = run.model()
    decoder = model.decode(np.concatenate([np.zeros((1, 2)), np.eye(2)])).reshape(3, 4)
    weight, mean = (decoder[1:] - decoder[0]).T, decoder[0]
    log_var = float(model.model.decoder_log_variance().detach())  # type: ignore[attr-defined]
    noise = np.exp(log_var) * np.square(run.data["scaling"]["scale"])
    covariance = weight @ weight.T + np.diag(noise)
    residual = data.to_numpy() - mean
    log_likelihood = -0.5 * (
        np.einsum("nd,de,ne->n", residual, np.linalg.inv(covariance), residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    np.testing.assert_allclose(model.score(data)["elbo"], log_likelihood, atol=2e-3)


def test_importance_weighting_tightens_the_bound(sampled: Run) -> None:
    scores = sampled.model().score(table(), importance_samples=256)
    assert scores["importance_weighted"].mean() > scores["elbo"].mean()
    assert (scores["effective_samples"] <= 256 + 1e-6).all()
    one = np.mean(
        [sampled.model().score(table(), importance_samples=1, seed=s)["importance_weighted"] for s in range(64)]
    )
    spread = scores["elbo"].std()
    assert one == pytest.approx(scores["elbo"].mean(), abs=0.1 * spread + 0.1)


def test_what_a_row_scores_does_not_depend_on_the_rows_beside_it(sampled: Run) -> None:
    model, data = sampled.model(), table()
    alone = model.score(data.iloc[[5]])["elbo"].iloc[0]
    assert alone == pytest.approx(model.score(data)["elbo"].iloc[5], rel=1e-9)


def test_densities_in_data_units_follow_from_those_of_scaled_points(run: Run) -> None:
    model = run.model()
    shift = np.log(run.data["scaling"]["scale"]).sum()
    difference = model.score(table(), scaled_units=True)["elbo"] - model.score(table())["elbo"]
    np.testing.assert_allclose(difference, shift, rtol=1e-9)


def test_samples_have_the_moments_of_the_model(run: Run) -> None:
    model, data = run.model(), table()
    drawn = model.sample(20_000, seed=4)
    np.testing.assert_array_equal(drawn, model.sample(20_000, seed=4))
    assert np.abs((drawn.mean(0) - data.mean()) / data.std()).max() < 0.3
    assert model.sample(0).shape == (0, 4)


def test_the_point_that_is_moved_far_away_is_the_first_anomaly(run: Run) -> None:
    data = table()
    data.iloc[42, 1] += 500.0
    found = run.model().anomalies(data, 3)
    assert found.index[0] == "row-42"
    assert found["column"].iloc[0] == "b"
    assert found["value"].iloc[0] == data.iloc[42, 1]


@pytest.mark.parametrize(
    "data",
    [
        table().to_numpy(),
        table().to_numpy().tolist(),
        torch.from_numpy(table().to_numpy().copy()),
        pl.from_pandas(table()),
        table(),
    ],
    ids=["array", "list", "tensor", "polars", "pandas"],
)
def test_every_container_trains_the_same_model(run: Run, data: Any, tmp_path: Path) -> None:
    again = trained_on(data, tmp_path / "run")
    assert again.data["fingerprint"] == run.data["fingerprint"]
    np.testing.assert_array_equal(again.series("elbo"), run.series("elbo"))


def test_a_column_of_text_is_named_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'species'"):
        elboverse.train({"dataset": table().assign(species="a")}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_values_are_named(tmp_path: Path) -> None:
    data = table()
    data.iloc[3, 1] = np.nan
    with pytest.raises(DataError, match=r"row row-3, column 'b'"):
        elboverse.train({"dataset": data}, out=tmp_path / "run")


def test_a_run_in_memory_is_resumed_with_its_data(tmp_path: Path) -> None:
    trained_on(table(), tmp_path / "run")
    longer = elboverse.resume(tmp_path / "run", overrides=["training.epochs=60"], data=table())
    at_once = trained_on(table(), tmp_path / "once", epochs=60)
    np.testing.assert_array_equal(longer.series("elbo"), at_once.series("elbo"))


@pytest.fixture(scope="module")
def of_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    table().to_csv(folder / "data.csv", index=False)
    elboverse.train(
        {
            "model": {"name": "vae-1", "latent_dim": 2, "network": {"name": "mlp", "hidden": [8]}},
            "dataset": {"name": "array", "path": str(folder / "data.csv"), "held_out": 0.2, "scaling": "standard"},
            "training": TRAINING,
        },
        out=folder / "run",
    )
    return folder


@pytest.mark.parametrize(
    ("command", "columns"),
    [
        ("encode", ["row", "split", "z0", "z1"]),
        ("reconstruct", ["row", "split", "a", "b", "c", "d"]),
        ("score", ["row", "split", "elbo", "log_likelihood", "kl", "entropy_sum"]),
    ],
)
def test_a_command_writes_a_row_for_each_row(of_file: Path, tmp_path: Path, command: str, columns: list[str]) -> None:
    out = tmp_path / "out.csv"
    result = CliRunner().invoke(cli, [command, str(of_file / "run"), "-o", str(out)])
    assert result.exit_code == 0, result.output
    written = pd.read_csv(out)
    assert list(written.columns) == columns
    assert list(written["row"]) == list(range(100))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy"])
def test_the_file_s_suffix_says_how_it_is_written(of_file: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"latents{suffix}"
    arguments = ["encode", str(of_file / "run"), str(of_file / "data.csv"), "-o", str(out)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    columns = ["z0", "z1"]
    if suffix == ".npy":
        read = np.load(out)
    elif suffix == ".npz":
        archive = np.load(out)
        read = np.stack([archive[name] for name in columns], axis=1)
    else:
        read = (pd.read_csv if suffix == ".csv" else pd.read_parquet)(out)[columns].to_numpy()
    expected = elboverse.load(of_file / "run").encode(table()).to_numpy()
    np.testing.assert_allclose(read, expected, rtol=1e-12)


def test_an_existing_file_is_left_as_it_is(of_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    result = CliRunner().invoke(cli, ["sample", str(of_file / "run"), "-o", str(out)])
    assert "already exists" in str(result.exception)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.xlsx", "'.xlsx'"), ("no/such/folder/out.csv", "does not exist; make it first"), (".", "expected one of")],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(
    of_file: Path, tmp_path: Path, name: str, message: str
) -> None:
    result = CliRunner().invoke(cli, ["sample", str(of_file / "run"), "-o", str(tmp_path / name)])
    assert message in str(result.exception)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_exported_programs_give_the_same_numbers_for_any_number_of_rows(run: Run, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["export", str(run.path), "--format", "torch-export", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    model, points = run.model(), table().to_numpy().copy()
    encoder, decoder = (torch.export.load(tmp_path / f"{name}.pt2").module() for name in ("encoder", "decoder"))
    for rows in (1, 7):
        mean, variance = encoder(torch.from_numpy(points[:rows]))
        expected, spread = model.encode(points[:rows], variances=True)
        np.testing.assert_allclose(mean.detach().numpy(), expected, rtol=1e-9)
        np.testing.assert_allclose(variance.detach().numpy(), spread, rtol=1e-9)
        np.testing.assert_allclose(decoder(mean).detach().numpy(), model.decode(expected), rtol=1e-9)
