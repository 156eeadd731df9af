"""``compare``: runs side by side, at their ends, and whether anything tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builders import configure

import elboverse
from elboverse.runfile import Run
from elboverse.running.runs import train


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pair")
    for seed in (0, 1):
        data = {"name": "pca", "points": 200, "dimension": 4}
        config = configure("linear-vae", seed=seed, until="stationary", epochs=6, dataset=data)
        train(config, out=folder / str(seed)).close()
    return [folder / "0" / "run.h5", folder / "1" / "run.h5"]


def test_a_short_run_until_stationary_is_compared_by_its_end_not_by_an_average_of_its_steps(pair: list[Path]) -> None:
    found = elboverse.analyze(pair, "compare")
    for path, shown in zip(pair, found.data["compared"], strict=True):
        with Run.open(path) as run:
            assert shown["elbo"] == pytest.approx(run.evaluation("train", "elbo")[-1, 0])
            assert shown["elbo"] > run.series("elbo")[:, 0].mean() + 0.1


def test_runs_that_differ_by_less_than_two_standard_errors_are_called_a_tie(pair: list[Path]) -> None:
    assert any("A tie" in note for note in elboverse.analyze([pair[0], pair[0]], "compare").notes)
