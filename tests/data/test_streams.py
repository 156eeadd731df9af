"""Streams: the Gaussian stream, batches in order, what evaluations look at, and what a run file keeps of it all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.builders import built_ins, configure
from torch import Tensor

from elboverse import testing
from elboverse.analysis.trained import TrainedModel
from elboverse.builtin.datasets import gaussian_stream
from elboverse.builtin.datasets.gaussian_stream import (
    GaussianStream,
    GaussianStreamOptions,
    RegimeOptions,
    build_gaussian_stream,
)
from elboverse.components.hookspecs import Component
from elboverse.config import from_table
from elboverse.contracts import Data, Regime
from elboverse.errors import ConfigError, PluginError
from elboverse.running.assembly import build_experiment
from elboverse.running.runs import train
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.intake import Intake
from elboverse.training.noise import Noise
from elboverse.training.streaming import StreamedBatches, Timetable

SMALL = GaussianStreamOptions(
    regimes=(RegimeOptions(latents=2, points=70), RegimeOptions(latents=1, points=45)), dimension=3, held_out_points=50
)
TABLE: dict[str, Any] = {
    "name": "gaussian-stream",
    "regimes": [{"latents": 2, "points": 70}, {"latents": 1, "points": 45}],
    "dimension": 3,
    "held_out_points": 50,
}


@attrs.define(eq=False)
class Counting:
    """A stream whose points are their positions; held-out ones are minus their regime's number, less one."""

    points_per_pass: int = 115
    regimes: Sequence[Regime] = (Regime(name="a", first_point=0), Regime(name="b", first_point=70))

    def points(self, first: int, count: int) -> Tensor:
        return torch.arange(first, first + count, dtype=torch.float64)[:, None]

    def held_out(self, position: int) -> Tensor:
        return torch.full((4, 1), -1.0 - (position % 115 >= 70), dtype=torch.float64)


def batches(batch_size: int, streams: int = 1) -> StreamedBatches:
    float64, cpu = torch.float64, torch.device("cpu")
    noise = Noise((batch_size, 2), tuple(range(streams)), 8, float64, cpu)
    many = [Counting() for _ in range(streams)]
    return StreamedBatches(many, Timetable(many[0], batch_size), batch_size, noise, Intake(cpu, float64))


# --- the Gaussian stream -----------------------------------------------------------------------------------------


def test_the_gaussian_stream_keeps_its_contract() -> None:
    testing.check_dataset("gaussian-stream", **{key: value for key, value in TABLE.items() if key != "name"})


@given(data=st.data())
def test_points_of_the_gaussian_stream_follow_from_their_position(data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 3 * 115))
    count = data.draw(st.integers(1, 150))
    position = data.draw(st.integers(first, first + count - 1))
    stream = GaussianStream(SMALL, 3)
    assert torch.equal(stream.points(first, count)[position - first], GaussianStream(SMALL, 3).points(position, 1)[0])


def test_a_block_border_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_stream, "BLOCK", 16)
    together = GaussianStream(SMALL, 0).points(0, 230)
    apart = GaussianStream(SMALL, 0)
    assert torch.equal(together, torch.cat([apart.points(first, 10) for first in range(0, 230, 10)]))


def test_every_pass_and_seed_has_points_of_its_own() -> None:
    rows = torch.cat([GaussianStream(SMALL, seed).points(0, 3 * 115) for seed in (0, 1)])
    assert len({tuple(row.tolist()) for row in rows}) == 2 * 3 * 115


