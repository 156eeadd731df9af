"""MNIST and Fashion-MNIST as datasets for elboverse."""

from __future__ import annotations

from collections.abc import Iterable

from elboverse import Component, hookimpl

__all__ = ["elboverse_datasets"]

_OPTIONS = "elboverse_images.datasets:ImageOptions"


@hookimpl
def elboverse_datasets() -> Iterable[Component]:
    """Offer the image datasets."""
    return (
        Component(
            "mnist", _OPTIONS, "elboverse_images.datasets:build_mnist", "handwritten digits, 28 × 28 grey levels"
        ),
        Component(
            "fashion-mnist",
            _OPTIONS,
            "elboverse_images.datasets:build_fashion_mnist",
            "pictures of clothing, 28 × 28 grey levels",
        ),
    )
