"""MNIST and Fashion-MNIST: 60,000 training and 10,000 held-out images of 28 × 28 grey levels."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from elboverse.config.structuring import in_range
from elboverse.contracts import Data, Scaling
from elboverse.data import binarised, fingerprint, prepare
from elboverse.data.conditions import split_conditions
from elboverse.errors import DataError
from elboverse_images.idx import read_images, read_labels
from elboverse_images.sources import FASHION_MNIST, HELD_OUT, MNIST, TRAIN, Source, locate, places

__all__ = ["FashionMnistOptions", "ImageOptions", "MnistOptions", "build_fashion_mnist", "build_mnist"]

SHAPE: Final = (28, 28)
WHITE: Final = 255.0


@attrs.frozen(kw_only=True)
class ImageOptions:
    """Options of the image datasets.

    Args:
        root: a folder with the IDX files; only this one is then looked in. By default the user's cache, then
            ``/usr/share/datasets``, then the network.
        download: whether files that are missing may be downloaded.
        points: take only the first so many training images; all by default.
        held_out_points: take only the first so many held-out images; all by default.
        scaling: ``"min-max"`` maps the grey levels 0 … 255 to [0, 1], ``"standard"`` maps the training pixels as a
            whole to mean 0 and standard deviation 1, ``"none"`` leaves 0 … 255.
        binarise: ``"static"`` makes each pixel 0 or 1 once for all, 1 with its grey level as probability;
            ``"per-epoch"`` draws training pixels anew each time that they are seen. There is then no scaling.
        conditions: ``["class"]`` gives a conditional model the class of each image.
    """

    root: Path | None = None
    download: bool = True
    points: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    held_out_points: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    scaling: Literal["min-max", "standard", "none"] = "min-max"
    binarise: Literal["no", "static", "per-epoch"] = "no"
    conditions: tuple[Literal["class"], ...] = ()


@attrs.frozen(kw_only=True)
class MnistOptions(ImageOptions):
    """Options of MNIST."""

    def places(self) -> tuple[Path, ...]:
        """Return where the training images are looked for, in order."""
        return places(MNIST, TRAIN, self.root)

    def fetch(self) -> Path:
        """Return the folder of the files, which are downloaded if need be."""
        return _fetched(MNIST, self.root)


@attrs.frozen(kw_only=True)
class FashionMnistOptions(ImageOptions):
    """Options of Fashion-MNIST."""

    def places(self) -> tuple[Path, ...]:
        """Return where the training images are looked for, in order."""
        return places(FASHION_MNIST, TRAIN, self.root)

    def fetch(self) -> Path:
        """Return the folder of the files, which are downloaded if need be."""
        return _fetched(FASHION_MNIST, self.root)


def build_mnist(options: ImageOptions, seed: int) -> Data:
    """Return the handwritten digits (LeCun, Cortes and Burges)."""
    return _build(MNIST, options, seed)


def build_fashion_mnist(options: ImageOptions, seed: int) -> Data:
    """Return the pictures of clothing (Xiao, Rasul and Vollgraf 2017)."""
    return _build(FASHION_MNIST, options, seed)


def _build(source: Source, options: ImageOptions, seed: int) -> Data:
    grey, held_out_grey = (
        _images(source, file, options, count)
        for file, count in ((TRAIN, options.points), (HELD_OUT, options.held_out_points))
    )
    if options.binarise != "no":
        data = binarised(grey, held_out_grey, options.binarise, shape=SHAPE, what=source.name)
        return _with_classes(data, source, options)
    train, held_out = grey.float(), held_out_grey.float()
    data = prepare(
        train,
        seed=seed,
        held_out=held_out,
        scaling=_scaling(options.scaling, train),
        shape=SHAPE,
        unit="grey level",
        what=source.name,
    )
    return _with_classes(data, source, options)


def _with_classes(data: Data, source: Source, options: ImageOptions) -> Data:
    """Return the data with the classes of the images, where their files lie beside the images.

    Raises:
        DataError: they are to be conditions, and their files are not there.
    """
    parts = []
    for images, count in ((TRAIN, len(data.train)), (HELD_OUT, len(data.held_out))):
        path = locate(source, images, options.root, download=False)
        beside = [path.with_name(images.replace("images-idx3", "labels-idx1") + end) for end in ("", ".gz")]
        found = next((one for one in beside if one.is_file()), None)
        if found is None:
            if options.conditions:
                raise DataError(
                    f"{source.name}: dataset.conditions: no file {beside[0]} or {beside[1].name}; put it there"
                )
            return data
        numbers = read_labels(found)
        if len(numbers) < count or numbers.max(initial=0) >= len(source.classes):
            raise DataError(
                f"{found}: got {len(numbers):,} labels; expected at least {count:,}, below {len(source.classes)}"
            )
        parts.append(np.asarray(source.classes)[numbers[:count]])
    classes = np.concatenate(parts)
    data = attrs.evolve(data, labels=classes, label_name="class")
    if not options.conditions:
        return data
    conditions, columns = split_conditions({"class": classes}, source.name)
    return attrs.evolve(
        data,
        conditions=conditions,
        condition_columns=columns,
        fingerprint=fingerprint(data.train, data.held_out, conditions),
    )


def _fetched(source: Source, root: Path | None) -> Path:
    locate(source, HELD_OUT, root, download=True)
    return locate(source, TRAIN, root, download=True).parent


def _images(source: Source, file: str, options: ImageOptions, count: int | None) -> Tensor:
    path = locate(source, file, options.root, download=options.download)
    images = read_images(path)
    if images.shape[1:] != SHAPE:
        raise DataError(f"{path}: images of {images.shape[1]} × {images.shape[2]} pixels found; expected 28 × 28")
    if count is not None and count > len(images):
        raise DataError(f"{path}: {count:,} images asked for, it has {len(images):,}")
    return torch.from_numpy(images[:count].reshape(-1, SHAPE[0] * SHAPE[1]).copy())


def _scaling(kind: str, train: Tensor) -> Scaling:
    """Return one scaling for all pixels; fitted to each by itself, it would blow up those that are hardly ever lit."""
    offset, scale = 0.0, 1.0
    if kind == "min-max":
        scale = WHITE
    elif kind == "standard":
        spread, mean = torch.std_mean(train.double(), correction=0)
        offset, scale = float(mean), float(spread) or 1.0
    return Scaling(kind, torch.full((train.shape[1],), offset), torch.full((train.shape[1],), scale))