@pytest.mark.parametrize("index", [0, 1])
def test_each_regime_has_the_stated_covariance_and_log_likelihood(index: int) -> None:
    options = attrs.evolve(
        SMALL, regimes=(RegimeOptions(latents=2, points=60_000), RegimeOptions(latents=1, points=60_000)), noise=0.3
    )
    stream = GaussianStream(options, 5)
    regime = stream.regimes[index]
    for points in (
        stream.points(regime.first_point, 60_000),
        stream.points(regime.first_point + stream.points_per_pass, 60_000),
    ):
        eigenvalues = torch.tensor(regime.covariance_eigenvalues, dtype=torch.float64)
        covariance = points.T @ points / len(points)
        found, axes = torch.linalg.eigh(covariance)
        assert torch.allclose(found.flip(0) / eigenvalues, torch.ones_like(found), atol=5 * math.sqrt(2 / 60_000))
        density = DiagonalGaussian(torch.zeros(3, dtype=torch.float64), eigenvalues.flip(0).log())
        values = density.log_prob(points @ axes)
        assert regime.log_likelihood == pytest.approx(
            float(values.mean()), abs=4 * float(values.std()) / math.sqrt(len(points)) + 1e-4
        )


def test_scales_are_the_first_of_the_equally_spaced_ones() -> None:
    [regime] = GaussianStream(GaussianStreamOptions(regimes=(RegimeOptions(latents=4),)), 0).regimes
    scales = np.linspace(1, 5, 10)[:4]
    assert regime.latents == 4
    assert regime.covariance_eigenvalues == pytest.approx([*sorted(scales**2 + 0.01, reverse=True), *[0.01] * 6])


def test_held_out_points_are_of_the_regime_and_never_shown() -> None:
    stream = GaussianStream(SMALL, 0)
    shown = {tuple(row.tolist()) for row in stream.points(0, 5 * 115)}
    for position in (0, 69, 70, 114):
        assert not shown & {tuple(row.tolist()) for row in stream.held_out(position)}
    assert torch.equal(stream.held_out(0), stream.held_out(69 + 2 * 115))
    assert not torch.equal(stream.held_out(69), stream.held_out(70))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regimes": []}, r"dataset\.regimes: got none"),
        ({"regimes": [{"latents": 2}, {"latents": 4}]}, r"dataset: got a regime with 4 latents; expected at most"),
        ({"regimes": [{"points": 5}]}, r"dataset\.regimes\.0\.latents"),
        ({"noise": 0.0}, r"dataset\.noise: got 0\.0"),
        ({"dimension": 10_000, "held_out_points": 10**8}, "expected 1,073,741,824 numbers"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_table({"dataset": {**TABLE, **change}}, built_ins())


# --- batches in order --------------------------------------------------------------------------------------------


@given(st.integers(1, 115), st.integers(0, 40), st.integers(1, 8))
def test_batches_come_in_order_each_point_once_and_passes_begin_anew(size: int, first: int, count: int) -> None:
    source = batches(size)
    per_pass = 115 // size
    for step, x in zip(range(first, first + count), source.draw(first, count).x, strict=True):
        start = step // per_pass * 115 + step % per_pass * size
        assert x.flatten().tolist() == list(range(start, start + size))


def test_replicas_have_an_axis_in_front() -> None:
    [x] = batches(10, streams=3).draw(2, 1).x
    assert x.shape == (3, 10, 1)


def test_a_batch_larger_than_a_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 115, the points of one pass"):
        Timetable(Counting(), 116)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0, range(20)),  # the first ones, about to be trained on
        (1, range(20)),
        (5, range(30, 50)),  # the latest ones
        (7, range(50, 70)),
        (8, range(70, 90)),  # early in a regime: its first ones
        (11, range(90, 110)),
        (12, range(115, 135)),  # the five points left over are skipped
    ],
)
def test_an_evaluation_sees_the_latest_points_of_the_regime(done: int, expected: range) -> None:
    source = batches(10)
    assert source.latest(done, 20).flatten().tolist() == list(expected)


