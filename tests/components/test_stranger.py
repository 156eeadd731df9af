"""A stranger's package, installed with pip into a fresh environment, trained and analysed by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from elboverse import Run
from elboverse.config import named_configs

ROOT = Path(__file__).parents[2]
STRANGER = Path(__file__).with_name("stranger")
SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"

BROKEN_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "elboverse-broken"
version = "0.0.1"

[project.entry-points.elboverse]
broken = "elboverse_broken"
"""

CONFIG = """
name = "ladder"
[model]
name = "tanh-vae"
latent_dim = 3
[dataset]
name = "LADDER"
points = 400
[training]
epochs = 5
batch_size = 50
device = "cpu"
"""


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.pop("ELBOVERSE_LOAD_PLUGINS", None)
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the commands of a fresh environment with elboverse, the stranger and a broken plugin.

    Only what is tested here is installed. PyTorch and the other dependencies are large, so they are taken from the
    environment that runs the tests, through a path file; what is installed comes before them on the path.
    """
    folder = tmp_path_factory.mktemp("fresh")
    broken = folder / "broken"
    (broken / "elboverse_broken").mkdir(parents=True)
    (broken / "pyproject.toml").write_text(BROKEN_PROJECT, encoding="utf-8")
    (broken / "elboverse_broken" / "__init__.py").write_text("raise RuntimeError('no licence found')", encoding="utf-8")
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    scripts = environment / SCRIPTS
    site = run(
        scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder
    ).stdout.strip()
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site, "outer.pth").write_text("\n".join(sorted(outer)), encoding="utf-8")
    installed = run(
        scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
        "--ignore-installed", ROOT, STRANGER, broken,
        folder=folder,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    return scripts


@pytest.fixture(scope="module")
def trained(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of the stranger's model on the stranger's dataset."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "ladder.toml").write_text(CONFIG, encoding="utf-8")
    training = run(scripts / "elboverse", "train", "ladder.toml", "--out", "out", folder=folder)
    assert training.returncode == 0, training.stderr
    return folder / "out"


def test_what_runs_is_what_was_installed(scripts: Path, tmp_path: Path) -> None:
    found = run(scripts / "python", "-c", "import elboverse; print(elboverse.__file__)", folder=tmp_path)
    assert Path(found.stdout.strip()).is_relative_to(scripts.parent)


def test_every_config_is_installed_with_the_package(scripts: Path, tmp_path: Path) -> None:
    listed = run(scripts / "elboverse", "config", "list", folder=tmp_path).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(named_configs())


def test_the_stranger_is_listed_with_its_distribution_version_and_components(scripts: Path, tmp_path: Path) -> None:
    listed = json.loads(run(scripts / "elboverse", "plugins", "--json", folder=tmp_path).stdout)
    (stranger,) = (plugin for plugin in listed if plugin["name"] == "stranger")
    assert (stranger["distribution"], stranger["version"], stranger["failure"]) == ("elboverse-stranger", "0.3", None)
    offered = [(component["kind"], component["name"]) for component in stranger["components"]]
    assert offered == [("model", "tanh-vae"), ("dataset", "ladder")]


def test_the_broken_plugin_is_listed_with_its_reason(scripts: Path, tmp_path: Path) -> None:
    listed = json.loads(run(scripts / "elboverse", "plugins", "--json", folder=tmp_path).stdout)
    (broken,) = (plugin for plugin in listed if plugin["name"] == "broken")
    assert (broken["distribution"], broken["version"]) == ("elboverse-broken", "0.0.1")
    assert broken["failure"] == "RuntimeError: no licence found"
    assert broken["components"] == []


def test_a_run_that_needs_the_broken_plugin_ends_with_its_reason_and_no_traceback(
    scripts: Path, tmp_path: Path
) -> None:
    ended = run(scripts / "elboverse", "train", "--set", "dataset.name=licensed", folder=tmp_path)
    assert ended.returncode == 1
    assert "Plugin broken (elboverse-broken 0.0.1)" in ended.stderr
    assert "no licence found" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_stranger_trains_beside_a_broken_plugin_and_the_run_says_who_it_was(trained: Path) -> None:
    with Run.open(trained / "run.h5") as opened:
        assert opened.status == "finished"
        assert opened.latent_dim == 3
        used = {component["kind"]: component for component in opened.components}
        elbo = opened.evaluation("held_out", "elbo")
    for kind, name in (("model", "tanh-vae"), ("dataset", "ladder")):
        assert used[kind] == {
            "kind": kind,
            "name": name,
            "plugin": "stranger",
            "distribution": "elboverse-stranger",
            "version": "0.3",
        }
    assert elbo[-1] > elbo[0]


def test_the_strangers_components_pass_the_checks_for_plugin_authors(scripts: Path, tmp_path: Path) -> None:
    lines = (
        "from elboverse.testing import check_dataset, check_model",
        "check_dataset('ladder', points=60, rungs=3)",
        "print(check_model('tanh-vae', data_shape=(4,), latent_dim=3).latent_dim)",
    )
    checked = run(scripts / "python", "-W", "error", "-c", "\n".join(lines), folder=tmp_path)
    assert checked.stdout == "3\n", checked.stderr


def test_the_strangers_run_is_analysed_latent_by_latent(scripts: Path, trained: Path) -> None:
    analysed = run(scripts / "elboverse", "analyze", "collapse", "run.h5", folder=trained)
    assert analysed.returncode == 0, analysed.stderr
    assert analysed.stderr == ""
    rows = [line.split()[0] for line in analysed.stdout.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert sorted(rows) == ["0", "1", "2"]
