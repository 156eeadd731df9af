"""Analyses of several runs: bounds pools them, compare sets them side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.builders import configure
from support.synthetic_runs import write_run
from support.trained_runs import write_trained_run

from elboverse.analysis import style
from elboverse.analysis.linear import is_linear
from elboverse.analysis.reading import labels_of
from elboverse.builtin.analyses.bounds import analysis as bounds
from elboverse.builtin.analyses.compare import analysis as compare
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.runfile import Run, RunWriter

ANALYSES: dict[str, tuple[Any, Any]] = {
    "bounds": (bounds.BoundsOptions, bounds.build),
    "compare": (compare.CompareOptions, compare.build),
}


def analyse(name: str, paths: Sequence[Path], **options: Any) -> Result:
    config, build = ANALYSES[name]
    return build(config(**options), tuple(Run.open(path) for path in paths))


def notes(result: Result) -> str:
    return "\n".join(result.notes)


def runs(folder: Path, count: int = 3, **settings: Any) -> list[Path]:
    paths = [folder / f"{number}.h5" for number in range(count)]
    return [write_run(path, seed=number, **settings) for number, path in enumerate(paths)]


# Bounds


def test_bounds_of_several_runs_are_medians_over_all_their_replicas(tmp_path: Path) -> None:
    paths = [*runs(tmp_path), write_run(tmp_path / "two.h5", replicas=2, seed=9)]
    result = analyse("bounds", paths)
    elbo = np.concatenate([Run.open(path).series("elbo").astype(np.float64) for path in paths], axis=1)
    assert result.rows[-1][2] == pytest.approx(np.median(elbo[-1]))
    assert [(final["run"], final["replica"]) for final in result.data["final"]] == [
        *((str(path), 0) for path in paths),
        (str(paths[-1]), 1),
    ]
    assert [final["elbo"] for final in result.data["final"]] == pytest.approx(list(elbo[-40:].mean(0)))
    held_out = [Run.open(path).evaluation("held_out", "elbo")[-1] for path in paths]
    assert result.data["held_out"][-1]["elbo"] == pytest.approx(np.median(np.concatenate(held_out)))
    assert "median of 5 replicas in 4 runs, vae-1" in result.title


def test_bounds_of_several_runs_keep_to_the_steps_that_all_have(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a.h5", steps=400), write_run(tmp_path / "b.h5", steps=300)]
    result = analyse("bounds", paths)
    assert result.rows[-1][0] == 299
    assert "Only the 300 steps that all runs have recorded are used." in result.notes
    first = [Run.open(path).series("elbo")[299, 0] for path in paths]
    assert result.rows[-1][2] == pytest.approx(np.median(first), rel=1e-6)
    assert result.data["held_out"] == [
        {
            "step": 0,
            "elbo": pytest.approx(np.median([Run.open(path).evaluation("held_out", "elbo")[0, 0] for path in paths])),
            "elbo_standard_error": pytest.approx(0.03),
        },
        result.data["held_out"][1],
    ]


def test_an_unfinished_run_among_several_is_named(tmp_path: Path) -> None:
    paths = [*runs(tmp_path, 1), write_run(tmp_path / "part.h5", steps=30, status="interrupted")]
    assert f"{paths[1]}: The run is not finished (status: interrupted" in notes(analyse("bounds", paths))


def test_the_close_up_shows_the_last_fifth_framed_by_itself(tmp_path: Path) -> None:
    result = analyse("bounds", runs(tmp_path, 1, steps=2000), close_up=True)
    assert result.draw is not None
    upper, close_up, *_ = result.draw().axes
    steps = close_up.get_lines()[0].get_xdata()
    assert np.asarray(steps).min() >= 0.8 * 1999
    assert np.ptp(close_up.get_ylim()) < np.ptp(upper.get_ylim())


# Compare


def test_compare_tabulates_where_each_run_ended(tmp_path: Path) -> None:
    paths = [*runs(tmp_path, 2), write_run(tmp_path / "more.h5", latent_dim=6, active=3, replicas=3, steps=200)]
    result = analyse("compare", paths)
    assert [row[0] for row in result.rows] == ["0.h5", "1.h5", "more.h5"]
    assert [row[1] for row in result.rows] == [400, 400, 200]
    for path, row, data in zip(paths, result.rows, result.data["compared"], strict=True):
        run = Run.open(path)
        elbo, entropy_sum = (
            np.median(run.series(name).astype(np.float64)[-100:].mean(0)) for name in ("elbo", "entropy_sum")
        )
        assert row[2:5] == pytest.approx((elbo, entropy_sum, elbo - entropy_sum), abs=1e-5)
        assert row[5] == np.median(run.evaluation("held_out", "elbo")[-1])
        assert (data["held_out_elbo"], data["latent_dim"]) == (row[5], run.latent_dim)
    assert [row[7] for row in result.rows] == ["2", "2", "3"]
    assert "medians over replicas: more.h5 3 replicas" in notes(result)


def test_compare_shows_what_differs_in_the_configs_and_nothing_else(tmp_path: Path) -> None:
    paths = [
        write_trained_run(tmp_path / f"{name}-{latents}.h5", configure(name, latent_dim=latents))
        for name, latents in (("vae-1", 2), ("linear-vae", 3))
    ]
    result = analyse("compare", paths)
    differences = result.data["differences"]
    assert differences["model.latent_dim"] == [2, 3]
    assert differences["model.network.hidden"] == [[8], None]
    assert not any(key.startswith(("training.", "dataset.", "annealing.")) for key in differences)
    (settings,) = result.further
    assert ("model.latent_dim", "2", "3") in settings.rows
    assert ("model.network.hidden", "[8]", "–") in settings.rows
    assert json.loads(json.dumps(result.data)) == result.data


def test_compare_says_which_run_is_ahead_and_by_how_much(tmp_path: Path) -> None:
    paths = runs(tmp_path, 2)
    elbos = [Run.open(path).evaluation("held_out", "elbo")[-1, 0] for path in paths]
    best = int(np.argmax(elbos))
    found = notes(analyse("compare", paths))
    assert f"that of {best}.h5, {abs(elbos[0] - elbos[1]):.4f} ± {0.03 * np.sqrt(2):.4f} nats" in found
    assert "Their configs are the same." in found
    assert "different data" not in found


def test_compare_shows_how_long_each_run_was_trained_where_it_says_so(tmp_path: Path) -> None:
    paths = runs(tmp_path, 2)
    with RunWriter.resume(paths[1]) as writer:
        writer.put_document("timing", {"training_seconds": 1234.56})
        writer.snapshot("finished", {}, 400)
    result = analyse("compare", paths)
    assert [row[result.columns.index("training (s)")] for row in result.rows] == [None, "1,234.6"]
    assert [run["training_seconds"] for run in result.data["compared"]] == [None, 1234.56]


def test_compare_of_runs_on_different_data_says_so(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"{number}.h5", data={"fingerprint": str(number)}) for number in range(2)]
    assert "trained on different data" in notes(analyse("compare", paths))


def test_compare_takes_runs_without_rows_or_evaluations(tmp_path: Path) -> None:
    paths = [*runs(tmp_path, 1), write_run(tmp_path / "empty.h5", steps=0, evaluations=0, status="running")]
    result = analyse("compare", paths)
    assert list(result.rows[1][1:8]) == [0, None, None, None, None, None, None]
    assert "empty.h5: The run is not finished" in notes(result)
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000


def test_compare_needs_two_runs(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="compare needs at least two runs"):
        analyse("compare", runs(tmp_path, 1))


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["runs/a/run.h5", "runs/b/run.h5"], ["a", "b"]),
        (["a.h5", "b.h5"], ["a.h5", "b.h5"]),
        (["runs/a/run.h5", "runs/a/b/run.h5"], ["run.h5", "b/run.h5"]),
        (["run.h5", "run.h5"], ["1: run.h5", "2: run.h5"]),
        (["/x/run.h5", "y/run.h5"], ["/x", "y"]),
    ],
)
def test_runs_are_labelled_by_what_tells_their_paths_apart(paths: list[str], labels: list[str]) -> None:
    assert labels_of([Path(path) for path in paths]) == labels


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_figures_of_many_runs_are_drawn(tmp_path: Path, name: str) -> None:
    result = analyse(name, runs(tmp_path, 10, steps=50))
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000


@pytest.mark.parametrize("odd", [["x"], {"a": 1}, 5], ids=str)
@pytest.mark.parametrize("name", ANALYSES)
def test_documents_may_hold_anything_in_place_of_a_text(tmp_path: Path, name: str, odd: Any) -> None:
    paths = [
        write_run(tmp_path / "odd.h5", model=odd, data={"fingerprint": odd}),
        write_run(tmp_path / "plain.h5", data={"fingerprint": "ab"}),
    ]
    assert analyse(name, paths).title


@pytest.mark.parametrize("activation", [[1], {"a": 1}, "relu"], ids=str)
def test_a_network_with_an_odd_output_activation_is_not_linear(activation: Any) -> None:
    network = {"name": "affine", "output_activation": activation}
    assert not is_linear({"model": {"name": "vae-1", "network": network}})
    assert is_linear({"model": {"name": "vae-1", "network": {**network, "output_activation": None}}})
