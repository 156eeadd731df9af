"""Packages of strangers, each within 60 lines, checked, trained, resumed, analysed and reported like any of ours."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import elboverse
from elboverse.cli import main

STRANGERS = Path(__file__).with_name("strangers")
NAMES = sorted(folder.name for folder in STRANGERS.iterdir() if (folder / "pyproject.toml").is_file())
MOST_LINES = 60
SLOW = ("correlation", "pseudo", "residual", "sparse")
"""Whose round trip is left to the nox session `kit`."""

TINY = {"epochs": 2, "batch_size": 16, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put every stranger on the path, with what pip would record of it."""
    site = tmp_path_factory.mktemp("site-packages")
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            project = tomllib.loads((STRANGERS / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            metadata.mkdir()
            text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            (metadata / "METADATA").write_text(text, encoding="utf-8")
            lines = [f"{plugin} = {module}" for plugin, module in project["entry-points"]["elboverse"].items()]
            (metadata / "entry_points.txt").write_text("\n".join(["[elboverse]", *lines]), encoding="utf-8")
            patch.syspath_prepend(STRANGERS / name)
        patch.syspath_prepend(site)
        yield
    for name in NAMES:
        sys.modules.pop(f"elboverse_{name}", None)


@pytest.fixture(autouse=True)
def loaded(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", ",".join(NAMES))


def trained(folder: Path, **settings: Any) -> elboverse.Run:
    table = {"dataset": {"name": "circle", "points": 64}, **settings}
    return elboverse.train({**table, "training": {**TINY, **settings.get("training", {})}}, out=folder)


def of_vae(**parts: Any) -> dict[str, Any]:
    return {"name": "vae", "network": {"hidden": [8]}, **parts}


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_package_passes_every_check_of_a_whole_round_trip(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["plugins", "check", name, *(["--no-round-trip"] if name in SLOW else [])])
    told = capsys.readouterr().out
    assert f"plugin {name} (elboverse-{name} 0.1): loads" in told
    assert "FAILED" not in told
    assert ("report" in told) == (name not in {*SLOW, "cells"})  # whose option path has no default


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_package_is_short(name: str) -> None:
    (module,) = (STRANGERS / name).glob("*.py")
    assert sum(bool(line.strip()) for line in module.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_a_residual_network_trains_on_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((48, 4, 4)))
    dataset = {"name": "array", "path": str(tmp_path / "images.npy")}
    model = {"name": "vae-3", "network": {"name": "residual"}}
    with trained(tmp_path / "run", model=model, dataset=dataset, training={"learning_rate": 3e-3, "epochs": 4}) as run:
        elbo = run.evaluation("train", "elbo")
    assert elbo[-1] > elbo[0]


def test_an_objective_of_its_own_is_what_a_model_is_trained_by_and_is_recorded(tmp_path: Path) -> None:
    settings = {"annealing": {"name": "constant", "weight": 0.0}, "training": {"epochs": 30, "learning_rate": 1e-2}}
    with trained(tmp_path, model={"name": "ladder"}, **settings) as run:
        objective = run.series("objective")
        theorem = run.documents["family"]["theorem"]
    assert objective[-4:].mean() > objective[:4].mean() + 1
    assert "an objective of its own" in theorem["decoder"]


def test_a_model_with_an_objective_of_its_own_takes_no_other(tmp_path: Path) -> None:
    with pytest.raises(
        elboverse.errors.ConfigError, match=r"training\.free_bits: got 0\.5; expected 0\.0, since model"
    ):
        trained(tmp_path, model={"name": "ladder"}, training={"free_bits": 0.5})


def write_h5ad(path: Path, counts: Any, batch: Any) -> None:
    """Write what AnnData's specification says of a file with counts and one column of obs."""

    def element(parent: Any, name: str, kind: str, values: Any = None, **more: Any) -> Any:
        made = parent.create_group(name) if values is None else parent.create_dataset(name, data=values)
        made.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0", **more})
        return made

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        element(file, "X", "array", counts)
        for part, count, columns in (("obs", len(counts), {"batch": batch}), ("var", counts.shape[1], {})):
            frame = element(file, part, "dataframe", _index="_index")
            frame.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
            for name, values in {"_index": [f"{part}-{row}" for row in range(count)], **columns}.items():
                element(frame, name, "string-array", [str(value).encode() for value in values])


def test_cells_of_an_anndata_file_train_a_conditional_vae(tmp_path: Path) -> None:
    pytest.importorskip("anndata")
    draws = np.random.default_rng(0)
    batch = np.array(["one", "two"])[draws.integers(2, size=80)]
    rate = np.where(batch == "one", 3.0, 9.0)[:, None] * np.linspace(0.5, 2, 4)
    write_h5ad(tmp_path / "cells.h5ad", draws.poisson(rate).astype(np.float32), batch)
    dataset = {"name": "cells", "path": str(tmp_path / "cells.h5ad")}
    with trained(tmp_path / "run", model={"name": "conditional"}, dataset=dataset) as run:
        assert [one["name"] for one in run.data["conditions"]] == ["batch"]
        assert np.isfinite(run.evaluation("held_out", "elbo")).all()
    main(["analyze", "collapse", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"name": "laplace", "learned": True}, {"name": "sparse"}),
        ({"name": "vamp", "components": 8}, {"name": "pseudo", "inputs": 8}),
    ],
    ids=["laplace", "vamp"],
)
def test_a_strangers_prior_trains_as_the_built_in_one(tmp_path: Path, ours: Any, theirs: Any) -> None:
    elbos = []
    for index, prior in enumerate((ours, theirs)):
        with trained(tmp_path / str(index), model=of_vae(prior=prior)) as run:
            elbos.append(run.series("elbo"))
    np.testing.assert_allclose(*elbos, rtol=2e-4)


def test_a_strangers_regulariser_trains_as_the_built_in_one(tmp_path: Path) -> None:
    found = []
    for name, series in (("beta-tc", "total_correlation"), ("tc", "tc")):
        with trained(tmp_path / name, model=of_vae(), regulariser={"name": name, "weight": 3.0}) as run:
            found.append(run.series(series))
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-5)


def test_a_strangers_optimiser_is_what_it_says() -> None:
    from elboverse.components import discover

    registered = discover().find("optimiser", "rmsprop")
    ours = registered.build(registered.config_class()())
    values, expected = torch.tensor([1.0, -2.0]), torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    state, theirs = ours.state(values), torch.optim.RMSprop([expected], lr=0.01)
    for _ in range(5):
        ours.update(values, 2 * values, state, 0.01)
        expected.grad = 2 * expected.detach()
        theirs.step()
    torch.testing.assert_close(values, expected.detach())


def test_a_strangers_sink_follows_a_run(tmp_path: Path) -> None:
    trained(tmp_path, sinks=[{"name": "board"}]).close()
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert "<p>run: finished</p><p>4 of 4 steps</p><p>ELBO (train): " in page
    assert not (tmp_path / "tensorboard").exists()


def test_a_strangers_analysis_draws_what_it_says(tmp_path: Path) -> None:
    trained(tmp_path / "run").close()
    main(["analyze", "rates", str(tmp_path / "run"), "--figure", str(tmp_path / "rates.svg")])
    assert "<svg" in (tmp_path / "rates.svg").read_text(encoding="utf-8")
    result = elboverse.analyze(tmp_path / "run", "rates")
    (axes,) = result.figure().axes
    assert [line.get_ydata()[-1] for line in axes.get_lines()] == sorted(result.data["kl"], reverse=True)
