"""MNIST, Fashion-MNIST, CelebA and folders of images as datasets for elboverse."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse import Component, hookimpl

__all__ = ["elboverse_datasets"]

_IDX = "elboverse_images.datasets"
_PICTURES = "elboverse_images.picture_datasets"


@hookimpl
def elboverse_datasets() -> Iterable[Component]:
    """Offer the image datasets."""
    return (
        Component("mnist", f"{_IDX}:MnistOptions", f"{_IDX}:build_mnist", "handwritten digits, 28 × 28 grey levels"),
        Component(
            "fashion-mnist",
            f"{_IDX}:FashionMnistOptions",
            f"{_IDX}:build_fashion_mnist",
            "pictures of clothing, 28 × 28 grey levels",
        ),
        Component(
            "celeba",
            f"{_PICTURES}:CelebAOptions",
            f"{_PICTURES}:build_celeba",
            "202,599 faces, 64 × 64 pixels in colour, from your copy of CelebA",
        ),
        Component(
            "image-folder",
            f"{_PICTURES}:ImageFolderOptions",
            f"{_PICTURES}:build_image_folder",
            "any folder or zip of images, cropped and resized",
        ),
    )
