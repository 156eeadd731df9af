"""Images are read as a viewer shows them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from elboverse_images.decoding import Recipe, decode
from elboverse_images.picture_files import PictureFiles
from PIL import Image

RECIPE = Recipe(crop=None, size=8, channels=3)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_a_photo_is_turned_as_its_camera_was_held() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # the upper half is white; turned by orientation 3, the lower half
    exif = Image.Exif()
    exif[0x0112] = 3
    found = decode(stored(Image.fromarray(pixels), "PNG", exif=exif), RECIPE)
    assert found[0, 7, 0] == 255
    assert found[0, 0, 0] == 0


def test_sixteen_bits_keep_their_ramp() -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    found = decode(stored(Image.fromarray(ramp), "PNG"), RECIPE)
    assert np.abs(found[0].ravel() - np.linspace(0, 255, 64)).max() <= 1


def test_floating_point_from_zero_to_one_becomes_the_whole_range() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    found = decode(stored(Image.fromarray(ramp), "TIFF"), RECIPE)
    assert (found.min(), found.max()) == (0, 255)


def test_colours_under_full_transparency_are_not_shown() -> None:
    hidden = Image.new("RGBA", (8, 8), (200, 10, 10, 0))
    assert (decode(stored(hidden, "PNG"), RECIPE) == 255).all()


def test_linked_folders_are_read_once_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "other" / "a.gif")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root")
    assert PictureFiles.of(tmp_path / "root").names == ("link/a.gif",)
