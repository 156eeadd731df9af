"""CelebA, and any folder of images: decoded once into a cache of bytes, then mapped into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import attrs
import torch
from torch import Generator, Tensor

from elboverse.config.structuring import in_range
from elboverse.contracts import Data, Scaling
from elboverse.data import binarised, fingerprint
from elboverse.data.cache import cache_folder, prepared_folder
from elboverse.errors import DataError
from elboverse_images import sources
from elboverse_images.decoding import Recipe
from elboverse_images.picture_cache import decoded, split_points
from elboverse_images.picture_files import PictureFiles

__all__ = ["CelebAOptions", "HorizontalFlip", "ImageFolderOptions", "build_celeba", "build_image_folder"]

SCALINGS: Final = {"min-max": (0.0, 255.0), "symmetric": (127.5, 127.5), "none": (0.0, 1.0)}
"""Offset and scale of the intensities."""

CELEBA_NAMES: Final = ("img_align_celeba.zip", "img_align_celeba")
CELEBA_PAGE: Final = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@attrs.frozen(kw_only=True)
class PictureOptions:
    """Options that CelebA and folders of images share.

    Args:
        size: side of the square images in pixels, after resizing with antialiasing.
        points: take only the first so many images in the order of their names; all by default.
        held_out: share of the images that training never sees, 0 ≤ f < 1.
        scaling: ``"min-max"`` maps the intensities 0 … 255 to [0, 1], ``"symmetric"`` to [−1, 1], the range of tanh,
            ``"none"`` leaves them.
        flip: whether each image of a training batch is mirrored with probability one half.
        binarise: ``"static"`` makes each intensity 0 or 1 once for all, 1 with the intensity as probability, without
            mirroring; ``"per-epoch"`` draws training images anew each time that they are seen. There is then no
            scaling.
        workers: how many processes decode; as many as there are cores by default.
    """

    size: int = attrs.field(default=64, validator=in_range(minimum=1, maximum=4096))
    points: int | None = attrs.field(default=None, validator=in_range(minimum=2))
    held_out: float = attrs.field(default=0.4, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "symmetric", "none"] = "min-max"
    flip: bool = True
    binarise: Literal["no", "static", "per-epoch"] = "no"
    workers: int | None = attrs.field(default=None, validator=in_range(minimum=1))


@attrs.frozen(kw_only=True)
class CelebAOptions(PictureOptions):
    """Options of CelebA.

    Args:
        root: a folder of its JPEGs, or ``img_align_celeba.zip``; by default the one in the user's cache, else that in
            ``/usr/share/datasets/celeba``.
        crop: side of the centred square that is cut out of the 178 × 218 pixels.
    """

    root: Path | None = None
    crop: int = attrs.field(default=148, validator=in_range(minimum=1))

    def places(self) -> tuple[Path, ...]:
        """Return where the images are looked for, in order."""
        if self.root is not None:
            return (self.root,)
        folders = (cache_folder("celeba"), sources.SYSTEM_FOLDER / "celeba")
        return tuple(folder / name for folder in folders for name in CELEBA_NAMES)

    def fetch(self) -> Path:
        """Return where the images are; they cannot be downloaded by a program.

        Raises:
            DataError: they are nowhere; the message says where to get them.
        """
        for place in self.places():
            if place.exists():
                return place
        raise DataError(
            f"celeba: nothing at {' or '.join(map(str, self.places()))}; its terms ask you to download "
            f"img_align_celeba.zip yourself, from {CELEBA_PAGE}. Put it there, or give dataset.root"
        )


@attrs.frozen(kw_only=True)
class ImageFolderOptions(PictureOptions):
    """Options of a folder of images.

    Args:
        root: the folder, or a zip; images in folders below it are taken too.
        channels: 3 for red, green and blue, 1 for grey levels.
        crop: side of the centred square that is cut out, in pixels; by default the largest that each image has.
    """

    root: Path
    channels: Literal[1, 3] = 3
    crop: int | None = attrs.field(default=None, validator=in_range(minimum=1))

    def places(self) -> tuple[Path, ...]:
        """Return where the images are looked for."""
        return (self.root,)


@attrs.frozen
class HorizontalFlip:
    """Mirrors each image of a batch with probability one half, left to right.

    Args:
        shape: (channels, height, width).
    """

    shape: tuple[int, int, int]

    def __call__(self, points: Tensor, stream: Generator) -> Tensor:
        """Return points, shape (B, D), some of them mirrored."""
        images = points.reshape(-1, *self.shape)
        chosen = torch.rand(len(images), 1, 1, 1, generator=stream, device=points.device) < 0.5
        return torch.where(chosen, images.flip(-1), images).reshape(points.shape)


def build_celeba(options: CelebAOptions, seed: int) -> Data:
    """Return the aligned and cropped faces of CelebA (Liu, Luo, Wang and Tang 2015).

    Raises:
        DataError: the images are nowhere, too many are damaged, or the cache cannot be written.
    """
    recipe = Recipe(crop=options.crop, size=options.size, channels=3)
    return _build("celeba", options.fetch(), recipe, options, seed)


def build_image_folder(options: ImageFolderOptions, seed: int) -> Data:
    """Return the images of a folder.

    Raises:
        DataError: as for `build_celeba`.
    """
    recipe = Recipe(crop=options.crop, size=options.size, channels=options.channels)
    return _build("image-folder", options.root, recipe, options, seed)


def _build(name: str, root: Path, recipe: Recipe, options: PictureOptions, seed: int) -> Data:
    workers = options.workers or os.cpu_count() or 1
    path = decoded(PictureFiles.of(root, options.points), recipe, prepared_folder(name), workers)
    train, held_out = split_points(path, options.held_out, seed)
    if options.binarise != "no":
        flipped = HorizontalFlip(recipe.shape) if options.flip and options.binarise == "per-epoch" else None
        return binarised(train, held_out, options.binarise, shape=recipe.shape, what=name, augment=flipped)
    offset, scale = SCALINGS[options.scaling]
    dimension = recipe.bytes_per_image
    return Data(
        train=train,
        held_out=held_out,
        shape=recipe.shape,
        scaling=Scaling(options.scaling, torch.full((dimension,), offset), torch.full((dimension,), scale)),
        fingerprint=fingerprint(train, held_out),
        unit="intensity",
        augment=HorizontalFlip(recipe.shape) if options.flip else None,
    )
