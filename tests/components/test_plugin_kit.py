"""`elboverse plugins new`, `check` and `show`: a package that works as it is written."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from elboverse.cli import main
from elboverse.cli.scaffold import SPELLINGS, write_plugin
from elboverse.components.hookspecs import HOOKS
from elboverse.errors import ConfigError

KINDS = tuple(kind for kind in HOOKS if kind != "launcher")  # whose check starts processes: it has a test of its own

TRIP = "regulariser"
"""The kind whose whole round trip is made here; that of every kind is made by the nox session `kit`."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Write a plugin of the kind asked for, and what pip would record of it; return its folder."""
    name = f"elboverse-new-{request.param}"
    write_plugin(name, request.param, tmp_path)
    folder = tmp_path / name
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n", encoding="utf-8")
    lines = [f"{plugin} = {module}" for plugin, module in project["entry-points"]["elboverse"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[elboverse]", *lines]), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", f"new-{request.param}")
    importlib.invalidate_caches()
    return folder


@pytest.mark.parametrize("installed", KINDS, indirect=True)
def test_what_is_written_passes_the_checks_and_its_own_tests(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = installed.name.removeprefix("elboverse-")
    main(["plugins", "check", "--no-round-trip", short])
    told = capsys.readouterr().out
    assert "FAILED" not in told
    assert told.count("ok") == (1 if short == "new-analysis" else 2)
    (test,) = (installed / "tests").glob("test_*.py")
    namespace: dict[str, object] = {}
    exec(compile(test.read_text(encoding="utf-8"), str(test), "exec"), namespace)
    check = namespace["test_it_keeps_the_contract"]
    assert callable(check)
    check(tmp_path) if "analysis" in short else check()


@pytest.mark.parametrize("installed", [TRIP], indirect=True)
def test_a_plugin_is_checked_in_a_whole_round_trip(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = installed.name.removeprefix("elboverse-")
    main(["plugins", "check", short])
    told = [line.removeprefix(f"ok      {TRIP} {short}: ") for line in capsys.readouterr().out.splitlines()]
    steps = ["contract", "train", "resume", "resume bitwise", "replicas", "analyse", "report"]
    assert told == [f"ok      plugin {short} ({installed.name} 0.1.0): loads", *steps]


def test_every_spelling_of_a_kind_is_one_that_exists() -> None:
    assert set(SPELLINGS.values()) <= set(HOOKS)


@pytest.mark.parametrize("name", ["Rings", "-rings", "a b", "rings/../x", ""])
def test_a_name_that_no_package_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="NAME: got"):
        write_plugin(name, "dataset", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_plugin("elboverse-rings", "dataset", tmp_path)
    with pytest.raises(ConfigError, match="already exists"):
        write_plugin("elboverse-rings", "dataset", tmp_path)


def test_a_component_is_shown_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plugins", "show", "model", "vae-1"])
    told = capsys.readouterr().out
    assert told.startswith("model 'vae-1' of plugin built-in")
    assert "latent_dim" in told
    assert "a network, required" in told
