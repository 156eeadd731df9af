"""Cells of an AnnData file (Virshup et al. 2021): log-expression of genes, with batches as conditions."""

from pathlib import Path

import attrs
import numpy as np
import torch

from elboverse import Component, hookimpl
from elboverse.data import prepare


@attrs.frozen(kw_only=True)
class Options:
    path: Path = attrs.field(metadata={"help": "an .h5ad file"})
    condition: str = attrs.field(default="batch", metadata={"help": "column of obs that the model is given"})
    label: str | None = attrs.field(default=None, metadata={"help": "column of obs that colours figures"})
    total: float = attrs.field(default=1e4, metadata={"help": "counts that every cell is scaled to"})

    def places(self):
        return [self.path]


def build(options, seed):
    from anndata import read_h5ad  # large, and needed here alone

    cells = read_h5ad(options.path)
    counts = cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)
    counts = torch.from_numpy(counts.astype(np.float64))
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return prepare(
        torch.log1p(options.total * share),
        seed=seed,
        held_out=0.2,
        scaling="standard",
        names=tuple(cells.var_names),
        conditions={options.condition: cells.obs[options.condition].to_numpy()},
        labels=None if options.label is None else cells.obs[options.label].astype(str).to_numpy(),
        label_name=options.label or "",
        what=str(options.path),
    )


@hookimpl
def elboverse_datasets():
    return [Component("cells", Options, build, "cells of an AnnData file, given their batches")]