@pytest.mark.parametrize("size", [9, 32, 100])
def test_an_evaluation_after_a_batch_across_a_border_sees_the_regime_that_ends(size: int) -> None:
    source = batches(size)
    done = -(-70 // size)  # the first point of the last batch is still of the first regime, its last one no more
    assert done * size > 70
    assert source.latest(done, 20).flatten().tolist() == list(range(50, 70))
    assert source.held_out(done).flatten().tolist() == [-1.0] * 4
    assert source.latest(0, 5).flatten().tolist() == list(range(5))


def test_as_many_points_are_evaluated_as_the_shortest_regime_has() -> None:
    assert batches(10).latest(3, 1000).shape == (45, 1)


@pytest.mark.parametrize(("done", "value"), [(0, -1.0), (7, -1.0), (8, -2.0), (11, -2.0), (12, -1.0)])
def test_held_out_points_are_of_the_regime_of_the_last_step(done: int, value: float) -> None:
    assert batches(10).held_out(done).flatten().tolist() == [value] * 4


def test_turns_are_the_first_steps_of_regimes_where_there_are_several() -> None:
    assert Timetable(Counting(), 10).turns() == (0, 7)
    assert Timetable(Counting(), 9).turns() == (0, 8)
    assert Timetable(Counting(), 115).turns() == ()  # no batch begins in the second one
    assert Timetable(Counting(regimes=[Regime(name="all", first_point=0)]), 10).turns() == ()


# --- a run -------------------------------------------------------------------------------------------------------


def streaming(**training: Any) -> Any:
    return configure("linear-vae", dataset=TABLE, **({"batch_size": 5, "epochs": 2, "evaluate_every": 1} | training))


def test_a_run_records_regimes_and_evaluates_where_they_end(tmp_path: Path) -> None:
    run = train(streaming(), out=tmp_path)
    stream = run.data["stream"]
    assert stream["points_per_pass"] == run.data["train_points"] == 115
    assert [(regime["latents"], regime["first_point"]) for regime in stream["regimes"]] == [(2, 0), (1, 70)]
    assert stream["regimes"][0]["covariance_eigenvalues"] == pytest.approx([3.0**2 + 0.01, 1.0 + 0.01, 0.01])
    assert run.evaluation_steps("held_out").tolist() == [0, 14, 23, 37, 46]
    assert run.evaluation_steps("train").tolist() == [0, 14, 23, 37, 46]


def test_evaluations_may_come_several_times_an_epoch(tmp_path: Path) -> None:
    run = train(streaming(evaluate_every=0.2), out=tmp_path)
    assert run.evaluation_steps("held_out").tolist() == sorted({*range(0, 46, 5), 14, 23, 37, 46})


def test_a_stream_of_one_regime_is_evaluated_when_the_config_says(tmp_path: Path) -> None:
    dataset = {**TABLE, "regimes": [{"latents": 2, "points": 50}]}
    run = train(configure("linear-vae", dataset=dataset, batch_size=10, epochs=6, evaluate_every=3), out=tmp_path)
    assert run.evaluation_steps("held_out").tolist() == [0, 15, 30]


def test_a_recorded_row_is_that_of_its_batch_before_the_update(tmp_path: Path) -> None:
    config = streaming(learning_rate=1e-30, variance_learning_rate=1e-30)  # the parameters stay as they were
    run = train(config, out=tmp_path)
    model = TrainedModel.of(run)
    stream = GaussianStream(SMALL, 0)
    for step in (0, 13, 14, 22, 23, 45):
        position = step // 23 * 115 + step % 23 * 5
        direct = model.statistics(stream.points(position, 5).numpy()).elbo.mean()
        assert run.series("elbo")[step, 0] == pytest.approx(direct, rel=1e-9)


def test_a_trained_model_has_the_points_around_the_checkpoint(tmp_path: Path) -> None:
    model = TrainedModel.of(train(streaming(), out=tmp_path))
    stream = GaussianStream(SMALL, 0)
    assert np.array_equal(model.points("train"), stream.points(115 + 70, 45).numpy())
    assert np.array_equal(model.points("held_out"), stream.held_out(70).numpy())


def test_a_trained_model_after_a_batch_across_a_border_has_the_points_of_the_regime_that_ends(tmp_path: Path) -> None:
    model = TrainedModel.of(train(streaming(batch_size=72, epochs=1), out=tmp_path))
    stream = GaussianStream(SMALL, 0)
    assert np.array_equal(model.points("train"), stream.points(25, 45).numpy())
    assert np.array_equal(model.points("held_out"), stream.held_out(0).numpy())


def test_replicas_see_streams_of_their_own(tmp_path: Path) -> None:
    together = train(streaming(replicas=2, evaluate_every=2), out=tmp_path / "together")
    for seed in (0, 1):
        config = configure("linear-vae", dataset=TABLE, seed=seed, batch_size=5, epochs=2, evaluate_every=2)
        alone = train(config, out=tmp_path / str(seed))
        assert np.allclose(together.series("elbo")[:, seed], alone.series("elbo")[:, 0], rtol=1e-6)
        for split in ("train", "held_out"):
            ours, theirs = (run.evaluation(split, "elbo") for run in (together, alone))
            assert np.allclose(ours[:, seed], theirs[:, 0], rtol=1e-6)


def test_closed_form_variances_fit_the_regime(tmp_path: Path) -> None:
    run = train(streaming(variances="optimal"), out=tmp_path)
    assert abs(run.evaluation("train", "decoder_residual")[1:]).max() < 1e-9


# --- contracts ---------------------------------------------------------------------------------------------------


def broken(**changes: Any) -> Component:
    class Broken(GaussianStream):
        def held_out(self, position: int) -> Tensor:
            return changes["held_out"](super().held_out(position)) if "held_out" in changes else super().held_out(0)

        def points(self, first: int, count: int) -> Tensor:
            points = super().points(first, count)
            return changes["points"](points) if "points" in changes else points

    def build(options: GaussianStreamOptions, seed: int) -> Data:
        data = build_gaussian_stream(SMALL, seed)
        stream = Broken(SMALL, seed)
        stream.regimes = changes.get("regimes", stream.regimes)
        stream.points_per_pass = changes.get("points_per_pass", stream.points_per_pass)
        return attrs.evolve(data, stream=changes.get("stream", stream), augment=changes.get("augment"))

    return Component("broken", GaussianStreamOptions, build, "for tests")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": 3}, r"stream is a int; expected an object with points_per_pass"),
        ({"regimes": (Regime(name="late", first_point=1),)}, r"begin at points \[1\] of 115"),
        ({"regimes": (Regime(name="a", first_point=0), Regime(name="b", first_point=115))}, r"\[0, 115\] of 115"),
        ({"regimes": (Regime(name="a", first_point=0.0),)}, r"first_point of a regime of its stream is 0\.0"),  # type: ignore[arg-type]
        ({"points_per_pass": 115.0}, r"points_per_pass of its stream is 115\.0; expected an int"),
        *(
            ({"regimes": (Regime(name="a", first_point=0, covariance_eigenvalues=values),)}, "expected are 3 finite")
            for values in ((2.0, 1.0), (1.0, 1.0, -1.0), (math.inf, 1.0, 1.0), (1.0, 2.0, 0.5), (1.0, 1.0, 0.0))
        ),
        ({"augment": lambda points, _generator: points}, r"augment is given beside a stream; expected only one"),
        ({"points": lambda points: points[:, :2]}, r"stream\.points\(0, 2\) has shape \(2, 2\); expected \(2, 3\)"),
        ({"points": lambda points: points.long()}, r"stream\.points\(0, 2\) has type torch\.int64"),
        ({"points": lambda points: points + len(points)}, r"differs from the same points asked for one by one"),
        ({"held_out": lambda points: points[:0]}, r"only one of held_out and stream\.held_out\(0\) is empty"),
    ],
)
def test_a_stream_that_breaks_its_contract_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        testing.check_dataset(broken(**changes))


def test_replicas_need_the_same_regimes(monkeypatch: pytest.MonkeyPatch) -> None:
    original = GaussianStream.__init__

    def other(self: GaussianStream, options: GaussianStreamOptions, seed: int) -> None:
        original(self, attrs.evolve(options, regimes=options.regimes[:: -1 if seed else 1]), seed)

    monkeypatch.setattr(GaussianStream, "__init__", other)
    with pytest.raises(PluginError, match="regimes of its stream begin elsewhere with seed 1"):
        build_experiment(streaming(replicas=2))
