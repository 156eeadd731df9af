"""``elboverse data``: what is listed, described, fetched, drawn and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elboverse.cli import main

PLUGIN = """
from pathlib import Path
import attrs
from elboverse import Component, hookimpl

@attrs.frozen(kw_only=True)
class Options:
    root: Path = Path({root!r})
    download: bool = True
    def places(self):
        return (self.root / "file",)
    def fetch(self):
        (self.root / "file").write_text("fetched")
        return self.root / "file"

def build(options, seed):
    import torch
    from elboverse.data import prepare
    assert not options.download
    return prepare(torch.arange(40.0).reshape(20, 2), seed=seed, scaling="none")

@hookimpl
def elboverse_datasets():
    return [Component("stored", Options, build, "what was stored"), Component("broken", "nowhere:Options", build, "-")]
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, with what two datasets have left there."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    root = tmp_path / "cache" / "elboverse"
    for name in ("faces", "susy"):
        (root / name / "prepared").mkdir(parents=True)
        (root / name / "prepared" / "array.npy").write_bytes(bytes(1_500_000))
        (root / name / "downloaded.zip").write_bytes(bytes(250_000))
    return root


@pytest.fixture
def stored(tmp_path: Path, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin with a dataset that reads a file, which is not there yet; the file's folder."""
    root = tmp_path / "stored"
    root.mkdir()
    install("storing", PLUGIN.format(root=str(root)))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "storing")
    return root


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["data", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(output(capsys, "list", "--json"))}


def test_the_list_says_what_is_ready_and_what_is_needed(capsys: pytest.CaptureFixture[str], stored: Path) -> None:
    rows = listed(capsys)
    assert rows["circle"]["state"] == "ready"
    assert rows["array"]["state"] == "needs dataset.path"
    assert rows["stored"]["state"] == "not here; see data fetch"
    assert rows["stored"]["places"] == [str(stored / "file")]
    assert rows["broken"]["state"].startswith("broken: dataset 'broken' of plugin storing")
    text = output(capsys, "list")
    assert f"looked for: {stored / 'file'}" in text
    assert "the unit circle in the plane" in text


def test_what_is_fetched_is_ready(capsys: pytest.CaptureFixture[str], stored: Path) -> None:
    assert output(capsys, "fetch", "stored") == f"{stored / 'file'}\n"
    assert (stored / "file").read_text() == "fetched"
    assert listed(capsys)["stored"]["state"] == "ready"
    assert "looked for" not in output(capsys, "list")


def test_what_is_generated_or_the_users_own_cannot_be_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert "circle: it is generated; there is nothing to fetch" in message(capsys, "fetch", "circle")
    assert "array: it reads files of your own" in message(capsys, "fetch", "array", "--set", "path=a.npy")


def test_info_describes_the_data_with_their_ground_truth(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "points=100", "--set", "scaling=none", "--seed", "3")
    described = json.loads(output(capsys, "info", "PCA", *settings, "--json"))
    assert (described["train_points"], described["held_out_points"]) == (50, 50)
    assert described["shape"] == [10]
    assert described["train_log_likelihood"] > 0
    assert described["range"] == described["range_as_trained"]
    text = output(capsys, "info", "pca", *settings)
    assert described["fingerprint"] in text
    assert "held out points              50" in text


def test_info_shows_the_range_in_data_units_and_as_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(-5.0, 3.0, 40).reshape(20, 2))
    arguments = ("info", "array", "--set", f"path={tmp_path / 'a.npy'}", "--set", "held_out=0.0", "--json")
    described = json.loads(output(capsys, *arguments))
    assert described["range"] == pytest.approx([-5.0, 3.0])
    assert described["range_as_trained"] == [0.0, 1.0]


def test_info_downloads_nothing(capsys: pytest.CaptureFixture[str], stored: Path) -> None:
    assert json.loads(output(capsys, "info", "stored", "--json"))["train_points"] == 10
    assert list(stored.iterdir()) == []


def test_mistakes_in_options_are_told_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'circle'?" in message(capsys, "info", "cirle")
    assert "dataset.points: got 'many' (a string)" in message(capsys, "info", "circle", "--set", "points=many")
    assert "dataset.path" in message(capsys, "info", "array")


@pytest.mark.parametrize("name", ["circle", "swiss_roll", "manifold"])
def test_points_are_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    figure = tmp_path / "figure.png"
    arguments = ("preview", name, "--figure", str(figure), "--set", "points=300")
    assert output(capsys, *arguments) == f"Figure: {figure}\n"
    with Image.open(figure) as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_images_are_drawn_as_a_grid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    images = np.zeros((40, 3, 6, 5))
    images[:, 0] = 1.0
    np.save(tmp_path / "images.npy", images)
    figure = tmp_path / "figure.png"
    path = tmp_path / "images.npy"
    output(capsys, "preview", "array", "--figure", str(figure), "--set", f"path={path}", "--set", "held_out=0.0")
    with Image.open(figure) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 0, 0)).all(1).mean() > 0.2


def test_a_figure_of_another_kind_is_refused_before_anything_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a file that ends in .pdf, .png, .svg" in message(capsys, "preview", "array", "--figure", "a.jpeg")


def test_clean_says_what_it_frees_and_keeps_what_was_downloaded(
    capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    text = output(capsys, "clean", "--yes")
    assert f"1.5 MB  {cache / 'faces' / 'prepared'}" in text
    assert text.endswith("Freed 3.0 MB.\n")
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["downloaded.zip"] * 2
    assert output(capsys, "clean", "--yes") == f"Nothing to delete in {cache}.\n"


def test_clean_deletes_downloads_if_asked_and_of_one_dataset_if_named(
    capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    assert output(capsys, "clean", "susy", "--downloads", "--yes").endswith("Freed 1.8 MB.\n")
    assert [path.name for path in cache.iterdir()] == ["faces"]
    assert len(list((cache / "faces").rglob("*.*"))) == 2


def test_clean_asks_first(capsys: pytest.CaptureFixture[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("click.confirm", lambda text, *, abort: asked.append((text, abort)))
    main(["data", "clean", "faces"])
    assert asked == [("Delete these files and free 1.5 MB?", True)]


@pytest.mark.parametrize("name", ["..", "faces/../..", "nothing", "/"])
def test_clean_touches_nothing_but_the_cache(capsys: pytest.CaptureFixture[str], cache: Path, name: str) -> None:
    assert "there is faces, susy" in message(capsys, "clean", name, "--yes")
    assert len(list(cache.rglob("*.*"))) == 4


def test_clean_finds_nothing_where_there_is_no_cache(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert "Nothing to delete" in output(capsys, "clean")
