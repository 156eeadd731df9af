"""The frames of an animation in a run file: what is written comes back, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from support.run_samples import CHECKPOINT, forged, rows, sample, writer

from elboverse.errors import RunFileError
from elboverse.runfile import Run, RunWriter
from elboverse.runfile.frames import SERIES

REPLICAS, LATENTS, POINTS, SHOWN, DIMENSION = 2, 3, 7, 4, 5
STEPS = (0, 4, 20)

Values = NDArray[Any]


def frame(step: int, *, points: int = POINTS) -> tuple[int, Values, dict[str, Values]]:
    """Return the arguments of `RunWriter.append_frame`."""
    generator = np.random.default_rng(step)
    shapes = {"latent": (REPLICAS, points, LATENTS), "dimension": (REPLICAS, SHOWN, DIMENSION)}
    series = {
        name: generator.normal(size=shapes[axes[-1]]).astype(np.float32) for name, (_unit, axes) in SERIES.items()
    }
    series["latent_variance"] **= 2
    return step, np.arange(REPLICAS * SHOWN * DIMENSION, dtype=np.float32).reshape(REPLICAS, SHOWN, DIMENSION), series


def filmed(path: Path) -> Path:
    with writer(path, replicas=REPLICAS) as run:
        run.append_rows(*rows(20, REPLICAS))
        for step in STEPS:
            run.append_frame(*frame(step))
        run.snapshot("finished", CHECKPOINT, 20)
    return path


def test_frames_come_back_as_they_were_stored_by_replica(tmp_path: Path) -> None:
    with Run.open(filmed(tmp_path / "run.h5")) as run:
        assert run.frames is not None
        assert run.frames.step.tolist() == list(STEPS)
        for replica in range(REPLICAS):
            assert np.array_equal(run.frames.data(replica), frame(0)[1][replica])
            for name in SERIES:
                expected = np.stack([frame(step)[2][name][replica] for step in STEPS])
                found = run.frames.read(name, replica)
                assert found.dtype == np.float32
                assert np.array_equal(found, expected)


def test_a_run_file_without_frames_has_none(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    with Run.open(path) as run:
        assert run.frames is None
    with h5py.File(path) as file:
        assert "frames" not in file


def test_frames_have_units_labelled_axes_and_checksums(tmp_path: Path) -> None:
    with h5py.File(filmed(tmp_path / "run.h5")) as file:
        assert file["frames/latent_mean"].attrs["units"] == b"1"
        assert file["frames/data"].attrs["units"] == b"data unit"
        assert [axis.label for axis in file["frames/sample_mean"].dims] == ["step", "replica", "shown", "dimension"]
        assert [axis.label for axis in file["frames/data"].dims] == ["replica", "shown", "dimension"]
        assert all(dataset.fletcher32 for dataset in file["frames"].values())


def test_a_resumed_file_goes_on_with_the_frames_up_to_where_it_is_cut(tmp_path: Path) -> None:
    path = filmed(tmp_path / "run.h5")
    with RunWriter.resume(path) as run:
        run.truncate(19, 19)
        run.append_frame(*frame(30))
        run.snapshot("finished", CHECKPOINT, 30)
    with Run.open(path) as run:
        assert run.frames is not None
        assert run.frames.step.tolist() == [0, 4, 30]
        assert np.array_equal(run.frames.read("latent_variance", 1)[-1], frame(30)[2]["latent_variance"][1])


def test_frames_that_do_not_fit_are_refused_and_leave_those_before_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with writer(path, replicas=REPLICAS) as run:
        run.append_rows(*rows(20, REPLICAS))
        run.append_frame(*frame(4))
        step, data, series = frame(5)
        for arguments, message in (
            (frame(4), "frames/step: steps must increase from above 4"),
            ((step, data, {**series, "colour": data}), "frames/colour: unknown; expected step, data, latent_mean"),
            ((step, data, {n: v for n, v in series.items() if n != "sample_mean"}), "frames/sample_mean: missing"),
            ((step, data[:1], series), "frames/data: got shape"),
            ((step, data, {**series, "latent_mean": series["latent_mean"][..., :2]}), "frames/latent_mean: got shape"),
            (frame(5, points=POINTS + 1), "frames: other shapes given than before"),
            (frame(5, points=SHOWN - 1), "frames/data: got 4 points; expected at most the 3 of latent_mean"),
        ):
            with pytest.raises(RunFileError, match=message):
                run.append_frame(*arguments)
        run.append_frame(step, data, series)
        run.snapshot("finished", CHECKPOINT, 20)
    with Run.open(path) as read:
        assert read.frames is not None
        assert read.frames.step.tolist() == [4, 5]


def replaced(file: h5py.File, name: str, values: Values) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("step", np.array([0, 4, 4]), "/frames/step: the steps do not increase strictly"),
        ("step", np.array([0, -4, 4]), "/frames/step: got -4; expected 0 or more"),
        ("step", np.array([0, 4]), "/frames/latent_mean: got shape|/frames/latent_variance: got shape|shape"),
        ("step", np.array([0.0, 4.0, 5.0]), "/frames/step: got float64"),
        ("data", np.zeros((1, SHOWN, DIMENSION), "f4"), "/frames/data: got shape"),
        ("data", np.zeros((REPLICAS, SHOWN, DIMENSION)), "/frames/data: got float64; expected float32"),
        ("latent_mean", np.zeros((3, REPLICAS, POINTS, 2), "f4"), "/frames/latent_mean: got shape"),
        ("reconstruction", np.zeros((3, REPLICAS, SHOWN), "f4"), "/frames/reconstruction: got shape"),
        ("colour", np.zeros(3, "f4"), "/frames/colour: unknown"),
    ],
)
def test_forged_frames_are_refused(tmp_path: Path, name: str, values: Values, message: str) -> None:
    path = filmed(tmp_path / "run.h5")
    with forged(path) as file:
        replaced(file, f"frames/{name}", values)
    with pytest.raises(RunFileError, match=message):
        Run.open(path)


@pytest.mark.parametrize("name", ["step", "data", *SERIES])
def test_frames_of_which_something_is_missing_are_refused(tmp_path: Path, name: str) -> None:
    path = filmed(tmp_path / "run.h5")
    with forged(path) as file:
        del file[f"frames/{name}"]
    with pytest.raises(RunFileError, match=f"/frames/{name}: missing"):
        Run.open(path)
