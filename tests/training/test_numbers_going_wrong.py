"""Numbers going wrong: in the data, in training, and a variance that runs to zero."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reliable import assert_prefix, small
from torch import Tensor

from elboverse.builtin.models.vae1 import VAE1
from elboverse.builtin.models.vae3 import VAE3
from elboverse.cli import main
from elboverse.errors import DataError, NonFiniteError
from elboverse.runfile import Run
from elboverse.running.runs import resume, train
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.theory.identities import LOG_VAR_FLOOR

DIVERGING: dict[str, Any] = {"learning_rate": 1e30, "variance_learning_rate": 1e-3, "dtype": "float32"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_in_the_data_that_is_not_finite_is_told_by_row_and_column(tmp_path: Path, bad: float) -> None:
    points = np.random.default_rng(0).random((80, 3))
    points[17, 2] = bad
    np.save(tmp_path / "points.npy", points)
    config = small(dataset={"name": "array", "path": str(tmp_path / "points.npy")})
    message = rf"points.npy: row 17 \(counted from 0\), column [23].*: got {bad}"
    if np.isnan(bad):
        message = r"points.npy: got 1 missing values .* the first in row 17, column 2 \(counted from 0\)"
    with pytest.raises(DataError, match=message):
        train(config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_where_with_norms_and_advice_and_keeps_all_before(tmp_path: Path) -> None:
    healthy = train(small(**(DIVERGING | {"learning_rate": 1e-3})), out=tmp_path / "healthy").path
    with pytest.raises(NonFiniteError) as raised:
        train(small(**DIVERGING), out=tmp_path / "run")
    found = re.fullmatch(
        r"step (\d+): (\w+)( of latent \d)? is (nan|inf|-inf); the last good row is step (\d+)\. After (\d+) updates "
        r"the largest parameter norms are ([\w.]+ \S+, [\w.]+ \S+, [\w.]+ \S+)\. Everything before it is saved\. Lower "
        r"training\.learning_rate or training\.variance_learning_rate, or raise the initial log-variances\.",
        str(raised.value),
    )
    assert found is not None, str(raised.value)
    assert int(found[1]) == int(found[5]) + 1 == int(found[6])
    norms = [float(part.split()[1]) for part in found[7].split(", ")]
    assert norms[0] > 1e29  # the parameters that gave the term, not what came of them
    path = tmp_path / "run" / "run.h5"
    with Run.open(path) as run, Run.open(healthy) as other:
        assert run.status == "failed"
        assert len(run.steps) == run.checkpoint_step == int(found[1])
        np.testing.assert_array_equal(run.series("elbo")[0], other.series("elbo")[0])
    main(["analyze", "collapse", str(path)])
    with pytest.raises(NonFiniteError, match=re.escape(str(raised.value))):
        resume(path)  # it fails as it did, and nothing is lost by trying
    assert assert_prefix(path, path) == int(found[1])


def test_a_run_whose_evaluation_is_not_finite_stops_there(tmp_path: Path) -> None:
    config = small(**DIVERGING, batch_size=120, evaluate_every=1)  # one step per epoch
    with pytest.raises(NonFiniteError, match=r"^evaluation after 1 updates: \w+( of latent \d)? on train is "):
        train(config, out=tmp_path)
    with Run.open(tmp_path / "run.h5") as run:
        assert run.evaluation_steps("train").tolist() == [0]
        assert run.steps.tolist() == [0]


def test_a_step_that_is_not_recorded_is_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"^step 1: \w+( of latent \d)? is .*; the last good row is step 0"):
        train(small(**DIVERGING, record_every=100, evaluate_every=5), out=tmp_path)


def without_error(decode: Callable[[Any, Tensor], DiagonalGaussian]) -> Callable[[Any, Tensor], DiagonalGaussian]:
    def decoded(model: Any, z: Tensor) -> DiagonalGaussian:
        gaussian = decode(model, z)
        return DiagonalGaussian(0.0 * gaussian.mean, gaussian.log_var)

    return decoded


@pytest.mark.parametrize(("model", "replicas"), [("vae-1", 1), ("vae-1", 2), ("vae-3", 1)])
def test_a_decoder_variance_that_runs_to_zero_is_held_at_its_floor_and_the_run_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, replicas: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for variant in (VAE1, VAE3):
        monkeypatch.setattr(variant, "decode", without_error(variant.decode))
    np.save(tmp_path / "points.npy", np.ones((80, 3)))  # one point, which the scaling puts to zero
    data = {"name": "array", "path": str(tmp_path / "points.npy")}
    settings = {"variance_learning_rate": 2.0, "batch_size": 10, "dtype": "float32", "replicas": replicas}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train(small(model, dataset=data, **settings), out=tmp_path / "run")
    log_var = run.series("decoder_log_var")
    assert log_var.min() == log_var[-1].max() == LOG_VAR_FLOOR
    told = [str(warning.message) for warning in caught if "is held at its floor" in str(warning.message)]
    assert len(told) == 1
    first = int(np.argmax((log_var == LOG_VAR_FLOOR).any(1)))
    assert told[0].startswith(f"step {first}: the decoder variance is held at its floor, ln σ² = -23: ")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["train", "--like", str(run.path), "--out", str(tmp_path / "again")])
    printed = capsys.readouterr()
    assert f"Warning: step {first}: the decoder variance is held at its floor" in printed.err
    (line,) = [line for line in printed.out.splitlines() if line.startswith("decoder ln σ²")]
    assert "-23.0" in line
    assert "held at its floor" in line


def test_a_decoder_variance_at_its_floor_in_one_dimension_of_three_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, others = VAE3.decode, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)

    def decoded(model: VAE3, z: Tensor) -> DiagonalGaussian:
        gaussian = decode(model, z)
        return DiagonalGaussian(others * gaussian.mean, others * gaussian.log_var + (1 - others) * LOG_VAR_FLOOR)

    monkeypatch.setattr(VAE3, "decode", decoded)
    points = np.random.default_rng(0).normal(size=(80, 3))
    points[:, 2] = 1.0  # which the scaling puts to zero
    np.save(tmp_path / "points.npy", points)
    data = {"name": "array", "path": str(tmp_path / "points.npy")}
    with (
        pytest.warns(RuntimeWarning, match="1 of 3 dimensions do not vary"),
        pytest.warns(RuntimeWarning, match=r"^step 0: .* floor, ln σ² = -23 in 33.3 % of points and dimensions: "),
    ):
        run = train(small("vae-3", dataset=data, batch_size=10), out=tmp_path / "run")
    assert run.series("decoder_log_var").min() > LOG_VAR_FLOOR


def test_a_decoder_variance_above_its_floor_is_not_told(tmp_path: Path) -> None:
    train(small(variance_learning_rate=0.5), out=tmp_path)  # a warning would be an error
