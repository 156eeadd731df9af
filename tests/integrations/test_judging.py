from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.perturbed_linear import PerturbedLinear
from torch import Tensor

import elboverse
from elboverse.cli import cli
from elboverse.errors import DataError
from elboverse.runfile import Run
from elboverse.theory import importance

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


@pytest.fixture(scope="module", params=[(0.5, 1.0), (0.0, 1.5), (0.3, 1.3)], ids=str)
def perturbed(request: pytest.FixtureRequest) -> tuple[PerturbedLinear, Any, Any]:
    """A judgement of a model whose encoder is off by known amounts, the gap split too."""
    model = PerturbedLinear(
        EIGENVALUES, dimension=5, decoder_variance=0.5, shift=request.param[0], ratio=request.param[1]
    )
    x, _ = model.simulate(4000, seed=1)
    return model, elboverse.judge(*callables(model), x, points=1000, samples=300, seed=4, gaps=True), x


def test_the_gap_is_the_kl_divergence_from_the_posterior_within_two_standard_errors(perturbed: Any) -> None:
    model, report, x = perturbed
    weights = report.assessment.log_weights
    gap = (model.log_likelihood(x[: len(weights)])[:, None] - weights).mean(1)
    assert abs(gap.mean() - model.gap) <= 2 * gap.std(ddof=1) / np.sqrt(len(gap))


