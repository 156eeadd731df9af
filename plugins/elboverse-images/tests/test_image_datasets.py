"""The datasets `mnist` and `fashion-mnist` as elboverse sees them."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path

import attrs
import elboverse_images
import numpy as np
import pytest
import torch
from elboverse_images import datasets
from elboverse_images.datasets import ImageOptions, build_fashion_mnist, build_mnist
from elboverse_images.sources import HELD_OUT, TRAIN, Source
from image_files import random_images, write_plain, write_zipped

from elboverse.components.registry import Plugin, Registered, Registry
from elboverse.config.structuring import build_converter, structure
from elboverse.contracts import Data
from elboverse.errors import ConfigError, DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TRAIN_IMAGES, HELD_OUT_IMAGES = random_images(12), random_images(7, seed=1)

both = pytest.mark.parametrize("build", [build_mnist, build_fashion_mnist])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with both files, one of them zipped."""
    write_zipped(tmp_path / "root", TRAIN, TRAIN_IMAGES)
    write_plain(tmp_path / "root", HELD_OUT, HELD_OUT_IMAGES)
    return tmp_path / "root"


@both
def test_train_and_held_out_are_the_two_files_in_their_order(root: Path, build: Callable[..., Data]) -> None:
    data = build(ImageOptions(root=root, scaling="none"), 0)
    assert torch.equal(data.train, torch.from_numpy(TRAIN_IMAGES.reshape(12, 784).astype(np.float32)))
    assert torch.equal(data.held_out, torch.from_numpy(HELD_OUT_IMAGES.reshape(7, 784).astype(np.float32)))


def test_images_are_grey_levels_of_28_by_28_in_float32(root: Path) -> None:
    data = build_mnist(ImageOptions(root=root), 0)
    assert data.shape == (28, 28)
    assert data.dimension == 784
    assert data.unit == "grey level"
    assert data.train.dtype == data.held_out.dtype == torch.float32


def test_min_max_scaling_divides_by_255_whatever_the_images_hold(tmp_path: Path) -> None:
    dark = np.full((3, 28, 28), 51, dtype=np.uint8)
    write_plain(tmp_path, TRAIN, dark)
    write_plain(tmp_path, HELD_OUT, dark * 5)
    data = build_mnist(ImageOptions(root=tmp_path), 0)
    assert torch.allclose(data.train, torch.tensor(0.2))
    assert torch.equal(data.held_out, torch.ones(3, 784))


def test_standard_scaling_is_one_map_for_all_pixels_fitted_on_train(root: Path) -> None:
    data = build_mnist(ImageOptions(root=root, scaling="standard"), 0)
    assert len(data.scaling.offset.unique()) == len(data.scaling.scale.unique()) == 1
    assert data.train.mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_scaled_images_can_be_undone(root: Path) -> None:
    data = build_mnist(ImageOptions(root=root), 0)
    assert torch.equal(
        data.scaling.undo(data.train).round().to(torch.uint8).reshape(12, 28, 28), torch.tensor(TRAIN_IMAGES)
    )


def test_the_first_so_many_images_can_be_taken(root: Path) -> None:
    whole = build_mnist(ImageOptions(root=root), 0)
    part = build_mnist(ImageOptions(root=root, points=4, held_out_points=2), 0)
    assert torch.equal(part.train, whole.train[:4])
    assert torch.equal(part.held_out, whole.held_out[:2])


def test_more_images_than_there_are_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match="13 images asked for, it has 12"):
        build_mnist(ImageOptions(root=root, points=13), 0)


def test_the_seed_changes_nothing(root: Path) -> None:
    options = ImageOptions(root=root)
    assert build_mnist(options, 0).fingerprint == build_mnist(options, 1).fingerprint


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_plain(tmp_path, TRAIN, np.zeros((2, 14, 28), dtype=np.uint8))
    with pytest.raises(DataError, match="images of 14 × 28 pixels found; expected 28 × 28"):
        build_mnist(ImageOptions(root=tmp_path), 0)


