"""CelebA and folders of images: what is decoded, cached, split, and handed to training."""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import attrs
import elboverse_images
import numpy as np
import pytest
import torch
from elboverse_images import decoding, picture_cache, picture_files, sources
from elboverse_images.decoding import Recipe, decode
from elboverse_images.picture_cache import decoded
from elboverse_images.picture_datasets import (
    CelebAOptions,
    HorizontalFlip,
    ImageFolderOptions,
    build_celeba,
    build_image_folder,
)
from elboverse_images.picture_files import PictureFiles
from pictures import encoded, picture, write_folder, write_zip
from PIL import Image

from elboverse import testing
from elboverse.components.registry import Plugin, Registered, Registry, Selection, discover
from elboverse.config import from_table
from elboverse.config.structuring import build_converter, structure
from elboverse.errors import DataError
from elboverse.running.assembly import build_experiment

RECIPE = Recipe(crop=148, size=8, channels=3)
COUNT = 12


@pytest.fixture
def folder(cache: Path, tmp_path: Path) -> Path:
    """A folder of JPEGs of CelebA's size, and an empty cache."""
    return write_folder(tmp_path / "img_align_celeba", COUNT)


def celeba(folder: Path, seed: int = 0, **options: Any) -> Any:
    return build_celeba(CelebAOptions(**{"root": folder, "size": 8, "workers": 1, **options}), seed)


def images_of(folder: Path, cache: Path, recipe: Recipe = RECIPE, workers: int = 1) -> np.ndarray:
    return np.load(decoded(PictureFiles.of(folder), recipe, cache, workers))


def expected(number: int) -> np.ndarray:
    """Return what the JPEG of that number becomes, worked out with Pillow alone."""
    content = encoded(picture(number))
    with Image.open(io.BytesIO(content)) as image:
        square = image.crop((15, 35, 163, 183)).resize((8, 8), Image.Resampling.BILINEAR)
    return np.asarray(square).transpose(2, 0, 1).reshape(-1)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(decoding, "decode", forbidden)


def test_images_are_cropped_to_their_centre_and_resized(folder: Path, cache: Path) -> None:
    images = images_of(folder, cache)
    assert images.dtype == np.uint8
    assert np.array_equal(images, np.stack([expected(number) for number in range(1, COUNT + 1)]))


def test_resizing_is_antialiased() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = np.repeat(board.astype(np.uint8)[..., None], 3, axis=2)
    small = decode(encoded(pixels, "PNG"), Recipe(crop=None, size=8, channels=3))
    assert np.abs(small.astype(int) - 127).max() < 8


def test_grey_levels_have_one_channel(folder: Path, cache: Path) -> None:
    assert images_of(folder, cache, Recipe(crop=None, size=5, channels=1)).shape == (COUNT, 25)


def test_a_zip_gives_the_same_images_as_its_folder(folder: Path, cache: Path, tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "images.zip", folder)
    assert np.array_equal(images_of(zipped, cache), images_of(folder, cache))
    assert len(list(cache.glob("images-*.npy"))) == 2


def test_processes_give_the_same_images_as_one(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_cache, "IMAGES_PER_JOB", 1)
    alone = images_of(folder, cache)
    decode_one, calls = decoding.decode, []

    def counted(content: bytes, recipe: Recipe) -> Any:
        calls.append(content)
        return decode_one(content, recipe)

    monkeypatch.setattr(decoding, "decode", counted)
    assert np.array_equal(images_of(folder, tmp_path / "other", workers=2), alone)
    assert 0 < len(calls) < COUNT  # this process decodes too, but not all