def test_the_effective_sample_size_is_that_of_the_closed_form_within_two_standard_errors(perturbed: Any) -> None:
    model, report, _ = perturbed
    weights = report.assessment.log_weights
    k = weights.shape[1]
    share = importance.mean_of(importance.effective_sample_size(weights) / k)
    # 1/Σ w̃² of k samples is off by O(1/k), so that k + 1 are compared with the limit at k → ∞ by half of them.
    half = importance.mean_of(importance.effective_sample_size(weights[:, : k // 2]) / (k // 2))
    limit = 2 * share.value - half.value
    assert abs(limit - 1 / (1 + model.weight_variance)) <= 2 * np.hypot(2 * share.standard_error, half.standard_error)
    assert report.result().data["effective_sample_size"] == pytest.approx(k * share.value)


def test_the_calibration_is_that_of_the_closed_form_within_two_standard_errors(perturbed: Any) -> None:
    model, report, _ = perturbed
    simulated = report.result().data["simulated"]
    expected = {"mean": -model.shift / np.sqrt(model.ratio), "square": (1 + model.shift**2) / model.ratio}
    for name, value in expected.items():
        found = np.array(simulated[f"calibration_{name}"])
        assert (np.abs(found - value) <= 2 * np.array(simulated[f"calibration_{name}_standard_error"])).all(), name


def test_all_of_the_gap_is_the_encoders_where_the_posterior_is_of_its_family(perturbed: Any) -> None:
    model, report, _ = perturbed
    gaps = report.result().data["gaps"]
    amortisation, approximation = gaps["amortisation"], gaps["approximation"]
    # The fit of each q* leaves a little: Adam's last steps still scatter.
    assert abs(amortisation["value"] - model.gap) <= 2 * amortisation["standard_error"] + 0.01
    assert abs(approximation["value"]) <= 2 * approximation["standard_error"] + 0.01


def test_bounds_bracket_the_exact_log_likelihood_of_simulated_points(perturbed: Any) -> None:
    _, report, _ = perturbed
    data = report.result().data
    bounds = [one["value"] for one in data["bounds"]]
    assert bounds == sorted(bounds)
    assert data["simulated"]["lower"]["value"] < data["simulated"]["upper"]["value"]


def test_the_bracket_holds_the_mean_of_the_exact_log_likelihood() -> None:
    model, report, x = judged(0.5, 1.0)
    simulated = report.result().data["simulated"]
    # E ln p(x) of the model's own points: minus the entropy of N(0, W Wᵀ + σ² I).
    eigenvalues = np.array([*EIGENVALUES, 0.5, 0.5, 0.5])
    exact = -0.5 * (5 * np.log(2 * np.pi * np.e) + np.log(eigenvalues).sum())
    lower, upper = simulated["lower"], simulated["upper"]
    assert lower["value"] - 2 * lower["standard_error"] <= exact <= upper["value"] + 2 * upper["standard_error"]
    best = report.result().data["bounds"][-1]["value"]
    assert best <= model.log_likelihood(x)[:500].mean() + 1e-6 + 2 * report.result().data["remaining_bias"]


def test_the_mutual_information_of_an_optimal_linear_vae_is_its_rate() -> None:
    _, report, _ = judged()
    information = report.result().data["mutual_information"]
    expected = 0.5 * np.log(EIGENVALUES / 0.5).sum()  # q̄ is the prior
    assert abs(information["value"] - expected) <= 2 * information["standard_error"] + 0.02


def test_bits_per_dimension_are_given_for_discrete_data_only() -> None:
    generator = torch.Generator().manual_seed(6)
    x = (torch.rand(200, 6, generator=generator) < 0.3).float()

    def encode(x: Tensor) -> Any:
        return torch.zeros(len(x), 1), torch.zeros(len(x), 1)

    def binary(z: Tensor) -> Any:
        return torch.distributions.Bernoulli(logits=torch.full((len(z), 6), float(np.log(0.3 / 0.7))))

    def gaussian(z: Tensor) -> Any:
        return torch.zeros(len(z), 6), torch.zeros(())

    found = elboverse.judge(encode, binary, x, samples=5).result()
    entropy = -(x * np.log(0.3) + (1 - x) * np.log(0.7)).sum(1).mean() / (6 * np.log(2))
    assert found.data["bits_per_dimension"] == pytest.approx(float(entropy), rel=1e-5)
    continuous = elboverse.judge(encode, gaussian, torch.randn(50, 6, generator=generator), samples=5).result()
    assert continuous.data["bits_per_dimension"] is None
    assert any("No bits per dimension" in note for note in continuous.notes)


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


def test_what_was_said_of_a_judged_model_is_said_again_by_evaluate(tmp_path: Path) -> None:
    _, report, _ = judged()
    file = report.save(tmp_path / "theirs")
    result = CliRunner().invoke(cli, ["evaluate", str(file), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["bounds"] == report.result().data["bounds"]
    again = Run.open(file).evaluate()
    assert str(again) == str(report)
    assert again.result().draw is not None


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


def test_a_callable_that_fails_is_named_with_the_line_of_its_own() -> None:
    def fails(_x: Tensor) -> Any:
        raise KeyError("weights")

    with pytest.raises(DataError, match=r"encode: raised KeyError: 'weights' \(test_judging\.py, line \d+\)"):
        elboverse.judge(fails, None, torch.zeros(5, 5))
    with pytest.raises(DataError, match=r"decode: raised RuntimeError: mat1 and mat2.*\(test_judging\.py"):
        elboverse.judge(lambda x: (x[:, :2], x[:, :2]), lambda z: z @ torch.zeros(3, 5), torch.zeros(5, 5))


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
    run = Run.open(tmp_path / "run")
    report = run.evaluate(samples=50, points=100)
    assert report.result().data["bounds"][-1]["value"] == pytest.approx(data["bounds"][-1]["value"], abs=1e-9)
    expected = data["bounds"][-1]["value"] - run.model().scaling.log_volume()
    assert data["data_units"]["bound"] == pytest.approx(expected)


def test_the_command_explains_a_loss_with_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 6)) * [3, 2, 1, 0.1, 0.1, 0.1])
    command = ["explain-loss", "mse-mean", "--latent-dim", "3", "--data", str(tmp_path / "x.npy")]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert "fixed at σ² = 3" in result.output
    assert "2 of 3 latents survive" in result.output
