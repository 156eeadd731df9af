from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from perturbed_linear import PerturbedLinear
from torch import Tensor

import elboverse
from elboverse.cli import cli
from elboverse.errors import DataError
from elboverse.runfile import Run

EIGENVALUES = np.array([4.0, 2.0])


def callables(model: PerturbedLinear) -> tuple[Any, Any]:
    weight = torch.from_numpy(model.weight)
    log_var = torch.from_numpy(np.log(model.encoder_variance))
    decoder_log_var = torch.tensor(np.log(model.decoder_variance))

    def encode(x: Tensor) -> Any:
        mean = torch.from_numpy(model.encoder_mean(x.numpy()))
        return mean, log_var.expand_as(mean)

    return encode, lambda z: (z @ weight.mT, decoder_log_var)


def judged(shift: float = 0.0, ratio: float = 1.0, count: int = 4000) -> tuple[PerturbedLinear, Any, Any]:
    model = PerturbedLinear(EIGENVALUES, dimension=5, decoder_variance=0.5, shift=shift, ratio=ratio)
    x, _ = model.simulate(count, seed=1)
    report = elboverse.judge(*callables(model), x, points=500, samples=200)
    return model, report, x


def test_every_residual_of_a_linear_vae_at_its_optimum_is_zero_within_two_standard_errors() -> None:
    _, report, _ = judged()
    for residual in report.result().data["residuals"]:
        assert abs(residual["value"]) < 2 * residual["standard_error"], residual


@pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.0), (0.5, 1.0), (0.3, 1.5)])
def test_gap_effective_samples_and_calibration_are_those_of_the_closed_form(shift: float, ratio: float) -> None:
    model, report, x = judged(shift, ratio)
    data = report.result().data
    exact = model.log_likelihood(x)[:500]
    weights = report.assessment.log_weights
    gap = exact[:, None] - weights
    error = gap.mean(1).std(ddof=1) / np.sqrt(len(gap))
    assert abs(gap.mean() - model.gap) <= 2 * error + 1e-9
    share = 1 / (1 + model.weight_variance)
    assert data["effective_sample_size"] / 200 == pytest.approx(share, rel=0.02)
    simulated = data["simulated"]
    for h in range(2):
        mean, square = simulated["calibration_mean"][h], simulated["calibration_square"][h]
        assert abs(mean + shift / np.sqrt(ratio)) < 3 * simulated["calibration_mean_standard_error"][h]
        assert abs(square - (1 + shift**2) / ratio) < 3 * simulated["calibration_square_standard_error"][h]


def test_bounds_bracket_the_exact_log_likelihood_of_simulated_points() -> None:
    _, report, _ = judged(0.3, 1.5)
    data = report.result().data
    bounds = [one["value"] for one in data["bounds"]]
    assert bounds == sorted(bounds)
    assert data["simulated"]["lower"]["value"] < data["simulated"]["upper"]["value"]


def test_the_wording_never_calls_a_bound_the_log_likelihood() -> None:
    _, report, _ = judged()
    text = str(report)
    assert "importance-weighted bound, k = 200" in text
    assert "the log-likelihood" not in text


def test_a_judgement_is_saved_as_a_run_that_analyses_read(tmp_path: Path) -> None:
    _, report, _ = judged()
    file = report.save(tmp_path / "theirs")
    assert Run.open(file).evaluation_points("held_out") == 4000
    for analysis in ("stationarity", "collapse"):
        result = CliRunner().invoke(cli, ["analyze", analysis, str(file), "--json"], catch_exceptions=False)
        assert result.exit_code == 0
        assert json.loads(result.stdout)["analysis"] == analysis


def test_a_decoder_that_gives_a_mean_alone_gets_its_mean_squared_error_as_variance_and_is_told_so() -> None:
    model = PerturbedLinear(EIGENVALUES, dimension=5, decoder_variance=0.5)
    encode, decode = callables(model)
    x, _ = model.simulate(4000, seed=1)
    report = elboverse.judge(encode, lambda z: decode(z)[0], x, points=50, samples=10)
    assert np.exp(report.assessment.table.profiled_log_var) == pytest.approx(0.5, rel=0.05)
    assert report.result().data["residuals"][0]["verdict"] == "not judged"
    assert any("gives a mean alone" in note for note in report.result().notes)


def test_a_model_without_a_likelihood_is_judged_by_its_encoder_per_channel() -> None:
    mean = 5 * torch.randn(200, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    report = elboverse.judge(
        lambda x: (mean[: len(x)], torch.full_like(mean[: len(x)], -4.0)), None, torch.zeros(200, 1, 8, 8)
    )
    data = report.result().data
    assert [residual["name"] for residual in data["residuals"]] == ["R_0", "R_1", "R_2", "R_3"]
    for latent, residual in zip(data["latents"], data["residuals"], strict=True):
        assert residual["value"] == pytest.approx(0.5 * 9 * (1 - latent["second_moment"]), rel=1e-4)
    assert any("scaling factor" in note for note in report.result().notes)


def test_a_mean_of_the_wrong_shape_says_which_argument_and_what_to_return() -> None:
    with pytest.raises(DataError, match=r"decode: got a mean of the shape \(40, 3\).*expected \(40, 5\)"):
        elboverse.judge(lambda x: (x[:, :2], x[:, :2] * 0), lambda z: torch.zeros(len(z), 3), torch.zeros(5, 5))


def test_points_that_are_not_finite_are_told() -> None:
    with pytest.raises(DataError, match=r"data: 1 of 3 points are not finite"):
        elboverse.judge(lambda x: x, None, np.array([[1.0], [np.nan], [2.0]]))


SCRIPT = """
import torch
class Model:
    def encode(self, x): return x[:, :2] * 0.5, torch.full((len(x), 2), -1.0)
    def decode(self, z): return torch.cat([z, z], 1), torch.zeros(())
vae = Model()
"""


def test_the_command_judges_an_attribute_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(SCRIPT)
    np.save(tmp_path / "held_out.npy", np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    out = tmp_path / "theirs"
    command = ["judge", f"{tmp_path}/my_models.py:vae", "--data", str(tmp_path / "held_out.npy"), "--out", str(out)]
    result = CliRunner().invoke(cli, [*command, "--samples", "20", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["points"] == 50
    assert (out / "run.h5").is_file()


def test_evaluating_a_trained_linear_vae_brackets_what_is_exact(tmp_path: Path) -> None:
    config = {
        "model": {"name": "linear-vae", "latent_dim": 2},
        "dataset": {"name": "pca", "points": 600, "held_out": 0.5},
        "training": {"epochs": 5, "batch_size": 100, "device": "cpu"},
    }
    elboverse.train(config, out=tmp_path / "run")
    command = ["evaluate", str(tmp_path / "run"), "--samples", "50", "--points", "100", "--json"]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["simulated"]["lower"]["value"] <= data["simulated"]["upper"]["value"]
    assert data["bounds"][0]["value"] <= data["bounds"][-1]["value"]


def test_the_command_explains_a_loss_with_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 6)) * [3, 2, 1, 0.1, 0.1, 0.1])
    command = ["explain-loss", "mse-mean", "--latent-dim", "3", "--data", str(tmp_path / "x.npy")]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert "fixed at σ² = 3" in result.output
    assert "2 of 3 latents survive" in result.output
