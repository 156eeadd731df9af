"""The built-in analyses: their numbers, sentences and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from support.synthetic_runs import DIMENSION, LOG_LIKELIHOOD, write_run

from elboverse.analysis import style
from elboverse.analysis.curves import envelope, moving_average, robust_limits
from elboverse.builtin.analyses import ANALYSES as COMPONENTS
from elboverse.builtin.analyses.bounds import analysis as bounds
from elboverse.builtin.analyses.bounds import figure as bounds_figure
from elboverse.builtin.analyses.collapse import analysis as collapse
from elboverse.builtin.analyses.stationarity import analysis as stationarity
from elboverse.builtin.analyses.stationarity.numbers import verdict
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.runfile import Run, RunWriter

ANALYSES = {
    "collapse": (collapse.CollapseOptions, collapse.build),
    "bounds": (bounds.BoundsOptions, bounds.build),
    "stationarity": (stationarity.StationarityOptions, stationarity.build),
}


def analyse(name: str, *paths: Path, **options: Any) -> Result:
    config, build = ANALYSES[name]
    runs = tuple(Run.open(path) for path in paths)
    return build(config(**options), runs if getattr(config, "several_runs", False) else runs[0])


def notes(result: Result) -> str:
    return "\n".join(result.notes)


# Curves


@given(hnp.arrays(np.float64, st.integers(1, 400), elements=st.floats(-1e6, 1e6) | st.just(np.nan)), st.integers(4, 60))
def test_an_envelope_keeps_the_ends_and_the_extremes_within_its_budget(values: np.ndarray, most: int) -> None:
    kept = envelope(values, most)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    if np.isfinite(values).any():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)


def test_an_envelope_shows_both_edges_of_a_noisy_band_everywhere() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    kept = envelope(values)
    for stretch in np.split(np.arange(100_000), 50):
        inside = values[kept[(kept >= stretch[0]) & (kept <= stretch[-1])]]
        assert inside.min() < -0.98
        assert inside.max() > 0.98


def test_a_moving_average_is_the_mean_over_the_steps_in_its_window() -> None:
    steps = np.array([0, 1, 2, 3, 10, 20, 21, 22, 40])
    values = np.random.default_rng(1).normal(size=(9, 2))
    averaged = moving_average(steps, values, window=4)
    for row, step in enumerate(steps):
        inside = (steps >= step - 2) & (steps < step + 2)
        np.testing.assert_allclose(averaged[row], values[inside].mean(0), atol=1e-12)
    np.testing.assert_allclose(moving_average(steps, values, window=1), values, atol=1e-12)


def test_robust_limits_leave_out_an_early_transient_and_keep_all_that_is_settled() -> None:
    steps = np.arange(1000)
    values = np.where(steps < 30, -1e6, np.sin(steps / 20))
    limits = robust_limits([(steps, values)], start=50)
    assert limits is not None
    assert -1.3 < limits[0] < -0.99
    assert 0.99 < limits[1] < 1.3


def test_robust_limits_of_a_constant_have_a_positive_height() -> None:
    for constant in (0.0, -3.0):
        limits = robust_limits([(np.arange(5), np.full(5, constant))], start=0)
        assert limits is not None
        assert limits[0] < constant < limits[1]


def test_robust_limits_need_a_finite_value() -> None:
    assert robust_limits([(np.arange(2), np.full(2, np.nan))], start=0) is None


# Bounds


def test_bounds_tabulates_milestones_from_the_first_step_to_the_last(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=400)
    run = Run.open(path)
    result = analyse("bounds", path)
    steps = [row[0] for row in result.rows]
    assert (steps[0], steps[-1], len(steps)) == (0, 399, 11)
    elbo, entropy_sum = (run.series(name, 0).astype(np.float64) for name in ("elbo", "entropy_sum"))
    final = elbo[-40:].mean()
    for step, epoch, *values, _mean, held_out, error, evaluated_at in result.rows:
        assert epoch == step / 25
        difference = 100 * (elbo[step] - entropy_sum[step]) / abs(final)
        assert values == pytest.approx([elbo[step], entropy_sum[step], difference], abs=5.1e-4)
        index = int(np.abs(run.evaluation_steps("held_out") - step).argmin())
        assert evaluated_at == run.evaluation_steps("held_out")[index]
        assert (held_out, error) == (run.evaluation("held_out", "elbo", 0)[index], pytest.approx(0.03))
    assert f"generating density: {LOG_LIKELIHOOD:.4f}" in notes(result)


def test_bounds_averages_over_its_window_and_a_tenth_of_a_short_run_by_default(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=400)
    gap = Run.open(path).series("gap", 0).astype(np.float64)
    assert analyse("bounds", path).data["window"] == 40
    assert analyse("bounds", write_run(tmp_path / "long.h5", steps=2000)).data["window"] == 100
    result = analyse("bounds", path, window=7)
    final = result.data["final"][0]
    elbo = Run.open(path).series("elbo", 0).astype(np.float64)[-7:].mean()
    assert final["elbo"] == pytest.approx(elbo)
    assert final["difference_percent"] == pytest.approx(100 * gap[-7:].mean() / abs(elbo), rel=1e-4)


def test_the_difference_is_relative_to_the_size_of_a_negative_elbo(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=1, elbo=-50.0)
    entropy_sum = float(Run.open(path).series("entropy_sum")[0, 0])
    assert analyse("bounds", path).data["final"][0]["difference_percent"] == pytest.approx(2 * (-50 - entropy_sum))


def test_bounds_of_replicas_are_medians_and_each_replica_has_its_final_values(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", replicas=5)
    result = analyse("bounds", path)
    elbo = Run.open(path).series("elbo").astype(np.float64)
    assert result.rows[-1][2] == pytest.approx(np.median(elbo[-1]))
    assert [final["elbo"] for final in result.data["final"]] == pytest.approx(list(elbo[-40:].mean(0)))
    assert "median of 5 replicas" in result.title


def test_the_relative_gap_is_the_quartiles_of_the_replicas_without_their_sign(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", replicas=4)
    run = Run.open(path)
    elbo, gap = (run.series(name).astype(np.float64)[-40:].mean(0) for name in ("elbo", "gap"))
    signed = 100 * gap / np.abs(elbo)
    found = analyse("bounds", path).data["relative_gap_percent"]
    expected = np.quantile(np.abs(signed), (0.25, 0.5, 0.75))
    assert [found[name] for name in ("lower_quartile", "median", "upper_quartile")] == pytest.approx(expected, rel=1e-4)


def test_bounds_without_held_out_points_says_so(tmp_path: Path) -> None:
    result = analyse("bounds", write_run(tmp_path / "run.h5", splits=("train",)))
    assert all(row[-3:] == (None, None, None) for row in result.rows)
    assert "No held-out evaluation is recorded." in result.notes
    assert result.data["held_out"] == []


def test_bounds_leaves_out_epochs_that_the_run_does_not_tell(tmp_path: Path) -> None:
    result = analyse("bounds", write_run(tmp_path / "run.h5", data={"train_points": None}))
    assert {row[1] for row in result.rows} == {None}
    assert result.draw is not None
    style.render(result.draw(), ".png")


# Stationarity


@pytest.mark.parametrize(
    ("value", "standard_error", "expected"),
    [
        (0.05, 0.02, "stationary"),
        (-0.05, 0.025, "stationary"),
        (0.05, 0.026, "undecided"),
        (-0.15, 0.025, "undecided"),
        (-0.15, 0.024, "not stationary"),
        (0.0, np.nan, "undecided"),
        (np.nan, 0.0, "undecided"),
    ],
)
def test_a_verdict_leaves_two_standard_errors_either_way(value: float, standard_error: float, expected: str) -> None:
    assert verdict(value, standard_error, tolerance=0.1) == expected


def test_stationarity_judges_each_quantity_within_its_own_tolerance(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=2000, latent_dim=3, active=1)
    run = Run.open(path)
    result = analyse("stationarity", path, tolerance=0.05)
    assert result.columns == (
        "quantity",
        "step 0",
        "step 500",
        "step 1,500",
        "step 2,000",
        "± SE",
        "tolerance",
        "verdict",
    )
    assert [row[0] for row in result.rows] == ["R_σ", "R_0", "R_1", "R_2", "gap"]
    tolerances = [0.05 * DIMENSION / 2, 0.025, 0.025, 0.025, 0.05 * (DIMENSION + 3) / 2]
    assert [row[-2] for row in result.rows] == pytest.approx(tolerances)
    last = [row[-4] for row in result.rows]
    assert last[0] == run.evaluation("train", "decoder_residual", 0)[-1]
    assert last[1:-1] == list(run.evaluation("train", "prior_residual", 0)[-1])
    assert last[-1] == pytest.approx(sum(last[:-1]), abs=1e-9)
    assert {row[-1] for row in result.rows} == {"stationary"}
    assert (result.data["verdict"], result.data["split"]) == ("stationary", "train")
    assert "cancel" in notes(result)
    assert "necessary" in notes(result)


def test_stationarity_of_an_untrained_model_is_denied(tmp_path: Path) -> None:
    result = analyse("stationarity", write_run(tmp_path / "run.h5", evaluate_until=0, evaluations=2))
    assert result.data["verdict"] == "not stationary"
    assert {row[-1] for row in result.rows} == {"not stationary"}
    assert "The only evaluation was made before training." in result.notes


def test_the_overall_verdict_is_the_worst(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=2000)
    result = analyse("stationarity", path, tolerance=0.0082)
    verdicts = {row[0]: row[-1] for row in result.rows}
    assert set(verdicts.values()) == {"stationary", "undecided"}
    assert result.data["verdict"] == "undecided"


def test_stationarity_goes_by_what_the_run_recorded_of_the_variance_whatever_the_model_is_called(
    tmp_path: Path,
) -> None:
    for model, learned in (("stranger", False), ("vae-0", True)):
        path = write_run(tmp_path / f"{model}.h5", model=model)
        with RunWriter.resume(path) as writer:
            writer.put_document("model", {"learns_decoder_variance": learned})
            writer.snapshot("finished", {}, 400)
        assert analyse("stationarity", path).data["decoder_variance_is_fixed"] is not learned


def test_stationarity_does_not_judge_a_fixed_decoder_variance(tmp_path: Path) -> None:
    result = analyse("stationarity", write_run(tmp_path / "run.h5", model="VAE_0", steps=2000))
    verdicts = {row[0]: row[-1] for row in result.rows}
    assert verdicts["R_σ"] == verdicts["gap"] == "not judged"
    assert verdicts["R_0"] == "stationary"
    assert "the theorem ELBO = entropy sum does not apply" in notes(result)
    assert "4 of 4 judged quantities are stationary" in notes(result)


def test_stationarity_falls_back_to_held_out_points_and_says_so(tmp_path: Path) -> None:
    result = analyse("stationarity", write_run(tmp_path / "run.h5", splits=("held_out",)))
    assert result.data["split"] == "held_out"
    assert "No evaluation on training points" in notes(result)


def test_stationarity_on_one_point_is_undecided(tmp_path: Path) -> None:
    result = analyse("stationarity", write_run(tmp_path / "run.h5", steps=2000, points=1))
    assert {row[-1] for row in result.rows} == {"undecided"}


def test_stationarity_of_replicas_shows_the_worst_of_each_quantity(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=2000, replicas=4)
    result = analyse("stationarity", path)
    residuals = Run.open(path).evaluation("train", "decoder_residual")[-1]
    assert result.columns[-1] == "replica"
    assert result.rows[0][-1] == np.abs(residuals).argmax()
    assert "worst of 4 replicas" in result.title
    assert analyse("stationarity", path, replica=1).rows[0][-4] == residuals[1]


# What a run may lack


@pytest.mark.parametrize(
    ("analysis", "settings", "message"),
    [
        ("collapse", {"steps": 0, "evaluations": 0}, "neither an evaluation nor a training step is recorded"),
        ("bounds", {"steps": 0, "evaluations": 0}, "no training step is recorded"),
        ("bounds", {"steps": 0, "evaluations": 1}, "no training step is recorded"),
        ("stationarity", {"evaluations": 0}, "no evaluation is recorded"),
        ("stationarity", {"data": {"dimension": None}}, "data.dimension is None"),
    ],
)
def test_a_run_that_lacks_what_an_analysis_needs_is_refused_in_words(
    tmp_path: Path, analysis: str, settings: dict[str, Any], message: str
) -> None:
    path = write_run(tmp_path / "run.h5", status="interrupted", **settings)
    with pytest.raises(AnalysisError, match=message) as refused:
        analyse(analysis, path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_replica_that_the_run_does_not_have_is_refused(tmp_path: Path, analysis: str) -> None:
    path = write_run(tmp_path / "run.h5", replicas=2)
    with pytest.raises(AnalysisError, match="replica 2; expected 0 … 1"):
        analyse(analysis, path, replica=2)


def test_a_difference_relative_to_zero_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=1, elbo=0.0)
    with pytest.raises(AnalysisError, match="must be finite and not zero"):
        analyse("bounds", path)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_an_unfinished_run_is_analysed_with_a_caveat(tmp_path: Path, analysis: str) -> None:
    path = write_run(tmp_path / "run.h5", steps=3, evaluations=1, status="interrupted")
    assert "The run is not finished (status: interrupted, 3 steps recorded)." in analyse(analysis, path).notes


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_data_of_an_analysis_are_json(tmp_path: Path, analysis: str, replicas: int) -> None:
    data = analyse(analysis, write_run(tmp_path / "run.h5", replicas=replicas)).data
    assert json.loads(json.dumps(data, allow_nan=False)) == data


# Figures

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "many latents": {"latent_dim": 64, "active": 30, "steps": 3000},
    "one latent": {"latent_dim": 1, "active": 1},
    "replicas": {"replicas": 5},
    "learned prior": {"prior_log_var": -1.5, "model": "vae-2"},
    "fixed decoder": {"model": "vae-0"},
    "one evaluation": {"evaluations": 1},
    "three steps": {"steps": 3, "evaluations": 1, "status": "interrupted"},
    "one step": {"steps": 1, "evaluations": 1},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_figure_keeps_all_of_its_text_inside(tmp_path: Path, analysis: str, shape: str) -> None:
    result = analyse(analysis, write_run(tmp_path / "run.h5", **SHAPES[shape]))
    assert result.draw is not None
    figure = result.draw()
    style.render(figure, ".png")  # warnings, such as a glyph that the font lacks, are errors
    with style.applied():
        tight = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert tight.x0 >= -0.01
    assert tight.y0 >= -0.01
    assert tight.x1 <= width + 0.01
    assert tight.y1 <= height + 0.01


@pytest.mark.parametrize("settings", [{"evaluations": 0}, {"steps": 0, "evaluations": 1}])
def test_collapse_draws_what_there_is(tmp_path: Path, settings: dict[str, Any]) -> None:
    result = analyse("collapse", write_run(tmp_path / "run.h5", **settings))
    assert result.draw is not None
    style.render(result.draw(), ".png")


@pytest.mark.parametrize("analysis", ANALYSES)
def test_figures_are_the_same_bytes_each_time_with_fonts_embedded_and_text_as_text(
    tmp_path: Path, analysis: str
) -> None:
    result = analyse(analysis, write_run(tmp_path / "run.h5"))
    assert result.draw is not None
    files = {suffix: style.render(result.draw(), suffix) for suffix in (".pdf", ".png", ".svg")}
    assert files == {suffix: style.render(result.draw(), suffix) for suffix in (".pdf", ".png", ".svg")}
    assert b"/FontFile2" in files[".pdf"]
    assert b"/Subtype /Type3" not in files[".pdf"]
    assert b"<text" in files[".svg"]
    assert files[".png"].startswith(b"\x89PNG")


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were_and_does_not_depend_on_them(tmp_path: Path) -> None:
    result = analyse("bounds", write_run(tmp_path / "run.h5"))
    assert result.draw is not None
    expected = style.render(result.draw(), ".png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(mpl.rcParams)
        assert style.render(result.draw(), ".png") == expected
        assert dict(mpl.rcParams) == before


def test_a_spike_of_a_single_step_is_in_the_drawn_line(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=20_000, spike=(12_345, 40.0))
    result = analyse("bounds", path)
    assert result.draw is not None
    difference = result.draw().axes[1]
    drawn = next(line for line in difference.get_lines() if line.get_label() == "difference at each step")
    assert 12_345 in drawn.get_xdata()
    assert len(drawn.get_xdata()) <= 2000


@pytest.mark.parametrize("name", [component.name for component in COMPONENTS])
def test_every_analysis_is_documented_with_its_command_and_a_small_picture(name: str) -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "analyses.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert f"elboverse analyze {name} runs/" in section
    picture, limit = (f"{name}.gif", 400_000) if name == "animate" else (f"{name}.png", 150_000)
    assert f"(images/{picture})" in section
    assert (docs / "images" / picture).stat().st_size < limit


@pytest.mark.parametrize(("settled", "where"), [(0.0, "top"), (60.0, "bottom")])
def test_the_note_on_what_is_outside_the_frame_covers_no_curve(settled: float, where: str) -> None:
    steps = np.arange(1000.0)
    values = np.where(steps < 300, 60.0 - settled, settled)  # settles at the lower or at the upper edge of the frame
    values[0] = -5000.0
    axes = Figure().subplots()
    bounds_figure._frame(axes, [(steps, values)], 50.0)
    [note] = axes.texts
    assert note.get_text() == "ELBO starts outside the frame, at −5,000"
    assert note.get_verticalalignment() == where
