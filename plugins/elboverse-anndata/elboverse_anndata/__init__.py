"""AnnData files as datasets of elboverse."""

from elboverse import Component, hookimpl

__all__ = ["elboverse_datasets"]


@hookimpl
def elboverse_datasets() -> list[Component]:
    """Return the dataset ``anndata``."""
    return [
        Component(
            "anndata",
            "elboverse_anndata.dataset:AnnDataOptions",
            "elboverse_anndata.dataset:build",
            "cells of an .h5ad file: a layer, with columns of obs as conditions and labels",
        )
    ]
