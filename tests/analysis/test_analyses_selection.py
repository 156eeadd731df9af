"""`selection`: BIC from both estimates through the regimes of a stream, and which model each of them picks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from support.stream_runs import describe_stream, write_estimates, write_stream_runs
from support.synthetic_runs import write_run

from elboverse.analysis import style
from elboverse.builtin.analyses.selection.analysis import SelectionOptions, build
from elboverse.builtin.analyses.selection.regimes import Span, Timeline
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.runfile import Run

PUBLISHED_THEORY = {
    (6, 2): -18.063, (6, 4): -15.931, (6, 6): -9.033,
    (2, 2): 3.856, (2, 4): 3.856, (2, 6): 3.856,
    (4, 2): -11.968, (4, 4): -2.235, (4, 6): -2.235,
}  # fmt: skip
"""The exact optimum in nats per point by latents of the data and of the model."""


def analyse(paths: Sequence[Path], **options: Any) -> Result:
    return build(SelectionOptions(**options), tuple(Run.open(path) for path in paths))


def notes(result: Result) -> str:
    return "\n".join(result.notes)


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def pair(folder: Path, steps: int = 40, **settings: Any) -> tuple[list[Path], np.ndarray]:
    """Write two models whose estimates are noise, and return their paths and the estimates (2, 2, T, 1)."""
    estimates = noise(7, (2, 2, steps, 1))
    return [
        write_estimates(folder / f"{number}.h5", *of_model, latent_dim=2 + number, **settings)
        for number, of_model in enumerate(estimates)
    ], estimates


# Numbers


def test_the_theory_is_that_of_the_streaming_experiment(tmp_path: Path) -> None:
    result = analyse(write_stream_runs(tmp_path))
    found = {
        (regime["latents"], model["latent_dim"]): values["theory"]
        for regime in result.data["regimes"]
        for model, values in zip(result.data["models"], regime["models"], strict=True)
    }
    assert found == {key: pytest.approx(value, abs=5e-4) for key, value in PUBLISHED_THEORY.items()}


def test_means_bic_and_shares_are_those_of_the_last_batches_of_a_regime(tmp_path: Path) -> None:
    stream = describe_stream(200)
    paths, estimates = pair(tmp_path, steps=60, stream=stream)
    result = analyse(paths, last=7)
    parameters = np.array([2 * 10 + 1, 3 * 10 + 1])
    for number, regime in enumerate(result.data["regimes"]):
        last = slice(20 * number + 13, 20 * number + 20)
        assert (regime["first_step"], regime["last_step"]) == (20 * number, 20 * number + 19)
        assert (regime["batches"], regime["points"], regime["is_complete"]) == (7, 200, True)
        for name, values in (("elbo", estimates[:, 0, last, 0]), ("entropy_sum", estimates[:, 1, last, 0])):
            bic = parameters[:, None] * np.log(10) - 20 * values
            for model in range(2):
                table = regime["models"][model][name]
                assert table["mean"] == pytest.approx(values[model].mean())
                assert table["standard_deviation"] == pytest.approx(values[model].std())
                assert table["bic"] == pytest.approx(bic[model].mean())
                assert table["lowest_share"] == (bic.argmin(0) == model).mean()
                assert table["is_picked"] == (bic.mean(1).argmin() == model)
        ratio = np.var(estimates[0, 0, last]) / np.var(estimates[0, 1, last])
        assert regime["models"][0]["variance_ratio"] == pytest.approx(ratio)


def test_the_textbook_counts_the_mean_leaves_rotations_out_and_takes_all_points(tmp_path: Path) -> None:
    paths, estimates = pair(tmp_path, steps=20, stream=describe_stream(500))
    (regime, *_) = analyse(paths).data["regimes"]
    bics = []
    for number, latents in enumerate((2, 3)):
        parameters = 10 * latents + 1 + 10 - latents * (latents - 1) / 2
        bics.append(parameters * np.log(500) - 2 * 500 * estimates[number, 1, :, 0].mean())
        assert regime["models"][number]["entropy_sum"]["textbook_bic"] == pytest.approx(bics[-1])
    picked = [model["entropy_sum"]["is_picked_by_textbook"] for model in regime["models"]]
    assert picked == [number == np.argmin(bics) for number in range(2)]


def test_on_the_stream_the_entropy_sum_picks_the_right_model_in_every_batch(tmp_path: Path) -> None:
    result = analyse(write_stream_runs(tmp_path), last=100)
    for regime in result.data["regimes"]:
        shares = [model["entropy_sum"]["lowest_share"] for model in regime["models"]]
        assert shares == [float(model["latent_dim"] == regime["latents"]) for model in result.data["models"]]
    assert "2 latents: the lowest mean BIC is that of H = 2 by ELBO (" in notes(result)
    assert "and of H = 6 by entropy sum (lowest in 100.0 % of the batches)" in notes(result)


def test_replicas_are_taken_together_or_one_by_one(tmp_path: Path) -> None:
    estimates = noise(3, (2, 2, 30, 2))
    paths = [write_estimates(tmp_path / f"{n}.h5", *of_model, latent_dim=2 + n) for n, of_model in enumerate(estimates)]
    for replica, chosen in ((None, slice(None)), (1, slice(1, 2))):
        ((regime,), wanted) = analyse(paths, replica=replica).data["regimes"], estimates[..., chosen]
        assert regime["models"][1]["elbo"]["mean"] == pytest.approx(wanted[1, 0].mean())
        bic = np.array([21, 31])[:, None, None] * np.log(10) - 20 * wanted[:, 1]
        assert regime["models"][1]["entropy_sum"]["lowest_share"] == (bic.argmin(0) == 1).mean()


def test_data_that_are_no_stream_are_one_regime_and_batches_need_not_all_be_recorded(tmp_path: Path) -> None:
    paths, estimates = pair(tmp_path, every=5)
    result = analyse(paths, last=50)
    (regime,) = result.data["regimes"]
    assert (regime["name"], regime["points"], regime["batches"]) == ("whole run", 1000, 10)
    assert regime["models"][0]["elbo"]["mean"] == pytest.approx(estimates[0, 0, -10:].mean())
    assert regime["models"][0]["theory"] is None


def test_a_model_that_is_not_linear_has_its_trained_parameters_outside_the_encoder_counted(tmp_path: Path) -> None:
    moments = {
        "optimizer/exp_avg/encoder_head.weight": (4, 7),
        "optimizer/exp_avg/encoder.0.weight": (7, 10),
        "optimizer/exp_avg/decoder.0.weight": (5, 2),
        "optimizer/exp_avg/output.bias": (10,),
        "optimizer/exp_avg/decoder_log_var": (),
        "model/prior_mean": (2,),
    }
    checkpoint = {path: np.zeros((1, *shape), np.float32) for path, shape in moments.items()}
    values = noise(1, (20, 1))
    paths = [
        write_estimates(tmp_path / "net.h5", values, values, model="vae-1", checkpoint=checkpoint),
        write_estimates(tmp_path / "linear.h5", values, values),
    ]
    net, linear = analyse(paths).data["models"]
    assert (net["parameters"], net["textbook_parameters"], net["counted"]) == (21, 21, "checkpoint")
    assert (linear["parameters"], linear["textbook_parameters"], linear["counted"]) == (21, 30, "linear formula")
    assert (net["label"], linear["label"]) == ("vae-1, H = 2", "linear-vae, H = 2")


def test_models_that_differ_neither_by_name_nor_by_latents_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [write_estimates(tmp_path / f"{n}.h5", noise(n, (9, 1)), noise(n, (9, 1))) for n in range(2)]
    assert [model["label"] for model in analyse(paths).data["models"]] == ["0.h5", "1.h5"]


def test_the_json_is_what_the_command_prints_and_holds_no_number_that_json_lacks(tmp_path: Path) -> None:
    result = analyse(write_stream_runs(tmp_path))
    assert json.loads(json.dumps(result.data, allow_nan=False)) == result.data
    same = write_estimates(tmp_path / "flat.h5", np.zeros((5, 1)), np.zeros((5, 1)), latent_dim=3)
    flat = analyse([same, write_estimates(tmp_path / "other.h5", noise(0, (5, 1)), np.zeros((5, 1)))])
    assert flat.data["regimes"][0]["models"][0]["variance_ratio"] is None


# Regimes


def test_the_regime_of_a_step_is_that_of_its_first_point_in_every_pass(tmp_path: Path) -> None:
    starts, per_pass, batch_size = (0, 25, 27, 60), 94, 10
    stream = {
        "points_per_pass": per_pass,
        "regimes": [{"name": name, "first_point": start} for name, start in zip("abcd", starts, strict=True)],
    }
    path = write_estimates(tmp_path / "run.h5", noise(0, (25, 1)), noise(1, (25, 1)), stream=stream)
    timeline = Timeline.of(Run.open(path), batch_size)
    expected = []
    for step in range(25):
        point = step % (per_pass // batch_size) * batch_size
        expected.append(max(number for number, start in enumerate(starts) if start <= point))
    spans = timeline.spans(np.arange(25))
    found = [next(span.regime for span in spans if span.first <= step < span.end) for step in range(25)]
    assert found == expected
    assert spans[0] == Span(0, 0, 3)
    assert [regime.points for regime in timeline.regimes] == [25, 2, 33, 34]


def test_a_start_among_the_points_that_no_batch_fits_into_has_no_span(tmp_path: Path) -> None:
    stream = {"points_per_pass": 39, "regimes": [{"name": n, "first_point": p} for n, p in (("a", 0), ("b", 35))]}
    path = write_estimates(tmp_path / "run.h5", noise(0, (9, 1)), noise(1, (9, 1)), stream=stream)
    assert Timeline.of(Run.open(path), 10).spans(np.arange(6)) == [Span(0, 0, 3), Span(0, 3, 6)]


def test_steps_that_are_passes_apart_cost_no_more_than_steps_side_by_side(tmp_path: Path) -> None:
    stream = {"points_per_pass": 30, "regimes": [{"name": n, "first_point": p} for n, p in (("a", 0), ("b", 20))]}
    paths, _ = pair(tmp_path, steps=3, every=10**11, stream=stream)  # three steps a pass
    spans = Timeline.of(Run.open(paths[0]), 10).spans(10**11 * np.arange(3))
    assert spans == [Span(0, 0, 2), Span(0, 10**11 - 1, 10**11 + 1), Span(1, 2 * 10**11, 2 * 10**11 + 1)]
    result = analyse(paths)
    assert [(regime["name"], regime["last_step"]) for regime in result.data["regimes"]] == [
        ("a", 10**11),
        ("b", 2 * 10**11),
    ]
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000


def test_where_few_steps_are_recorded_the_last_of_them_in_each_regime_are_read(tmp_path: Path) -> None:
    paths, estimates = pair(tmp_path, steps=12, every=5, stream=describe_stream(200))
    regimes = analyse(paths, last=1).data["regimes"]
    assert [(regime["batches"], regime["last_step"]) for regime in regimes] == [(1, 15), (1, 35), (1, 55)]
    means = [regime["models"][1]["elbo"]["mean"] for regime in regimes]
    assert means == pytest.approx(estimates[1, 0, [3, 7, 11], 0])


def test_of_several_passes_the_last_complete_one_of_each_regime_is_read(tmp_path: Path) -> None:
    paths, estimates = pair(tmp_path, steps=75, stream=describe_stream(100))  # 30 steps a pass; ends within the second
    result = analyse(paths, last=10)
    assert [(regime["first_step"], regime["is_complete"]) for regime in result.data["regimes"]] == [
        (60, True),
        (40, True),
        (50, True),
    ]
    assert result.data["regimes"][0]["models"][0]["elbo"]["mean"] == pytest.approx(estimates[0, 0, 60:70].mean())


@pytest.mark.parametrize(
    "stream",
    [
        {},
        [],
        {"points_per_pass": 5, "regimes": [{"name": "a", "first_point": 0}]},
        {"points_per_pass": 100, "regimes": [{"name": "a", "first_point": 10}]},
        {"points_per_pass": 100, "regimes": [{"name": "a", "first_point": 0}, {"name": "b", "first_point": 100}]},
        {"points_per_pass": 100, "regimes": ["a"]},
        {"points_per_pass": 100, "regimes": []},
    ],
)
def test_a_description_of_a_stream_that_makes_no_sense_is_refused(tmp_path: Path, stream: Any) -> None:
    paths, _ = pair(tmp_path, stream=stream)
    with pytest.raises(AnalysisError, match=r"0.h5: /documents/data: its stream"):
        analyse(paths)


def test_regimes_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    names = ("6 latents", "2 latents", "6 latents", "2 latents", "none")
    regimes = [{"name": name, "first_point": 100 * n, "latents": 0} for n, name in enumerate(names)]
    paths, _ = pair(tmp_path, steps=25, stream={"points_per_pass": 500, "regimes": regimes})
    result = analyse(paths)
    found = [(regime["name"], regime["latents"]) for regime in result.data["regimes"]]
    assert found == [("6 latents (1)", 0), ("2 latents (1)", 0), ("6 latents (2)", 0)]
    assert "The record ends within 6 latents (2), after 5 steps that are used." in notes(result)
    assert "No step is recorded in 2 latents (2) and none." in notes(result)


def test_regimes_that_all_steps_pass_over_are_said_to_have_none(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path, steps=3, every=30, stream=describe_stream(100))  # 10 steps a regime
    result = analyse(paths)
    assert [regime["name"] for regime in result.data["regimes"]] == ["6 latents"]
    assert "No step is recorded in 2 latents and 4 latents." in notes(result)


@pytest.mark.parametrize("eigenvalues", [[1.0, "a", *[1.0] * 8], [1.0] * 9, [1.0] * 11, 3, [], None])
def test_what_a_stream_does_not_say_of_a_regime_is_not_known(tmp_path: Path, eigenvalues: Any) -> None:
    regime = {"first_point": 0, "covariance_eigenvalues": eigenvalues, "latents": -1, "log_likelihood": "a"}
    paths, _ = pair(tmp_path, stream={"points_per_pass": 100, "regimes": [regime]})
    (found,) = analyse(paths).data["regimes"]
    assert (found["name"], found["latents"], found["log_likelihood"]) == ("regime 0", None, None)
    assert found["models"][0]["theory"] is None


@pytest.mark.parametrize("odd", [["x"], {"a": 1}, 5, None], ids=str)
def test_documents_may_hold_anything_in_place_of_a_text(tmp_path: Path, odd: Any) -> None:
    checkpoint = {"optimizer/exp_avg/decoder": np.zeros((1, 3), np.float32)}
    values = noise(1, (20, 1))
    paths = [
        write_estimates(tmp_path / "odd.h5", values, values, model=odd, seed=odd, checkpoint=checkpoint),
        write_estimates(tmp_path / "linear.h5", values, values, latent_dim=3),
    ]
    result = analyse(paths)
    assert [model["counted"] for model in result.data["models"]] == ["checkpoint", "linear formula"]
    assert "The runs have different seeds" in notes(result)


# Sentences


def test_one_run_is_too_few(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path)
    with pytest.raises(AnalysisError, match=r"0.h5: selection needs at least two runs; give the files of all models"):
        analyse(paths[:1])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"data": {"fingerprint": "cd"}}, "odd.h5 was trained on other data than .*0.h5"),
        ({"stream": describe_stream(100)}, "odd.h5 was trained on other data than .*0.h5"),
        ({"batch_size": 20}, "odd.h5 has batches of 20 points, .*0.h5 of 10"),
        ({"batch_size": 0}, "odd.h5: got training.batch_size 0; expected a positive integer"),
    ],
)
def test_runs_that_do_not_share_their_batches_are_named(
    tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    paths, _ = pair(tmp_path)
    odd = write_estimates(tmp_path / "odd.h5", noise(0, (9, 1)), noise(1, (9, 1)), **settings)
    with pytest.raises(AnalysisError, match=complaint):
        analyse([*paths, odd])


def test_runs_with_unlike_numbers_of_replicas_are_named(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path)
    paths.append(write_estimates(tmp_path / "two.h5", noise(0, (9, 2)), noise(1, (9, 2))))
    with pytest.raises(AnalysisError, match=r"two.h5 has 2 replicas, .*0.h5 has 1 replica; .* --replica"):
        analyse(paths)
    assert len(analyse(paths, replica=0).data["models"]) == 3


def test_runs_without_steps_or_without_common_ones_are_refused(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path)
    empty = write_run(tmp_path / "empty.h5", steps=0, evaluations=0, status="running")
    with pytest.raises(AnalysisError, match=r"empty.h5: no training step is recorded \(status: running\)"):
        analyse([paths[0], empty])


def test_a_model_without_a_trained_decoder_has_nothing_to_count(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path, model="vae-1")
    with pytest.raises(AnalysisError, match=r"0.h5: the checkpoint holds no trained parameters outside the encoder"):
        analyse(paths)


def test_a_record_that_ends_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    paths, estimates = pair(tmp_path, steps=60, stream=describe_stream(200))
    short = write_estimates(
        tmp_path / "short.h5", *noise(5, (2, 25, 1)), latent_dim=6, stream=describe_stream(200), status="interrupted"
    )
    result = analyse([*paths, short])
    assert [regime["batches"] for regime in result.data["regimes"]] == [20, 5]
    assert result.data["regimes"][1]["models"][0]["elbo"]["mean"] == pytest.approx(estimates[0, 0, 20:25].mean())
    found = notes(result)
    assert "The record ends within 2 latents, after 5 steps that are used." in found
    assert "No step is recorded in 4 latents." in found
    assert f"{short}: The run is not finished (status: interrupted, 25 steps recorded)." in found
    assert "Only the 25 steps that all runs have recorded are used." in found


def test_runs_of_different_seeds_are_noted(tmp_path: Path) -> None:
    paths, _ = pair(tmp_path)
    assert "different seeds" not in notes(analyse(paths))
    paths[1] = write_estimates(tmp_path / "seed.h5", noise(0, (9, 1)), noise(1, (9, 1)), seed=4, latent_dim=3)
    assert "The runs have different seeds" in notes(analyse(paths))


# Figures


@pytest.mark.parametrize("steps", [1, 3, 350, 900])
def test_the_figure_is_drawn_however_far_the_stream_was_recorded(tmp_path: Path, steps: int) -> None:
    result = analyse(write_stream_runs(tmp_path, steps=steps))
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000


def test_the_strip_shows_the_share_of_batches_in_which_each_model_is_lowest(tmp_path: Path) -> None:
    result = analyse(write_stream_runs(tmp_path))
    assert result.draw is not None
    strip = result.draw().axes[5]
    heights = [collection.get_datalim(strip.transData).height for collection in strip.collections[:3]]
    assert heights == pytest.approx([1, 1, 1])  # each model is the only lowest one somewhere
    assert [text.get_text() for text in strip.texts] == ["H = 6", "H = 2", "H = 4"]


def test_the_figure_frames_what_is_settled_and_dots_the_optima(tmp_path: Path) -> None:
    result = analyse(write_stream_runs(tmp_path))
    assert result.draw is not None
    upper = result.draw().axes[0]
    low, high = upper.get_ylim()
    assert -30 < low < -18
    assert 4 < high < 12
    dotted = {line.get_segments()[0][0, 1] for line in upper.collections if isinstance(line, LineCollection)}
    assert sorted(dotted) == pytest.approx(sorted(set(PUBLISHED_THEORY.values())), abs=5e-4)


def test_the_command_imports_no_torch_and_prints_the_models_and_regimes_as_json(tmp_path: Path) -> None:
    paths = map(str, write_stream_runs(tmp_path))
    code = "import sys; from elboverse.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    arguments = ["analyze", "selection", *paths, "--json", "--figure", str(tmp_path / "figure.pdf")]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    printed = json.loads(ran.stdout)
    assert [model["label"] for model in printed["models"]] == ["H = 2", "H = 4", "H = 6"]
    assert [regime["name"] for regime in printed["regimes"]] == ["6 latents", "2 latents", "4 latents"]
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("entropy_sum", "told"), [(-8.0, True), (-9.9, False)])
def test_models_whose_estimates_disagree_are_told_as_not_converged(
    tmp_path: Path, entropy_sum: float, *, told: bool
) -> None:
    shape = (40, 1)
    paths = [
        write_estimates(
            tmp_path / f"{number}.h5",
            np.full(shape, -10.0),
            np.full(shape, estimate) + 0.01 * noise(number, shape),
            latent_dim=2 + number,
        )
        for number, estimate in enumerate((entropy_sum, -10.0))
    ]
    found = [note for note in analyse(paths).notes if "had not converged" in note]
    assert bool(found) == told
    if told:
        assert "ELBO and entropy sum differ (H = 2 by -2 nats)" in found[0]


# Control variates


def test_control_variates_take_the_scatter_out_of_the_elbo_at_stationary_points_only(tmp_path: Path) -> None:
    scatter = 0.05 * noise(11, (2, 2000, 1))
    moving = scatter + np.array([0.0, 1.0])[:, None, None]  # R_dec of the second model is 1 nat
    paths = [
        write_estimates(
            tmp_path / f"{number}.h5",
            -9.0 + residual,
            -9.0 + 0.002 * noise(20 + number, (2000, 1)),
            latent_dim=2 + number,
        )
        for number, residual in enumerate(moving)
    ]
    result = analyse(paths)
    first, second = (model["control_variates"] for model in result.data["regimes"][0]["models"])
    assert first["mean"] == pytest.approx(-9, abs=1e-3)
    # ELBO = H + R, so that a = 1 leaves Var[H] of Var[H] + Var[R]… here R and H are independent and ELBO − R = H.
    assert first["standard_deviation"] == pytest.approx(0.002, rel=0.1)
    assert first["variance_ratio"] == pytest.approx((0.05 / 0.002) ** 2, rel=0.2)
    assert second is None
    assert "H = 3 in whole run (R_dec)" in notes(result)