def test_missing_files_are_downloaded_into_the_cache(
    cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    files = {TRAIN: TRAIN_IMAGES, HELD_OUT: HELD_OUT_IMAGES}
    md5 = {
        name: hashlib.md5(write_zipped(served, name, images).read_bytes(), usedforsecurity=False).hexdigest()
        for name, images in files.items()
    }
    monkeypatch.setattr(datasets, "MNIST", Source("mnist", url, md5))
    data = build_mnist(ImageOptions(scaling="none"), 0)
    assert torch.equal(data.held_out, torch.from_numpy(HELD_OUT_IMAGES.reshape(7, 784).astype(np.float32)))
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == [f"{HELD_OUT}.gz", f"{TRAIN}.gz"]


@pytest.mark.parametrize("option", ["points", "held_out_points"])
def test_no_images_at_all_cannot_be_asked_for(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: got 0; expected a number ≥ 1"):
        structure(build_converter(Registry((), {})), {option: 0}, ImageOptions)


def test_every_offered_component_can_be_imported(root: Path) -> None:
    offered = {component.name: component for component in elboverse_images.elboverse_datasets()}
    assert set(offered) == {"mnist", "fashion-mnist", "celeba", "image-folder"}
    for component in (offered["mnist"], offered["fashion-mnist"]):
        registered = Registered("dataset", component, Plugin("images", "elboverse-images", "0"))
        options = structure(build_converter(Registry((), {})), {"root": str(root)}, registered.config_class())
        assert registered.build(options, 0).shape == (28, 28)


def test_the_entry_point_names_this_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["elboverse"] == {"images": elboverse_images.__name__}


def test_every_option_is_documented_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"| `{field.name}` |" in readme for field in attrs.fields(ImageOptions))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason=f"needs Debian's package dataset-fashion-mnist in {DEBIAN}")
def test_the_real_images_of_fashion_mnist() -> None:
    data = build_fashion_mnist(ImageOptions(root=DEBIAN), 0)
    assert data.train.shape == (60_000, 784)
    assert data.held_out.shape == (10_000, 784)
    assert data.train.min() == 0
    assert data.train.max() == 1
    assert data.train.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert data.train.std().item() == pytest.approx(0.3530, abs=1e-4)
    assert data.train[0].sum().item() * 255 == pytest.approx(76_247, abs=1)


def test_binarised_images_are_bytes_of_0_and_1_that_follow_the_grey_levels(tmp_path: Path) -> None:
    grey = np.broadcast_to(np.linspace(0, 255, 784).round().astype(np.uint8).reshape(28, 28), (400, 28, 28))
    write_plain(tmp_path, TRAIN, np.ascontiguousarray(grey))
    write_plain(tmp_path, HELD_OUT, HELD_OUT_IMAGES)
    data = build_mnist(ImageOptions(root=tmp_path, binarise="per-epoch"), 0)
    assert data.train.dtype == torch.uint8
    assert data.scaling.kind == "none"
    assert set(data.train.unique().tolist()) == {0, 1}
    assert data.renew is not None
    drawn = data.renew(torch.arange(400), torch.Generator().manual_seed(0))
    assert (drawn.float().mean(0) - torch.linspace(0, 1, 784)).abs().max() < 0.15


def write_labels(folder: Path, images: str, labels: list[int]) -> None:
    path = folder / (images.replace("images-idx3", "labels-idx1") + ".gz")
    path.write_bytes(gzip.compress(struct.pack(">2I", 0x801, len(labels)) + bytes(labels)))


def test_classes_are_labels_where_their_files_are_and_conditions_where_asked_for(root: Path) -> None:
    assert build_fashion_mnist(ImageOptions(root=root), 0).labels is None
    with pytest.raises(DataError, match="labels-idx1-ubyte"):
        build_fashion_mnist(ImageOptions(root=root, conditions=("class",)), 0)
    write_labels(root, TRAIN, [9, 0] * 6)
    write_labels(root, HELD_OUT, [1] * 7)
    for how in ("no", "static"):
        data = build_fashion_mnist(ImageOptions(root=root, conditions=("class",), binarise=how), 0)
        assert data.labels is not None
        assert data.labels.tolist() == ["boot", "top"] * 6 + ["trouser"] * 7
        assert data.condition_names == ("class=boot", "class=top", "class=trouser")
        assert data.conditions is not None
        assert data.conditions[0].tolist() == [1, 0, 0]


def test_damaged_labels_are_refused(root: Path) -> None:
    write_labels(root, TRAIN, [9, 0])
    with pytest.raises(DataError, match="got 2 labels; expected at least 12"):
        build_mnist(ImageOptions(root=root), 0)
    (root / "train-labels-idx1-ubyte.gz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="expected an IDX file of labels"):
        build_mnist(ImageOptions(root=root), 0)
