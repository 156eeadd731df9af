"""Cells of an AnnData file (Virshup et al. 2021): X or a layer, in blocks of rows, and what obs says of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from elboverse.config import in_range
from elboverse.contracts import Data
from elboverse.data import prepare
from elboverse.errors import DataError, nearest

__all__ = ["AnnDataOptions", "build"]

ROWS_AT_ONCE = 1024


@attrs.frozen(kw_only=True)
class AnnDataOptions:
    """Options of the dataset ``anndata``.

    Args:
        path: the ``.h5ad`` file.
        layer: the layer to take in place of ``X``, such as ``"counts"``.
        label: column of obs that colours figures and stands beside latents; training never sees it.
        conditions: columns of obs that a conditional model is given, such as ``["batch"]``.
        genes: how many genes to keep, those whose variance exceeds their mean the most; all by default.
        log_total: counts that every cell is scaled to before ln(1 + x) is taken; None keeps the values as they are.
        held_out: share of the cells that training never sees.
        scaling: ``"none"`` for counts, ``"standard"`` or ``"min-max"`` for what is treated as continuous.
        seed: fixes the split, while the run's seed varies the rest.
    """

    path: Path = attrs.field(metadata={"help": "The .h5ad file."})
    layer: str | None = attrs.field(default=None, metadata={"help": "Layer to take in place of X."})
    label: str | None = attrs.field(default=None, metadata={"help": "Column of obs that colours figures."})
    conditions: tuple[str, ...] = attrs.field(default=(), metadata={"help": "Columns of obs that the model is given."})
    genes: int | None = attrs.field(
        default=None, validator=in_range(minimum=1), metadata={"help": "How many of the most variable genes to keep."}
    )
    log_total: float | None = attrs.field(
        default=None,
        validator=in_range(above=0),
        metadata={"help": "Scale each cell to this total and take ln(1 + x)."},
    )
    held_out: float = attrs.field(
        default=0.2, validator=in_range(minimum=0, below=1), metadata={"help": "Share of the cells held out."}
    )
    scaling: Literal["none", "standard", "min-max"] = attrs.field(
        default="none", metadata={"help": "How values are scaled."}
    )
    seed: int | None = attrs.field(default=None, metadata={"help": "Fixes the split."})

    def places(self) -> list[Path]:
        """Return the file that it reads."""
        return [self.path]


def build(options: AnnDataOptions, seed: int) -> Data:
    """Return the cells.

    Raises:
        DataError: the file is missing or not an AnnData file, or lacks the layer or a column of obs.
    """
    cells = _opened(options.path)
    try:
        source = _source(cells, options)
        for name in (*options.conditions, *([] if options.label is None else [options.label])):
            if name not in cells.obs:
                known = [str(column) for column in cells.obs.columns]
                hint = nearest(name, known)
                raise DataError(
                    f"{options.path}: obs has no column {name!r}{f' ({hint})' if hint else ''}; it has "
                    f"{', '.join(map(repr, known)) or 'none'}"
                )
        kept = _most_variable(source, options.genes)
        names = [str(name) for name in cells.var_names]
        values = np.empty((cells.n_obs, cells.n_vars if kept is None else len(kept)), dtype=np.float32)
        for first, block in _blocks(source):
            taken = block if options.log_total is None else _log_of_total(block, options.log_total)
            values[first : first + len(block)] = taken if kept is None else taken[:, kept]
        beside = {name: _column(cells.obs[name]) for name in options.conditions}
        label = None if options.label is None else cells.obs[options.label].astype(str).to_numpy()
        index = np.asarray(cells.obs_names.astype(str))
    finally:
        cells.file.close()
    data = prepare(
        torch.from_numpy(values),
        seed=seed if options.seed is None else options.seed,
        held_out=options.held_out,
        scaling=options.scaling,
        names=names if kept is None else [names[gene] for gene in kept],
        conditions=beside or None,
        labels=label,
        label_name=options.label or "",
        what=str(options.path),
    )
    order = np.arange(len(values)) if data.order is None else data.order
    return attrs.evolve(
        data,
        index=index[order],
        index_name="cell",
        place=lambda row: f"cell {index[row]!r}",
        notes=_notes(options, kept),
    )


def _opened(path: Path) -> Any:
    from anndata import read_h5ad  # large, and needed here alone

    if not path.is_file():
        raise DataError(
            f"{path}: {'is not a file' if path.exists() else 'no such file'}; dataset.path names an .h5ad file"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the file's own history, which changes nothing here
            return read_h5ad(path, backed="r")
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an AnnData file: {error}") from error


def _source(cells: Any, options: AnnDataOptions) -> Any:
    if options.layer is None:
        if cells.X is None:
            raise DataError(
                f"{options.path}: it has no X; dataset.layer names one of {', '.join(cells.layers) or 'none'}"
            )
        return cells.X
    if options.layer not in cells.layers:
        known = ", ".join(repr(str(name)) for name in cells.layers) or "none"
        raise DataError(f"{options.path}: got dataset.layer = {options.layer!r}; it has the layers {known}")
    return cells.layers[options.layer]


def _blocks(source: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks of rows, dense, so that a sparse file is never dense twice."""
    for first in range(0, source.shape[0], ROWS_AT_ONCE):
        block = source[first : first + ROWS_AT_ONCE]
        dense = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
        yield first, dense.astype(np.float32, copy=False)


def _log_of_total(block: NDArray[Any], total: float) -> NDArray[Any]:
    return np.asarray(np.log1p(total * block / np.maximum(block.sum(1, keepdims=True), 1.0)))


def _most_variable(source: Any, genes: int | None) -> NDArray[Any] | None:
    """Return the genes with the largest variance / mean, in the file's order; None for all of them."""
    if genes is None or genes >= source.shape[1]:
        return None
    total, squares = np.zeros(source.shape[1]), np.zeros(source.shape[1])
    for _first, block in _blocks(source):
        total += block.sum(0, dtype=np.float64)
        squares += np.square(block, dtype=np.float64).sum(0)
    mean = total / source.shape[0]
    dispersion = (squares / source.shape[0] - mean**2) / np.maximum(mean, 1e-12)
    return np.sort(np.argsort(-dispersion, kind="stable")[:genes])


def _column(column: Any) -> NDArray[Any]:
    return np.asarray(column) if column.dtype.kind in "fiub" else np.asarray(column.astype(str))


def _notes(options: AnnDataOptions, kept: NDArray[Any] | None) -> tuple[str, ...]:
    taken = "X" if options.layer is None else f"the layer {options.layer!r}"
    return (f"{taken} is taken" + ("" if kept is None else f", the {len(kept):,} most variable genes of it"),)
