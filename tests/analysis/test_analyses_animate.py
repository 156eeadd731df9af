"""`animate`: the frames of a run as numbers, as a sheet and as a film."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.builders import configure
from support.synthetic_runs import terms, write_run

from elboverse.analysis import style
from elboverse.analysis.animation import FASTEST_GIF
from elboverse.builtin.analyses.animate.analysis import AnimateOptions, build
from elboverse.cli.figures import write_animation
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, ConfigError, RunFileError
from elboverse.runfile import Run, RunWriter
from elboverse.running.runs import train

STEPS = 200
FRAMES = (0, 8, 50, 112, 200)


def write_film(
    path: Path,
    *,
    latent_dim: int = 2,
    shape: tuple[int, ...] = (2,),
    points: int = 60,
    shown: int = 60,
    replicas: int = 1,
    steps: int = STEPS,
    broken: bool = False,
    described: dict[str, Any] | None = None,
    spoilt: dict[str, float] | None = None,
) -> Path:
    """Write a run with random frames, latents that become active one by one, and points that spread out."""
    generator = np.random.default_rng(0)
    dimension = math.prod(shape)
    documents = {
        "config": {"name": "film", "model": {"name": "vae-1"}, "training": {"batch_size": 10}},
        "environment": {},
        "components": [],
        "data": {"train_points": 200, "dimension": dimension, "shape": list(shape), "unit": "cm"} | (described or {}),
    }
    with RunWriter(path, documents=documents, replicas=replicas, latent_dim=latent_dim) as writer:
        if steps:
            settings: dict[str, Any] = {"active": min(2, latent_dim), "noise": 1.0, "prior_log_var": 0.0, "seed": 0}
            writer.append_rows(np.arange(steps), *terms(np.arange(steps), replicas, latent_dim, **settings))
        data = generator.normal(size=(replicas, shown, dimension)).astype(np.float32)
        spoil = spoilt or {}
        data[0, 3, 0] = spoil.get("data", 0.0)
        for step in FRAMES if steps else FRAMES[:1]:
            encoded = generator.normal(size=(2, replicas, points, latent_dim)).astype(np.float32)
            decoded = generator.normal(size=(2, replicas, shown, dimension)).astype(np.float32)
            if broken:
                decoded[:, :, 0] = np.inf
            series = {
                "latent_mean": encoded[0],
                "latent_variance": np.exp(encoded[1]),
                "reconstruction": decoded[0],
                "sample_mean": decoded[1],
            }
            for name in spoil.keys() & series.keys():
                series[name][0, 3, 0] = spoil[name]
            writer.append_frame(step, data, series)
        writer.snapshot("finished" if steps else "running", {}, steps)
    return path


def analyse(path: Path, **options: Any) -> Result:
    return build(AnimateOptions(**options), Run.open(path))


def film(result: Result, path: Path) -> Any:
    assert result.animate is not None
    write_animation(result.animate, path)
    return opened(path)


def opened(path: Path) -> Any:
    return Image.open(io.BytesIO(path.read_bytes()))


# Numbers


@pytest.mark.parametrize("replica", [0, 1])
def test_every_frame_is_described_by_the_run_file_s_own_numbers(tmp_path: Path, replica: int) -> None:
    path = write_film(tmp_path / "run.h5", replicas=2)
    run, result = Run.open(path), analyse(path, replica=replica)
    assert run.frames is not None
    assert [frame["step"] for frame in result.data["frames"]] == list(FRAMES)
    means, variances = (run.frames.read(f"latent_{name}", replica).astype(float) for name in ("mean", "variance"))
    errors = run.frames.read("reconstruction", replica).astype(float) - run.frames.data(replica)
    elbo = run.series("elbo", replica).astype(float)
    for number, frame in enumerate(result.data["frames"]):
        assert frame["root_mean_squared_error"] == pytest.approx(np.sqrt(np.square(errors[number]).mean()))
        for latent, values in enumerate(frame["latents"]):
            assert values["mean_deviation"] == pytest.approx(means[number, :, latent].std())
            assert values["root_mean_variance"] == pytest.approx(np.sqrt(variances[number, :, latent].mean()))
        step = min(frame["step"], STEPS - 1)
        assert frame["elbo"] == pytest.approx(elbo[max(0, step - 2) : step + 2].mean())
        assert frame["epoch"] == frame["step"] / 20
    assert len(result.rows) == len(FRAMES)
    assert json.loads(json.dumps(result.data, allow_nan=False)) == result.data


def test_of_many_latents_the_two_of_the_largest_entropy_drop_are_shown(tmp_path: Path) -> None:
    path = write_film(tmp_path / "run.h5", latent_dim=7)
    drops = Run.open(path).series("entropy_drop", 0)[-100:].mean(0)
    result = analyse(path)
    assert result.data["latents"] == sorted(np.argsort(-drops)[:2])
    assert "Of 7 latents, two are shown, those of the largest entropy drop: 0 and 3." in result.notes


def test_of_images_only_those_that_were_decoded_are_shown_in_data_space(tmp_path: Path) -> None:
    result = analyse(write_film(tmp_path / "run.h5", shape=(5, 4), shown=40))
    assert (result.data["points"], result.data["points_shown"]) == (60, 40)
    assert "The first 40 of the points are shown in data space." in result.notes


# Sentences


def test_a_run_without_frames_says_how_to_record_some(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5")
    with pytest.raises(AnalysisError, match=r"run.h5: no frames are recorded, .* --set training.frames=50"):
        analyse(path)


def test_a_replica_that_the_run_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"replica 3; expected 0 … 0"):
        analyse(write_film(tmp_path / "run.h5"), replica=3)


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_a_run_stopped_before_its_first_step_has_one_frame_and_no_bounds(tmp_path: Path, latent_dim: int) -> None:
    result = analyse(write_film(tmp_path / "run.h5", steps=0, latent_dim=latent_dim))
    (frame,) = result.data["frames"]
    assert (frame["step"], frame["elbo"]) == (0, None)
    assert film(result, tmp_path / "film.gif").size == (700, 370)


@pytest.mark.parametrize(
    "described",
    [{"names": 5}, {"names": [1, 2]}, {"names": "ab"}, {"shape": ["a", 2]}, {"shape": [-1, -2]}, {"shape": [[], 1, 2]}],
    ids=str,
)
def test_what_a_document_says_wrongly_of_the_data_is_as_if_it_said_nothing(
    tmp_path: Path, described: dict[str, Any]
) -> None:
    result = analyse(write_film(tmp_path / "run.h5", described=described))
    assert result.draw is not None
    labels = [axes.get_xlabel() for axes in result.draw().axes]
    assert "x0 (cm)" in labels


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("data", np.nan, r"run.h5: /frames/data: got infinity or NaN; expected finite numbers"),
        ("data", np.inf, r"run.h5: /frames/data: got infinity or NaN; expected finite numbers"),
        ("latent_variance", -0.5, r"run.h5: /frames/latent_variance: got -0.5; expected variances of 0 or more"),
    ],
)
def test_frames_that_no_training_makes_are_refused(tmp_path: Path, name: str, value: float, message: str) -> None:
    path = write_film(tmp_path / "run.h5", spoilt={name: value})
    with pytest.raises(RunFileError, match=message):
        analyse(path)


def test_an_mp4_without_ffmpeg_is_refused_before_the_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elboverse.cli.figures import check_figure

    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(AnalysisError, match=r"film.mp4 needs ffmpeg, which is not found; install it, or give a .gif"):
        check_figure(tmp_path / "film.mp4", moving=True)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_mp4_is_written_by_ffmpeg(tmp_path: Path) -> None:
    result = analyse(write_film(tmp_path / "run.h5"))
    assert result.animate is not None
    write_animation(result.animate, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


# Figures


@pytest.mark.parametrize(
    ("latent_dim", "shape"),
    [(1, (1,)), (2, (2,)), (3, (3,)), (5, (8,)), (2, (5, 4)), (2, (3, 4, 4)), (1, (4, 4))],
    ids=str,
)
@pytest.mark.parametrize("broken", [False, True])
def test_films_and_sheets_of_every_kind_of_data_are_drawn(
    tmp_path: Path, latent_dim: int, shape: tuple[int, ...], broken: bool
) -> None:
    result = analyse(write_film(tmp_path / "run.h5", latent_dim=latent_dim, shape=shape, broken=broken))
    assert result.draw is not None
    assert len(style.render(result.draw(), ".png")) > 5000
    picture = film(result, tmp_path / "film.gif")
    assert (picture.n_frames, picture.format) == (len(FRAMES), "GIF")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(5, [200] * 4), (30, [30, 40, 30, 30]), (40, [20, 30, 30, 20]), (50, [20] * 4), (60, [20] * 4)],
)
def test_a_film_moves_at_its_rate_and_holds_its_last_frame(tmp_path: Path, rate: int, expected: list[int]) -> None:
    picture = film(analyse(write_film(tmp_path / "run.h5"), rate=rate), tmp_path / "film.gif")
    durations, pictures = [], []
    for number in range(picture.n_frames):
        picture.seek(number)
        durations.append(picture.info["duration"])
        pictures.append(np.asarray(picture.convert("L")))
    assert durations == [*expected, 1500]
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))


@pytest.mark.parametrize(("rate", "is_said"), [(50, False), (51, True)])
def test_where_a_gif_is_slower_than_its_rate_a_note_says_so(tmp_path: Path, rate: int, is_said: bool) -> None:
    result = analyse(write_film(tmp_path / "run.h5"), rate=rate)
    note = f"A GIF is played at {FASTEST_GIF} frames per second, the most that it can; give an .mp4 for {rate}."
    assert (note in result.notes) == is_said


def test_the_markers_move_along_the_curves(tmp_path: Path) -> None:
    result = analyse(write_film(tmp_path / "run.h5"))
    assert result.animate is not None
    animation, rate = result.animate()
    assert rate == 10
    bounds = animation._fig.axes[3]  # type: ignore[attr-defined]
    for number, frame in enumerate(result.data["frames"]):
        animation._draw_frame(number)  # type: ignore[attr-defined]
        elbo, entropy_sum = (line for line in bounds.get_lines() if line.get_marker() == "o")
        assert elbo.get_xdata()[0] == min(frame["step"], STEPS - 1)
        low, high = bounds.get_ylim()
        assert elbo.get_ydata()[0] == pytest.approx(min(max(frame["elbo"], low), high))
        assert entropy_sum.get_ydata()[0] == pytest.approx(min(max(frame["entropy_sum"], low), high))
    animation.save(tmp_path / "film.gif", writer="pillow")


# The command


def test_a_trained_circle_becomes_a_film_without_torch(tmp_path: Path) -> None:
    dataset = {"name": "circle", "points": 300}
    config = configure("vae-1", frames=6, epochs=3, dataset=dataset, dtype="float32")
    path = train(config, out=tmp_path).path
    code = "import sys; from elboverse.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code, "analyze", "animate", str(path), "--figure", str(tmp_path / "film.gif"), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(ran.stdout)
    assert [frame["step"] for frame in printed["frames"]] == list(Run.open(path).frames.step)  # type: ignore[union-attr]
    assert opened(tmp_path / "film.gif").n_frames == 6
    assert sorted(one.name for one in tmp_path.iterdir() if "tmp" in one.name) == []


def test_other_analyses_make_no_films(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5")
    ran = subprocess.run(
        [sys.executable, "-m", "elboverse", "analyze", "bounds", str(path), "--figure", str(tmp_path / "film.gif")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "expected a file that ends in .pdf, .png, .svg" in ran.stderr


@pytest.mark.parametrize("rate", [0, 61])
def test_a_rate_that_nobody_can_watch_is_refused(rate: int) -> None:
    with pytest.raises((ValueError, ConfigError), match=r"rate|expected"):
        AnimateOptions(rate=rate)