def test_a_zip_is_opened_once_however_many_jobs_it_makes(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = PictureFiles.of(write_zip(tmp_path / "images.zip", folder))
    monkeypatch.setattr(picture_cache, "IMAGES_PER_JOB", 2)
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            opened.append(arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    decoded(files, RECIPE, cache, 1)
    assert len(opened) == 1


def test_the_second_start_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = celeba(folder)
    forbid_decoding(monkeypatch)
    assert celeba(folder).fingerprint == first.fingerprint
    assert celeba(folder, seed=1).fingerprint != first.fingerprint


def test_a_changed_image_is_decoded_again(folder: Path, cache: Path) -> None:
    images_of(folder, cache)
    (folder / "000002.jpg").write_bytes(encoded(picture(77)))
    assert np.array_equal(images_of(folder, cache)[1], expected(77))


def test_decoding_goes_on_where_it_was_interrupted(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_cache, "IMAGES_PER_JOB", 3)
    whole = images_of(folder, tmp_path / "other")
    decode_one, calls = decoding.decode, []

    def interrupted(content: bytes, recipe: Recipe) -> Any:
        calls.append(content)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return decode_one(content, recipe)

    monkeypatch.setattr(decoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        images_of(folder, cache)
    assert {path.suffix for path in cache.iterdir()} == {".partial", ".journal"}
    assert np.array_equal(images_of(folder, cache), whole)
    assert len(calls) == 8 + 6  # the two jobs that were done are not done again
    assert {path.suffix for path in cache.iterdir()} == {".npy"}


def test_a_torn_line_in_the_journal_counts_for_nothing(folder: Path, cache: Path, tmp_path: Path) -> None:
    whole = images_of(folder, tmp_path / "other")
    path = decoded(PictureFiles.of(folder), RECIPE, cache, 1)
    path.rename(path.with_suffix(".partial"))
    path.with_suffix(".journal").write_bytes(b'{"job": 0, "ba')
    assert np.array_equal(images_of(folder, cache), whole)


def test_what_was_lost_after_it_was_done_is_done_again(folder: Path, cache: Path, tmp_path: Path) -> None:
    whole = images_of(folder, tmp_path / "other")
    path = decoded(PictureFiles.of(folder), RECIPE, cache, 1)
    path.with_suffix(".journal").write_text('{"job": 0, "bad": {}, "checksum": 123}\n')
    path.rename(path.with_suffix(".partial"))
    path.with_suffix(".partial").write_bytes(bytes(path.with_suffix(".partial").stat().st_size))
    assert np.array_equal(images_of(folder, cache), whole)


def damage(folder: Path, number: int) -> None:
    path = folder / f"{number:06}.jpg"
    path.write_bytes(path.read_bytes()[:400])


def test_a_damaged_image_is_named_counted_and_left_out(cache: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "many", 120, 20, 24)
    damage(folder, 7)
    recipe = Recipe(crop=16, size=4, channels=3)
    with pytest.warns(RuntimeWarning, match=r"1 of 120 images cannot be decoded: 000007\.jpg \(.*left out"):
        images = images_of(folder, cache, recipe)
    whole = [decode((folder / f"{number:06}.jpg").read_bytes(), recipe) for number in range(1, 121) if number != 7]
    assert np.array_equal(images, np.stack(whole).reshape(119, -1))


def test_more_than_one_damaged_image_in_a_hundred_is_an_error(folder: Path, cache: Path) -> None:
    damage(folder, 3)
    with pytest.raises(DataError, match=r"1 of 12 images cannot be decoded: 000003\.jpg .* More than 1% is too many"):
        images_of(folder, cache)
    assert list(cache.iterdir()) == []


def test_an_image_smaller_than_the_crop_is_named(cache: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "small", 2, 100, 150)
    with pytest.raises(DataError, match="100 × 150 pixels, smaller than the crop of 148"):
        images_of(folder, cache)


@pytest.mark.parametrize("most", [1000, 178 * 218 - 1])
def test_an_image_of_suspiciously_many_pixels_is_not_decoded(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(DataError, match=r"000001\.jpg \(Image size \(38804 pixels\) exceeds limit"):
        images_of(folder, cache)


def test_a_file_of_suspiciously_many_bytes_is_not_read(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "LARGEST_FILE", 1000)
    for root in (folder, write_zip(tmp_path / "images.zip", folder)):
        with pytest.raises(DataError, match=r"000001\.jpg \(more than 1,000 bytes, so no image\)"):
            images_of(root, cache)


@pytest.mark.parametrize("kind", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_every_mode_become_colour(kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(picture(1, 40, 30)).convert(kind).save(content, "TIFF")
    with Image.open(io.BytesIO(content.getvalue())) as image:
        whole = image.convert("RGB").crop((5, 0, 35, 30)).resize((8, 8), Image.Resampling.BILINEAR)
    found = decode(content.getvalue(), Recipe(crop=None, size=8, channels=3))
    assert np.array_equal(found, np.asarray(whole).transpose(2, 0, 1))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in it; expected files that end in"):
        PictureFiles.of(tmp_path)


def test_what_is_neither_a_folder_nor_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        PictureFiles.of(tmp_path / "file")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        PictureFiles.of(tmp_path / "nowhere")


def test_images_below_the_folder_are_found_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.PNG", "sub/a.jpg", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(picture(0, 20, 20)))
    assert PictureFiles.of(tmp_path).names == ("b.PNG", "sub/a.jpg")


def test_a_full_disk_is_reported(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"needs 0 MB, but 0 MB are free; free some space"):
        images_of(folder, cache)
    monkeypatch.undo()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        images_of(folder, cache)


def test_celeba_keeps_its_contract_and_holds_out_forty_percent(folder: Path) -> None:
    component = {one.name: one for one in elboverse_images.elboverse_datasets()}["celeba"]
    data = testing.check_dataset(component, root=str(folder), size=8, workers=1)
    assert data.shape == (3, 8, 8)
    assert (len(data.train), len(data.held_out)) == (8, 4)
    assert data.train.dtype == torch.uint8
    rows = {tuple(row) for row in torch.cat((data.train, data.held_out)).tolist()}
    assert rows == {tuple(expected(number).tolist()) for number in range(1, COUNT + 1)}


@pytest.mark.parametrize(("scaling", "low", "high"), [("min-max", 0, 1), ("symmetric", -1, 1), ("none", 0, 255)])
def test_scalings_map_all_intensities_alike(folder: Path, scaling: str, low: float, high: float) -> None:
    data = celeba(folder, scaling=scaling)
    ends = torch.tensor([[0], [255]], dtype=torch.uint8).expand(2, data.dimension)
    assert torch.equal(data.scaled(ends), torch.tensor([[low], [high]]).expand(2, data.dimension).float())


def test_flipping_mirrors_half_of_the_images_left_to_right() -> None:
    flip = HorizontalFlip((2, 3, 4))
    points = torch.rand(400, 24)
    flipped = flip(points, torch.Generator().manual_seed(0))
    mirrored = points.reshape(400, 2, 3, 4).flip(3).reshape(400, 24)
    is_mirrored = (flipped == mirrored).all(1)
    assert torch.equal(flipped[~is_mirrored], points[~is_mirrored])
    assert 0.4 < is_mirrored.double().mean() < 0.6


def test_flipping_can_be_left_out(folder: Path) -> None:
    assert celeba(folder, flip=False).augment is None
    assert celeba(folder).augment == HorizontalFlip((3, 8, 8))


def test_only_the_first_images_are_taken_if_asked_for(folder: Path) -> None:
    data = celeba(folder, points=5)
    rows = {tuple(row) for row in torch.cat((data.train, data.held_out)).tolist()}
    assert rows == {tuple(expected(number).tolist()) for number in range(1, 6)}
    with pytest.raises(DataError, match=r"got dataset\.points = 13, but it has 12 images"):
        celeba(folder, points=13)


def test_a_missing_celeba_is_reported_with_every_place_and_where_to_get_it(cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        build_celeba(CelebAOptions(), 0)
    places = (cache / "celeba" / "img_align_celeba.zip", sources.SYSTEM_FOLDER / "celeba" / "img_align_celeba")
    assert all(str(place) in str(caught.value) for place in places)
    assert "mmlab.ie.cuhk.edu.hk" in str(caught.value)


def test_celeba_is_found_in_the_cache(cache: Path, folder: Path) -> None:
    (cache / "celeba").mkdir(parents=True)
    zipped = write_zip(cache / "celeba" / "img_align_celeba.zip", folder)
    assert CelebAOptions().fetch() == zipped
    assert len(build_celeba(CelebAOptions(size=8, workers=1), 0).train) == 8


def test_any_folder_of_images_can_be_trained_on(cache: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", 5, 30, 20)
    raw = {"root": str(folder), "size": 6, "channels": 1, "held_out": 0.2, "workers": 1}
    data = build_image_folder(structure(build_converter(Registry((), {})), raw, ImageFolderOptions), 0)
    assert data.shape == (1, 6, 6)
    assert (len(data.train), len(data.held_out)) == (4, 1)


def test_a_training_epoch_decodes_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = {one.name: one for one in elboverse_images.elboverse_datasets()}["celeba"]
    options = CelebAOptions(root=folder, size=8, workers=1)
    table = {
        "model": {"name": "vae-1", "network": {"name": "conv", "channels": [4]}},
        "dataset": {"name": "circle"},
        "training": {"epochs": 2, "batch_size": 4, "device": "cpu"},
    }
    config = from_table(table, discover({"ELBOVERSE_LOAD_PLUGINS": ""}))
    selection = Selection(Registered("dataset", component, Plugin("images", "elboverse-images", "0")), options)
    experiment = build_experiment(attrs.evolve(config, dataset=selection))
    forbid_decoding(monkeypatch)
    shutil.rmtree(folder)
    records = [record for records in experiment.loop.rounds() for record in records]
    assert experiment.loop.finished
    assert records


@pytest.mark.parametrize("options", [CelebAOptions, ImageFolderOptions])
def test_every_option_of_pictures_is_documented_in_the_readme(options: type) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"| `{field.name}` |" in readme for field in attrs.fields(options))
