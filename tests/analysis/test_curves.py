"""Averages through training of records that are longer than what is held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic_runs import write_run

from elboverse.analysis import curves
from elboverse.runfile import Run


def test_a_long_record_is_averaged_in_bins_whatever_part_of_it_is_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(1003, 2, 3))
    read: list[int] = []

    def part(rows: slice) -> list[Any]:
        read.append(len(values[rows]))
        return [values[rows], (values[rows] > 0).sum(2)]

    monkeypatch.setattr(curves, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(curves, "MOST_BINS", 200)
    steps, (means, counts) = curves.averaged(2 * np.arange(1003), 14, part)
    assert max(read) <= 100
    assert means.shape == (144, 2, 3)  # bins of seven rows, 14 steps
    np.testing.assert_allclose(means[3], values[21:28].mean(0))
    np.testing.assert_allclose(means[-1], values[1001:].mean(0))
    np.testing.assert_allclose(counts[3], (values[21:28] > 0).sum(2).mean(0))
    np.testing.assert_array_equal(steps[:2], [6, 20])
    assert steps[-1] == 2 * 1002


def test_a_short_record_is_averaged_around_every_step() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    steps, (means,) = curves.averaged(np.arange(50), 8, lambda rows: [values[rows]])
    np.testing.assert_array_equal(steps, np.arange(50))
    np.testing.assert_array_equal(means, curves.moving_average(np.arange(50), values, 8))


@pytest.mark.parametrize("name", ["kl", "entropy_drop", "gap"])
def test_some_rows_of_a_run_are_read_as_of_the_whole(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run.h5", steps=40)
    with Run.open(tmp_path / "run.h5") as run:
        np.testing.assert_array_equal(run.series(name, rows=slice(7, 19)), run.series(name)[7:19])
        np.testing.assert_array_equal(run.series(name, last=5), run.series(name)[-5:])
        assert len(run.series(name, last=0)) == 0
