"""AnnData files as datasets: layers, conditions, labels, genes, and a negative binomial trained on counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elboverse_anndata.dataset import AnnDataOptions, build

from elboverse.cli import main
from elboverse.components.registry import discover
from elboverse.errors import DataError
from elboverse.testing import check_dataset

anndata = pytest.importorskip("anndata")
CELLS, GENES = 90, 8


@pytest.fixture(scope="module", params=["sparse", "dense"])
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    import pandas as pd
    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 2, CELLS)
    counts = generator.poisson(np.exp(0.5 + 1.5 * kinds[:, None] * (np.arange(GENES) < 3))).astype(np.float32)
    obs = pd.DataFrame(
        {"kind": np.where(kinds, "B", "T").astype(object), "batch": generator.choice(["a", "b"], CELLS).astype(object)},
        index=pd.Index([f"cell-{number}" for number in range(CELLS)], dtype=object),
        dtype=object,
    )
    stored = csr_matrix(counts) if request.param == "sparse" else counts
    found = anndata.AnnData(X=np.log1p(counts), obs=obs, layers={"counts": stored})
    found.var_names = pd.Index([f"gene-{number}" for number in range(GENES)], dtype=object)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    found.write_h5ad(path)
    return path, counts


def test_a_layer_is_read_whole_with_what_obs_says_of_each_cell(cells: tuple[Path, Any]) -> None:
    path, counts = cells
    data = build(AnnDataOptions(path=path, layer="counts", label="kind", conditions=("batch",)), seed=0)
    assert data.order is not None
    points = np.concatenate([data.train.numpy(), data.held_out.numpy()])
    np.testing.assert_array_equal(points, counts[data.order])
    assert data.names == tuple(f"gene-{number}" for number in range(GENES))
    assert data.condition_names == ("batch=a", "batch=b")
    assert data.index is not None
    assert data.index[0] == f"cell-{data.order[0]}"
    assert data.labels is not None
    assert set(data.labels) == {"B", "T"}


def test_the_most_variable_genes_are_kept(cells: tuple[Path, Any]) -> None:
    data = build(AnnDataOptions(path=cells[0], layer="counts", genes=3), seed=0)
    assert data.names == ("gene-0", "gene-1", "gene-2")


def test_cells_are_scaled_to_one_total_before_the_logarithm(cells: tuple[Path, Any]) -> None:
    data = build(AnnDataOptions(path=cells[0], layer="counts", log_total=100.0), seed=0)
    np.testing.assert_allclose(np.expm1(data.train.numpy()).sum(1), 100.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "count"}, "got dataset.layer = 'count'; it has the layers 'counts'"),
        ({"label": "knd"}, r"obs has no column 'knd' \(did you mean 'kind'\?\); it has 'kind', 'batch'"),
        ({"path": "nowhere.h5ad"}, "no such file; dataset.path names an .h5ad file"),
        ({"path": "text.h5ad"}, "cannot be read as an AnnData file"),
    ],
)
def test_what_the_file_lacks_is_named(
    cells: tuple[Path, Any], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "text.h5ad").write_text("no cells here")
    if "path" in settings:
        settings = {**settings, "path": tmp_path / settings["path"]}
    with pytest.raises(DataError, match=message):
        build(AnnDataOptions(**{"path": cells[0], **settings}), seed=0)


def test_it_keeps_the_contract_of_datasets(cells: tuple[Path, Any]) -> None:
    check_dataset(discover().find("dataset", "anndata").component, path=cells[0], layer="counts")


def test_latents_of_a_negative_binomial_stand_beside_the_cells(cells: tuple[Path, Any], tmp_path: Path) -> None:
    config = tmp_path / "cells.toml"
    config.write_text(
        f'[model]\nname = "vae"\nlatent_dim = 2\nlikelihood = {{ name = "negative-binomial" }}\n'
        f'[dataset]\nname = "anndata"\npath = "{cells[0]}"\nlayer = "counts"\nlabel = "kind"\n'
        '[training]\nepochs = 3\nbatch_size = 24\ndevice = "cpu"\n',
        encoding="utf-8",
    )
    main(["train", str(config), "--quiet", "--out", str(tmp_path / "run")])
    main(["encode", str(tmp_path / "run"), "-o", str(tmp_path / "latents.csv")])
    header, first, *rest = (tmp_path / "latents.csv").read_text().splitlines()
    assert header == "row,split,cell,kind,z0,z1"
    assert first.split(",")[2] == "cell-0"
    assert len(rest) == CELLS - 1
