"""What holds for every test: no installed plugin is loaded, and PyTorch keeps to one thread."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_installed_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "")
    monkeypatch.delenv("ELBOVERSE_STRICT_PLUGINS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch  # here, so that tests of what is imported can be collected without it

    torch.set_num_threads(1)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that installs a distribution with one plugin: metadata and module as pip would write them.

    It takes the plugin's name and its module's source and returns the module's name.
    """
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    modules: list[str] = []
    numbers = itertools.count()

    def installed(name: str, source: str, distribution: str | None = None, version: str = "1.2.3") -> str:
        distribution = distribution or f"{name}-dist"
        module = f"plugin_module_{next(numbers)}"
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (metadata / "METADATA").write_text(text, encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[elboverse]\n{name} = {module}\n", encoding="utf-8")
        return module

    yield installed
    for module in modules:
        sys.modules.pop(module, None)
