"""Frames of an animation, as training takes them: when, of what, and without a trace in the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import VARIANTS, configure
from support.reliable import assert_same_run, contents, small, train_in_pieces

from elboverse.contracts.records import Evaluation, Frame
from elboverse.errors import ConfigError
from elboverse.runfile.frames import SERIES
from elboverse.running.assembly import build_experiment
from elboverse.running.runs import resume, train
from elboverse.seeding import generator
from elboverse.training.frames import MOST_IMAGES, MOST_POINTS, frame_steps


def test_frames_are_taken_first_and_last_and_the_closer_together_the_earlier() -> None:
    assert frame_steps(100, 5) == (0, 6, 25, 56, 100)
    assert frame_steps(100, 2) == (0, 100)
    assert frame_steps(100, 1) == (100,)
    assert frame_steps(3, 50) == (0, 1, 2, 3)
    assert frame_steps(100_000_000, 10_000)[-1] == 100_000_000


def test_a_run_has_no_frames_unless_it_is_told_to(tmp_path: Path) -> None:
    assert train(small(), out=tmp_path).frames is None


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_frame_holds_what_encoder_and_decoder_say_of_the_first_held_out_points(replicas: int) -> None:
    config = configure("vae-2", frames=3, replicas=replicas, dataset={"name": "circle", "points": 300})
    experiment = build_experiment(config)
    loop = experiment.loop
    frames = [record for records in loop.rounds() for record in records if isinstance(record, Frame)]
    assert [frame.step for frame in frames] == list(loop.plan.frames)
    last, state = frames[-1], loop.state()
    for replica in range(replicas):
        model = config.model.build((2,)).double()
        model.load_state_dict({k[6:]: torch.tensor(v[replica]) for k, v in state.items() if k.startswith("model/")})
        data = config.dataset.build(replica)
        x = data.held_out.double()
        noise = torch.randn((len(x), 2), generator=generator(replica, "frames"), dtype=torch.float64)
        with torch.no_grad():
            encoder = model.encode(x)
            expected = {
                "latent_mean": encoder.mean,
                "latent_variance": encoder.log_var.exp().expand_as(encoder.mean),
                "reconstruction": data.scaling.undo(model.decode(encoder.mean).mean),
                "sample_mean": data.scaling.undo(model.decode(model.prior().sample(noise)).mean),
            }
        assert last.series.keys() == expected.keys()
        for name, values in expected.items():
            assert last.series[name].dtype == np.float32
            np.testing.assert_allclose(last.series[name][replica], values.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last.data[replica], data.scaling.undo(x).numpy(), rtol=1e-5, atol=1e-6)


def test_points_are_bounded_and_training_points_stand_in_for_held_out_ones() -> None:
    dataset = {"name": "circle", "points": 1300, "held_out": 0.0}
    experiment = build_experiment(configure("vae-1", frames=1, dataset=dataset, epochs=1))
    *_, frame = (record for records in experiment.loop.rounds() for record in records if isinstance(record, Frame))
    assert frame.series["latent_mean"].shape == (1, MOST_POINTS, 2)
    train_points = experiment.data.scaling.undo(experiment.data.train[:MOST_POINTS])
    np.testing.assert_allclose(frame.data[0], train_points.numpy(), rtol=1e-5, atol=1e-6)


def test_of_images_a_few_are_decoded_and_all_are_encoded(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((300, 4, 5)))
    dataset = {"name": "array", "path": str(tmp_path / "images.npy"), "held_out": 0.5}
    experiment = build_experiment(configure("vae-1", frames=1, dataset=dataset, epochs=1))
    *_, frame = (record for records in experiment.loop.rounds() for record in records if isinstance(record, Frame))
    assert frame.series["latent_variance"].shape == (1, 150, 2)
    assert frame.series["sample_mean"].shape == frame.data.shape == (1, MOST_IMAGES, 20)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_frames_leave_the_training_as_it_would_be_without_them(
    tmp_path: Path, variant: tuple[str, str | None, str], replicas: int
) -> None:
    model, constraint, variances = variant
    settings: dict[str, Any] = {"variances": variances, "replicas": replicas}
    plain = train(small(model, constraint, **settings), out=tmp_path / "plain")
    group = plain.documents["engine"]["replica_group"]
    config = small(model, constraint, frames=9, replica_group=group, **settings)
    with_frames = contents(train(config, out=tmp_path / "frames").path)
    without = contents(plain.path)
    assert len(with_frames) == len(without) + 6
    assert [name for name, values in without.items() if with_frames[name] != values] == []


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("stops", [[1], [7], [8, 9], [4, 12, 13, 29]])
def test_frames_of_an_interrupted_run_are_bitwise_those_of_an_uninterrupted_one(
    tmp_path: Path, stops: list[int], replicas: int
) -> None:
    config = small(frames=9, replicas=replicas, replica_group=1)
    whole = train(config, out=tmp_path / "whole")
    assert whole.frames is not None
    assert whole.frames.step.tolist() == [0, 2, 4, 8, 12, 17, 23, 30]
    assert_same_run(train_in_pieces(config, tmp_path / "pieces", stops), whole.path)


def test_an_extended_run_keeps_its_frames_and_is_otherwise_bitwise_the_longer_one(tmp_path: Path) -> None:
    longer = train(small(frames=4, epochs=10), out=tmp_path / "longer")
    train(small(frames=4), out=tmp_path / "extended")
    extended = resume(tmp_path / "extended", overrides=["training.epochs=10"])
    assert longer.frames is not None
    assert longer.frames.step.tolist() == [0, 7, 27, 60]
    assert extended.frames is not None
    assert extended.frames.step.tolist() == [0, 3, 13, 60]  # of 30 steps, the last one of which is not that of 60
    ours, theirs = contents(extended.path), contents(longer.path)
    assert {name for name in ours if ours[name] != theirs[name]} == {"frames/step", *(f"frames/{n}" for n in SERIES)}
    for name in SERIES:
        ends = [run.frames.read(name, 0)[[0, -1]] for run in (longer, extended) if run.frames is not None]
        np.testing.assert_array_equal(*ends)


def test_evaluations_and_frames_at_the_same_step_see_the_same_parameters() -> None:
    config = configure("vae-1", frames=2, variances="optimal", dataset={"name": "pca", "points": 240, "dimension": 4})
    records = [record for records in build_experiment(config).loop.rounds() for record in records]
    held_out = [one for one in records if isinstance(one, Evaluation) and one.split == "held_out"]
    (_first, last) = [record for record in records if isinstance(record, Frame)]
    variance = last.series["latent_mean"][0].astype(np.float64).var(0)
    np.testing.assert_allclose(variance, held_out[-1].per_latent["mean_variance"][0], rtol=1e-5)


def test_more_frames_than_a_run_file_should_hold_are_refused_with_how_many_may_be() -> None:
    dataset = {"name": "circle", "points": 4000}
    with pytest.raises(ConfigError, match=r"training.frames: got 10,000, .* so give at most 8,") as refused:
        build_experiment(configure("vae-1", frames=10_000, dataset=dataset))
    assert "67,108,864" in str(refused.value)
    with pytest.raises(ConfigError, match=r"training.frames: got 10001"):
        configure("vae-1", frames=10_001)
