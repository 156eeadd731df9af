"""The analyses that rebuild the trained model: their numbers against the exact optimum, their sentences, figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import configure, normal
from support.pca_optimum import maximum_log_likelihood, noise_variance, principal_components
from support.synthetic_runs import write_run
from support.trained_runs import write_optimal_run, write_trained_run

from elboverse.analysis import style
from elboverse.analysis.trained_reading import rebuilt
from elboverse.builtin.analyses.collapse import analysis as collapse
from elboverse.builtin.analyses.collapse import criteria as collapse_criteria
from elboverse.builtin.analyses.latents import analysis as latents
from elboverse.builtin.analyses.latents import numbers as latents_numbers
from elboverse.builtin.analyses.samples import analysis as samples
from elboverse.builtin.analyses.spectrum import analysis as spectrum
from elboverse.builtin.analyses.stationarity import analysis as stationarity
from elboverse.builtin.analyses.stationarity import gradient_norm
from elboverse.builtin.analyses.variance import analysis as variance
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.runfile import Run
from elboverse.theory import identities
from elboverse.theory.linear_optimum import linear_optimum

ANALYSES: dict[str, tuple[Any, Any]] = {
    "latents": (latents.LatentsOptions, latents.build),
    "samples": (samples.SamplesOptions, samples.build),
    "spectrum": (spectrum.SpectrumOptions, spectrum.build),
    "variance": (variance.VarianceOptions, variance.build),
}


def analyse(name: str, path: Path, **options: Any) -> Result:
    config, build = ANALYSES[name]
    return build(config(**options), Run.open(path))


def notes(result: Result) -> str:
    return "\n".join(result.notes)


# Variance


def test_the_spread_of_the_elbo_is_that_of_theory_and_the_entropy_sum_has_none(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", points=4000, latent_dim=2)
    result = analyse("variance", path, sizes=(20, 200), draws=400)
    optimum = maximum_log_likelihood(pca, (0, 1))
    variance_of_a_point = 0.5 * 5  # ½[H + Σ_{j>H}(λ_j/σ²)²], and the noise of this data has λ_j = σ²
    for size in result.data["sizes"]:
        elbo, entropy_sum = size["elbo"], size["entropy_sum"]
        expected = np.sqrt(variance_of_a_point / size["points"])
        assert elbo["standard_deviation"] == pytest.approx(expected, rel=0.12)
        assert elbo["mean"] == pytest.approx(optimum, abs=4 * expected / np.sqrt(400))
        assert entropy_sum["mean"] == pytest.approx(optimum, abs=1e-9)
        assert entropy_sum["standard_deviation"] == 0
        controlled = size["control_variates"]
        assert controlled["mean"] == pytest.approx(optimum, abs=1e-6)
        assert controlled["standard_deviation"] < 1e-6  # a = 1: the ELBO of a point is H_sum + R_dec + Σ R_h
    np.testing.assert_allclose(result.data["control_variates"]["coefficients"], 1, atol=1e-6)
    assert "does not scatter at all" in notes(result)
    assert "a stationary point" in notes(result)
    assert "holds out no points" in notes(result)


def test_control_variates_are_not_offered_away_from_stationary_points_and_the_note_names_the_residuals(
    tmp_path: Path,
) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"))
    result = analyse("variance", path, sizes=(10,), draws=2)
    assert result.data["sizes"][0]["control_variates"] is None
    assert "offered at stationary points only, and this is none (R_dec = " in notes(result)


def test_the_terms_of_an_estimate_add_up_to_it(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-3"))
    result = analyse("variance", path, sizes=(7, 100), draws=3)
    for size in result.data["sizes"]:
        each = {key: np.array(size[key]["estimates"]) for key in size if key not in {"points", "control_variates"}}
        assert each["elbo"] == pytest.approx(each["minus_kl"] + each["log_likelihood"], abs=1e-9)
        assert each["entropy_sum"] == pytest.approx(
            each["encoder_minus_prior"] + each["minus_decoder_entropy"], abs=1e-9
        )
        assert size["elbo"]["mean"] == pytest.approx(each["elbo"].mean())
        assert size["elbo"]["standard_deviation"] == pytest.approx(each["elbo"].std(ddof=1))
        assert len(set(each["elbo"])) == 3
    first = result.rows[0]
    assert first[:3] == (7, "ELBO", result.data["sizes"][0]["elbo"]["mean"])
    assert first[-1] == pytest.approx(first[3] / first[6])


def test_sizes_beyond_the_held_out_points_are_left_out_and_named(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1"))
    result = analyse("variance", path, draws=2)
    assert [size["points"] for size in result.data["sizes"]] == [10, 100]
    assert "Left out: 1000 and 10000 points; there are 120 held-out points." in notes(result)
    with pytest.raises(AnalysisError, match="got 120 held-out points, fewer than any of the sizes 500"):
        analyse("variance", path, sizes=(500,))


# Samples


def test_data_and_samples_of_the_optimum_have_the_moments_of_its_density(tmp_path: Path) -> None:
    path, _ = write_optimal_run(tmp_path / "run.h5", points=20_000, latent_dim=2)
    result = analyse("samples", path, count=20_000)
    trained = rebuilt(Run.open(path), 0).trained
    points = trained.points("train")
    for d, dimension in enumerate(result.data["dimensions"]):
        assert dimension["data"]["mean"] == pytest.approx(points[:, d].mean())
        assert dimension["data"]["standard_deviation"] == pytest.approx(points[:, d].std())
        deviation = dimension["data"]["standard_deviation"]
        assert dimension["samples"]["mean"] == pytest.approx(points[:, d].mean(), abs=4 * deviation / np.sqrt(20_000))
        assert dimension["samples"]["standard_deviation"] == pytest.approx(deviation, rel=0.03)
        residual = points - trained.decoder_moments(trained.posterior_moments(points)[0])[0]
        assert dimension["root_mean_squared_error"] == pytest.approx(np.sqrt(np.square(residual[:, d]).mean()))
    assert "explain 9" in notes(result)


def test_samples_include_the_noise_of_the_decoder(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", points=20_000, latent_dim=1, active=(0,))
    dimensions = analyse("samples", path, count=20_000).data["dimensions"]
    total = sum(dimension["samples"]["standard_deviation"] ** 2 for dimension in dimensions)
    assert total == pytest.approx(float(pca.eigenvalues.sum()), rel=0.03)
    without_noise = float(pca.eigenvalues[0]) - noise_variance(pca, (0,))
    assert without_noise < 0.9 * total


def test_samples_are_in_data_units(tmp_path: Path) -> None:
    dataset = {"name": "circle", "points": 100, "scaling": "min-max"}
    result = analyse("samples", write_trained_run(tmp_path / "run.h5", configure("vae-1", dataset=dataset)))
    assert result.data["dimensions"][0]["name"] == "x"
    assert result.data["dimensions"][0]["data"]["standard_deviation"] == pytest.approx(np.sqrt(0.5), abs=0.15)
    assert result.data["count"] == 50


@pytest.mark.parametrize(
    ("shape", "panels"), [((1,), 1), ((2,), 3), ((3,), 3), ((5,), 5 + 3), ((20,), 12), ((4, 4), 3), ((3, 4, 5), 3)]
)
def test_samples_are_drawn_as_their_shape_asks(tmp_path: Path, shape: tuple[int, ...], panels: int) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(30, *shape)))
    dataset = {"name": "array", "path": str(tmp_path / "points.npy")}
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1", dataset=dataset, batch_size=10))
    result = analyse("samples", path)
    assert result.draw is not None
    figure = result.draw()
    assert len(figure.axes) == panels
    assert len(style.render(figure, ".png")) > 5000
    assert len(result.rows) == min(12, int(np.prod(shape)))


# Latents


def test_the_latents_of_the_optimum_have_the_moments_of_theory(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", latent_dim=3, active=(0, 1))
    result = analyse("latents", path)
    sigma_squared = float(pca.eigenvalues[2:].mean())
    table = {latent["latent"]: latent for latent in result.data["latents"]}
    for latent in (0, 1):
        ratio = sigma_squared / float(pca.eigenvalues[latent])
        assert table[latent]["mean_variance"] == pytest.approx(ratio, rel=1e-9)
        assert table[latent]["mean_square"] == pytest.approx(1 - ratio, rel=1e-9)
        assert table[latent]["mean"] == pytest.approx(0, abs=1e-9)
        assert table[latent]["entropy_drop"] == pytest.approx(-0.5 * np.log(ratio), rel=1e-9)
    assert table[2]["mean_variance"] == pytest.approx(1)
    assert [latent["collapsed"] for latent in result.data["latents"]] == [False, False, True]
    assert [row[0] for row in result.rows] == [0, 1, 2]
    assert "2 of 3 latents active" in notes(result)


def test_moments_of_latents_are_in_units_of_the_prior() -> None:
    means, variances = np.array([[2.0, 1.0], [-4.0, 1.0]]), np.array([[1.0, 4.0], [3.0, 4.0]])
    encoded = latents_numbers.Encoded(means, variances, np.array([4.0, 4.0]), drop_threshold=0.1)
    assert encoded.mean_square == pytest.approx([2.5, 0.25])
    assert encoded.mean_variance == pytest.approx([0.5, 1.0])
    assert encoded.entropy_drop == pytest.approx([0.5 * np.log(4) - 0.25 * np.log(3), 0])
    assert encoded.collapsed.tolist() == [False, True]


def test_the_aggregate_density_of_the_optimum_is_that_of_the_prior() -> None:
    generator = np.random.default_rng(0)
    variances = np.array([0.3, 0.6])
    means = generator.normal(size=(5000, 2)) * np.sqrt(1 - variances)
    encoded = latents_numbers.Encoded(means, np.tile(variances, (5000, 1)), np.ones(2), 0.4)
    axis, density = latents_numbers.aggregate_density(encoded, 4.0)
    expected = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2)) / (2 * np.pi)
    assert density == pytest.approx(expected, abs=0.02)
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=0.01)


def test_the_aggregate_density_is_that_of_the_scaled_latents() -> None:
    encoded = latents_numbers.Encoded(np.array([[2.0, -3.0]]), np.array([[0.4, 0.9]]), np.array([4.0, 9.0]), 0.4)
    axis, density = latents_numbers.aggregate_density(encoded, 4.0)
    second, first = np.unravel_index(density.argmax(), density.shape)
    assert (axis[first], axis[second]) == pytest.approx((1, -1), abs=0.05)


# Spectrum


@pytest.mark.parametrize("active", [(0,), (0, 1), (0, 1, 2)])
def test_the_linear_optimum_is_that_of_theory(active: tuple[int, ...]) -> None:
    pca = principal_components(normal(0, 50, 5) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.4], dtype=torch.float64))
    found = linear_optimum(pca.eigenvalues.numpy(), len(active))
    assert found is not None
    assert found.active == len(active)
    assert found.decoder_variance == pytest.approx(noise_variance(pca, active))
    assert found.elbo == pytest.approx(maximum_log_likelihood(pca, active))
    assert found.entropy_sum == pytest.approx(found.elbo)
    assert found.encoder_variances == pytest.approx(found.decoder_variance / pca.eigenvalues[list(active)].numpy())


def test_latents_beyond_the_last_larger_eigenvalue_collapse_at_the_linear_optimum() -> None:
    found = linear_optimum(np.array([4.0, 1.0, 1.0, 1.0]), 3)
    assert found is not None
    assert found.active == 1
    assert found.encoder_variances == pytest.approx([0.25, 1, 1])
    full = linear_optimum(np.array([4.0, 2.0, 1.0]), 8)
    assert full is not None
    assert (full.active, full.decoder_variance) == (2, pytest.approx(1.0))


@pytest.mark.parametrize("decoder_variance", [0.3, 1.0, 5.0])
def test_the_linear_optimum_of_a_fixed_variance_is_that_of_theory(decoder_variance: float) -> None:
    eigenvalues = np.array([4.0, 2.0, 0.7, 0.2])
    found = linear_optimum(eigenvalues, 3, decoder_variance=decoder_variance)
    assert found is not None
    active = eigenvalues[:3][eigenvalues[:3] > decoder_variance]
    rest = eigenvalues[len(active) :]
    expected = -0.5 * (
        4 * np.log(2 * np.pi * decoder_variance)
        + (1 + np.log(active / decoder_variance)).sum()
        + (rest / decoder_variance).sum()
    )
    assert found.elbo == pytest.approx(expected)
    assert found.elbo - found.entropy_sum == pytest.approx(0.5 * (1 - rest / decoder_variance).sum())


def test_the_linear_optimum_of_a_beta_elbo_is_that_of_theory() -> None:
    eigenvalues, beta = np.array([4.0, 2.0, 0.7, 0.2, 0.1]), 1.5
    found = linear_optimum(eigenvalues, 2, beta)
    assert found is not None
    assert found.active == 2
    assert found.decoder_variance == pytest.approx(1.0 / (5 - 2 * beta))
    assert found.encoder_variances == pytest.approx(beta * found.decoder_variance / eigenvalues[:2])
    assert found.entropy_sum == pytest.approx(found.elbo)


def test_there_is_no_linear_optimum_without_a_rest() -> None:
    assert linear_optimum(np.array([4.0, 2.0, 0.0]), 2) is None
    assert linear_optimum(np.zeros(3), 2) is None


@pytest.mark.parametrize("model", ["linear-vae", "vae-1"])
def test_a_model_at_the_exact_optimum_has_no_distance_from_it(tmp_path: Path, model: str) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", latent_dim=2, model=model)
    result = analyse("spectrum", path)
    assert result.data["is_exact"] is True
    assert result.data["eigenvalues"] == pytest.approx(pca.eigenvalues.tolist())
    assert result.data["active_predicted"] == 2
    sampled = 0 if model == "linear-vae" else 4 * result.data["elbo_standard_error"]
    for name, _trained, _optimum, difference in result.rows:
        assert difference == pytest.approx(0, abs=max(1e-9, sampled if name == "ELBO" else 0))


def test_a_saddle_has_the_distance_of_theory(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", latent_dim=2, active=(0,))
    result = analyse("spectrum", path)
    elbo = result.data["quantities"][0]
    assert elbo["trained"] == pytest.approx(maximum_log_likelihood(pca, (0,)))
    assert elbo["optimum"] == pytest.approx(maximum_log_likelihood(pca, (0, 1)))
    assert f"is {elbo['optimum'] - elbo['trained']:.4g} nats below that of the exact optimum" in notes(result)


@pytest.mark.parametrize(
    ("model", "settings", "exact"),
    [
        ("linear-vae", {"constraint": "regularize"}, False),
        ("vae-2", {"network": {"name": "affine"}}, True),
        ("vae-3", {"network": {"name": "affine"}}, False),
        ("vae-0", {"network": {"name": "affine"}}, True),
        ("vae-1", {}, False),
    ],
)
def test_the_optimum_is_only_a_guide_where_the_model_is_not_linear(
    tmp_path: Path, model: str, settings: dict[str, Any], exact: bool
) -> None:
    result = analyse("spectrum", write_trained_run(tmp_path / "run.h5", configure(model, **settings)))
    assert result.data["is_exact"] is exact
    assert ("guide" in notes(result)) is not exact


# Collapse


def test_all_criteria_follow_from_each_other_at_the_exact_optimum(tmp_path: Path) -> None:
    path, pca = write_optimal_run(tmp_path / "run.h5", points=4000, latent_dim=3, active=(0, 1))
    options = collapse.CollapseOptions(from_model=True)
    result = collapse.build(options, Run.open(path))
    criteria = {criterion["criterion"]: criterion for criterion in result.data["criteria"]}
    assert list(criteria) == [
        *("encoder_entropy", "entropy_drop", "kl", "active_units", "epsilon_delta", "mutual_information")
    ]
    assert {tuple(criterion["active"]) for criterion in criteria.values()} == {(2,)}
    ratio = pca.eigenvalues[:2].numpy() / float(pca.eigenvalues[2:].mean())
    information = np.array(criteria["mutual_information"]["values"][0])
    error = np.array(criteria["mutual_information"]["standard_errors"][0])
    assert np.all(np.abs(information[:2] - 0.5 * np.log(ratio)) < 4 * error[:2] + 0.05)
    assert information[2] == pytest.approx(0, abs=1e-9)
    assert criteria["kl"]["values"][0][:2] == pytest.approx(0.5 * np.log(ratio))
    assert criteria["epsilon_delta"]["values"][0][2] == 1
    assert result.further[0].rows[-1][-1] == "3 of 3"


def test_epsilon_delta_collapse_is_a_share_of_points(tmp_path: Path) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1", replicas=2))
    trained = [rebuilt(Run.open(path), replica).trained for replica in (0, 1)]
    encoded = [model.posterior_moments(model.points("held_out")) for model in trained]
    kl = np.stack([identities.gaussian_kl(means**2 + variances, np.log(variances)) for means, variances in encoded])
    epsilon = float(np.quantile(kl, 0.7))
    options = collapse.CollapseOptions(from_model=True, epsilon=epsilon, delta=0.25)
    found = collapse.build(options, Run.open(path)).data["criteria"][4]
    share = (kl < epsilon).mean(1)
    assert found["values"] == pytest.approx(share)
    assert found["active"] == (share < 0.75).sum(1).tolist()
    assert found["sweep"][3]["active"] == ((kl < 2 * epsilon).mean(1) < 0.75).sum(1).tolist()


def test_the_mutual_information_of_separate_points_is_the_logarithm_of_their_number() -> None:
    means = 100.0 * np.arange(8.0)[:, None]
    noise = np.random.default_rng(0).normal(size=(8, 1))
    prior_variance = np.array([np.square(means).mean()])
    information, error = collapse_criteria.mutual_information(means, np.ones((8, 1)), prior_variance, noise)
    assert abs(information[0] - np.log(8)) < 5 * error[0]
    assert error[0] < 1


# Stationarity


def test_the_gradient_norm_is_zero_at_the_exact_optimum_and_not_before(tmp_path: Path) -> None:
    optimum, _ = write_optimal_run(tmp_path / "optimum.h5")
    start = write_trained_run(tmp_path / "start.h5", configure("linear-vae", replicas=2))
    options = stationarity.StationarityOptions(gradient=True)
    (at_optimum,) = stationarity.build(options, Run.open(optimum)).data["gradient"]
    assert at_optimum["norm"] < 1e-10
    assert at_optimum["noise"] > 0.01
    result = stationarity.build(options, Run.open(start))
    norms = [replica["norm"] for replica in result.data["gradient"]]
    assert min(norms) > 0.5
    (table,) = [table for table in result.further if "radient" in table.title]
    assert table.rows[0][:2] == ("all", max(norms))
    assert f"replica {int(np.argmax(norms))}, the largest" in table.title
    assert f"norm of {max(norms):.4g}" in notes(result)
    squares = sum(parameter["norm"] ** 2 for parameter in result.data["gradient"][0]["parameters"])
    assert norms[0] ** 2 == pytest.approx(squares)


def test_the_noise_of_a_gradient_is_the_norm_of_a_mean_of_noise() -> None:
    batches = np.random.default_rng(0).normal(size=(10, 2000))
    assert gradient_norm._noise(batches) == pytest.approx(np.sqrt(2000 / 10), rel=0.05)
    assert np.linalg.norm(batches.mean(0)) == pytest.approx(gradient_norm._noise(batches), rel=0.05)


def test_without_the_gradient_stationarity_needs_no_model(tmp_path: Path) -> None:
    result = stationarity.build(stationarity.StationarityOptions(), Run.open(write_run(tmp_path / "run.h5")))
    assert result.data["gradient"] is None
    assert not [table for table in result.further if "radient" in table.title]


# What all of them share


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_a_run_without_a_model_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnalysisError, match="the trained model cannot be rebuilt from its config"):
        analyse(name, write_run(tmp_path / "run.h5"))


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_results_are_the_same_each_time_and_fit_into_json(tmp_path: Path, name: str) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure("vae-1", replicas=2))
    first, second = (analyse(name, path, replica=1) for _ in range(2))
    text = json.dumps(first.data, allow_nan=False)
    assert text == json.dumps(second.data)
    assert first.data["replica"] == 1
    assert "replica 1" in first.title
    assert text != json.dumps(analyse(name, path, replica=0).data)
    assert first.draw is not None
    assert second.draw is not None
    assert style.render(first.draw(), ".svg") == style.render(second.draw(), ".svg")


@pytest.mark.parametrize(("model", "latent_dim"), [("vae-0", 1), ("vae-2", 2), ("vae-3", 3), ("linear-vae", 30)])
@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_every_model_is_drawn(tmp_path: Path, name: str, model: str, latent_dim: int) -> None:
    path = write_trained_run(tmp_path / "run.h5", configure(model, latent_dim=latent_dim))
    result = analyse(name, path)
    assert all(len(row) == len(result.columns) for row in result.rows)
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000
