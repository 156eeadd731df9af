"""``collapse``: which latents are active, by every criterion, and how the count moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic_runs import write_run

from elboverse.analysis.curves import moving_average
from elboverse.builtin.analyses.collapse import analysis as collapse
from elboverse.contracts import Result
from elboverse.runfile import Run
from elboverse.theory import identities


def analyse(path: Path, **options: Any) -> Result:
    return collapse.build(collapse.CollapseOptions(**options), Run.open(path))


def notes(result: Result) -> str:
    return "\n".join(result.notes)


def test_collapse_tabulates_the_last_held_out_evaluation_by_falling_entropy_drop(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", latent_dim=5, active=2)
    run = Run.open(path)
    result = analyse(path)
    drop = run.evaluation("held_out", "entropy_drop", 0)[-1]
    latents = [row[0] for row in result.rows]
    assert latents == sorted(range(5), key=lambda h: -drop[h])
    for latent, encoder, prior, entropy_drop, kl, variance, by_threshold, by_drop in result.rows:
        assert encoder == run.evaluation("held_out", "encoder_entropy", 0)[-1, latent]
        assert prior == pytest.approx(identities.STANDARD_NORMAL_ENTROPY, abs=1e-12)
        assert entropy_drop == pytest.approx(drop[latent], abs=1e-12)
        assert kl == run.evaluation("held_out", "kl", 0)[-1, latent]
        assert variance == run.evaluation("held_out", "mean_variance", 0)[-1, latent]
        assert (by_threshold, by_drop) == (("active", "active") if latent in {0, 3} else ("collapsed", "collapsed"))
    assert "10,000 held-out points after 400 steps" in result.title
    assert "encoder entropy < 1 (the paper's criterion): 2 of 5" in notes(result)


@pytest.mark.parametrize("threshold", [-0.9, 0.0, 0.95, 1.0, 1.5])
def test_collapse_counts_by_the_threshold_it_is_given(tmp_path: Path, threshold: float) -> None:
    path = write_run(tmp_path / "run.h5", latent_dim=6, active=3)
    entropies = Run.open(path).evaluation("held_out", "encoder_entropy", 0)[-1]
    data = analyse(path, threshold=threshold).data["replicas"][0]
    assert data["active_by_threshold"] == (entropies < threshold).sum()
    assert data["active_by_drop"] == 3


def test_collapse_names_the_latents_on_which_the_criteria_disagree(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", latent_dim=4, active=2)
    assert "disagree" not in notes(analyse(path))
    assert "disagree on latents 0 and 3." in notes(analyse(path, threshold=-5.0))
    assert "disagree on latent 3." in notes(analyse(path, drop_threshold=1.0))


def test_collapse_warns_of_the_absolute_threshold_where_the_prior_variance_is_learned(tmp_path: Path) -> None:
    learned = analyse(write_run(tmp_path / "learned.h5", prior_log_var=-2.0))
    assert "go by the entropy drop" in notes(learned)
    assert learned.data["replicas"][0]["active_by_threshold"] == 4
    assert learned.data["replicas"][0]["active_by_drop"] == 2
    standard = analyse(write_run(tmp_path / "standard.h5"))
    assert "go by the entropy drop" not in notes(standard)
    assert "½ ln 2πe = 1.4189" in notes(standard)


def test_the_two_default_criteria_agree_for_a_standard_normal_prior(tmp_path: Path) -> None:
    result = analyse(write_run(tmp_path / "run.h5", latent_dim=64, active=40))
    assert all(row[6] == row[7] for row in result.rows)


def test_collapse_falls_back_to_training_points_and_says_so(tmp_path: Path) -> None:
    result = analyse(write_run(tmp_path / "run.h5", splits=("train",)))
    assert result.data["source"] == {"split": "train", "step": 400}
    assert "training points" in result.title


@pytest.mark.parametrize("splits", [(), ("train", "held_out")])
def test_collapse_takes_the_last_recorded_steps_where_only_the_start_was_evaluated(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    path = write_run(tmp_path / "run.h5", splits=splits, evaluations=2, evaluate_until=0)
    result = analyse(path)
    assert result.data["source"] == {"split": "trajectory", "step": 399}
    assert "mean over the last 100 recorded steps up to step 399" in result.title
    latents = {latent["latent"]: latent for latent in result.data["replicas"][0]["latents"]}
    recorded = Run.open(path).series("kl", 0)[-100:].astype(np.float64).mean(0)
    for h in range(4):
        assert latents[h]["kl"] == pytest.approx(recorded[h], abs=1e-6)
        assert latents[h]["mean_variance"] is None


def test_collapse_summarises_replicas_by_rank(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", replicas=4, latent_dim=5, active=2)
    result = analyse(path)
    drops = -np.sort(-Run.open(path).evaluation("held_out", "entropy_drop")[-1], axis=1)
    assert [row[0] for row in result.rows] == [1, 2, 3, 4, 5]
    assert [row[2] for row in result.rows] == pytest.approx(list(np.median(drops, axis=0)))
    assert [row[3] for row in result.rows] == pytest.approx(list(np.quantile(drops, 0.25, axis=0)))
    assert [row[4] for row in result.rows] == pytest.approx(list(np.quantile(drops, 0.75, axis=0)))
    assert [row[7] for row in result.rows] == ["4 of 4", "4 of 4", "0 of 4", "0 of 4", "0 of 4"]
    assert "median 2 of 5; by replica: 2, 2, 2, 2" in notes(result)


def test_collapse_shows_the_replica_that_it_is_asked_for(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", replicas=3, latent_dim=6, active=2)
    result = analyse(path, replica=2)
    assert [row[0] for row in result.rows][:2] == [2, 5]
    assert [replica["replica"] for replica in result.data["replicas"]] == [2]


def test_collapse_says_on_how_many_latents_criteria_agree(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", latent_dim=5, active=2, prior_log_var=-2.0)
    result = analyse(path)
    agreement = result.further[0]
    assert [row[0] for row in agreement.rows] == [
        *("encoder entropy < 1", "entropy drop ≥ 0.4189", "KL ≥ 0.4189", "variance of the mean ≥ 0.01")
    ]
    assert [row[1] for row in agreement.rows[:3]] == ["5", "2", "2"]
    assert agreement.rows[0][2:5] == ("5 of 5", "2 of 5", "2 of 5")
    assert agreement.rows[1][2:5] == ("2 of 5", "5 of 5", "5 of 5")
    assert all(len(row) == len(agreement.columns) for row in agreement.rows)


def test_collapse_says_how_the_count_moves_with_each_threshold(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", latent_dim=8, active=5, replicas=2)
    run = Run.open(path)
    result = analyse(path, drop_threshold=1.0, threshold=0.7)
    criteria = {criterion["criterion"]: criterion for criterion in result.data["criteria"]}
    drop = run.evaluation("held_out", "entropy_drop")[-1]
    assert [level["threshold"] for level in criteria["entropy_drop"]["sweep"]] == [0.1, 0.5, 1.0, 2.0, 4.0]
    for level in criteria["entropy_drop"]["sweep"]:
        assert level["active"] == (drop >= level["threshold"]).sum(1).tolist()
    entropy = run.evaluation("held_out", "encoder_entropy")[-1]
    assert [level["threshold"] for level in criteria["encoder_entropy"]["sweep"]] == [0.0, 0.5, 0.7, 1.0, 1.25, 1.4]
    for level in criteria["encoder_entropy"]["sweep"]:
        assert level["active"] == (entropy < level["threshold"]).sum(1).tolist()
    assert criteria["kl"]["values"] == run.evaluation("held_out", "kl")[-1].tolist()
    sweep = result.further[1]
    counts = np.median((drop >= 0.5).sum(1))
    assert sweep.rows[1][2] == f"{counts:g} at 0.5"
    assert all(len(row) == len(sweep.columns) for row in sweep.rows)


def test_the_number_of_active_latents_is_drawn_through_training(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=400, latent_dim=6, active=3)
    result = analyse(path)
    assert result.draw is not None
    axes = next(axes for axes in result.draw().axes if axes.get_ylabel() == "active latents")
    line = axes.get_lines()[0]
    drop = Run.open(path).series("entropy_drop", 0)
    counts = moving_average(np.arange(400), (drop >= identities.DROP_THRESHOLD).sum(1), window=4)
    np.testing.assert_allclose(line.get_ydata(), counts[np.asarray(line.get_xdata(), dtype=int)])
