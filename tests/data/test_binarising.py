"""Grey values made 0 and 1, once for all or anew in each epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import built_ins
from support.reliable import assert_same_run, train_in_pieces

from elboverse.config import ExperimentConfig, from_table
from elboverse.contracts import Data
from elboverse.data import binarised
from elboverse.errors import DataError
from elboverse.running.assembly import build_experiment
from elboverse.running.runs import train

GREY = torch.linspace(0, 1, 16).repeat(4000, 1)


def made(how: Any) -> Data:
    return binarised(GREY[:3000], GREY[3000:], how, shape=(4, 4), what="ramp")


@pytest.mark.parametrize("how", ["static", "per-epoch"])
def test_a_pixel_is_1_as_often_as_it_is_bright(how: str) -> None:
    data = made(how)
    assert set(data.train.unique().tolist()) == {0, 1}
    error = (GREY[0] * (1 - GREY[0]) / 3000).sqrt()
    assert ((data.train.float().mean(0) - GREY[0]).abs() <= 4.5 * error + 1e-9).all()


def test_static_draws_are_the_same_for_every_run() -> None:
    assert made("static").fingerprint == made("per-epoch").fingerprint == made("static").fingerprint
    assert made("static").renew is None


def test_points_drawn_anew_differ_from_time_to_time_and_follow_their_grey_values() -> None:
    renew = made("per-epoch").renew
    assert renew is not None
    rows = torch.arange(3000)
    first, again, other = (renew(rows, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    error = (GREY[0] * (1 - GREY[0]) / 3000).sqrt()
    assert ((first.float().mean(0) - GREY[0]).abs() <= 4.5 * error + 1e-9).all()


def test_values_that_are_no_grey_levels_are_refused() -> None:
    with pytest.raises(DataError, match=r"dataset\.binarise: got values from 0 to 2"):
        binarised(2 * GREY, GREY, "static", shape=(16,), what="ramp")
    with pytest.raises(DataError, match="0 and 1"):
        binarised(GREY.to(torch.uint8), GREY.to(torch.uint8), "static", shape=(16,), what="ramp")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    grey = np.random.default_rng(0).integers(0, 256, (120, 4, 4)).astype(np.uint8)
    grey[0, 0, 0] = 255
    np.save(path, grey)
    return path


def config(images: Path, how: str, **training: Any) -> ExperimentConfig:
    return from_table(
        {
            "model": {"name": "vae", "likelihood": "bernoulli", "network": {"name": "mlp", "hidden": [8]}},
            "dataset": {"name": "array", "path": str(images), "binarise": how},
            "training": {"epochs": 4, "batch_size": 20, "evaluate_every": 2, "device": "cpu"} | training,
        },
        built_ins(),
    )


def test_each_epoch_trains_on_other_draws_of_the_same_images(images: Path) -> None:
    anew, fixed = (build_experiment(config(images, how)).loop for how in ("per-epoch", "static"))
    seen = {}
    for name, loop in (("anew", anew), ("fixed", fixed)):
        batches = loop._batches  # type: ignore[union-attr]
        epochs = [torch.cat(list(batches.draw(first, 3).x)) for first in (0, 3)]
        seen[name] = [epoch.sum(0) for epoch in epochs]
        assert all(bool(((epoch == 0) | (epoch == 1)).all()) for epoch in epochs)
    assert torch.equal(*seen["fixed"])
    assert not torch.equal(*seen["anew"])


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_run_on_points_drawn_anew_resumes_bitwise(images: Path, tmp_path: Path, replicas: int) -> None:
    chosen = config(images, "per-epoch", replicas=replicas, replica_group=replicas)
    pieces = train_in_pieces(chosen, tmp_path / "pieces", [5])
    assert_same_run(pieces, train(chosen, out=tmp_path / "whole").path)


def test_replicas_draw_what_single_runs_draw(images: Path, tmp_path: Path) -> None:
    both = train(config(images, "per-epoch", replicas=2, replica_group=2, dtype="float64"), out=tmp_path / "both")
    alone = train(
        from_table({**_table(config(images, "per-epoch", dtype="float64")), "seed": 1}, built_ins()),
        out=tmp_path / "alone",
    )
    np.testing.assert_allclose(both.series("elbo", replica=1), alone.series("elbo", replica=0), rtol=1e-9)


def _table(chosen: ExperimentConfig) -> dict[str, Any]:
    from elboverse.config import to_table

    return to_table(chosen)


def test_grey_images_under_bernoulli_are_told_to_be_binarised(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'got \d+; expected 0 or 1.*dataset\.binarise = "static".*min-max'):
        train(config(images, "no"), out=tmp_path / "run")
