"""The built site and what the checks of it need; `nox -s docs` installs it. Not a part of the suite."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("mkdocs") else ["*.py"]  # what they need is large: only `nox -s docs` has it
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built anew without a warning."""
    commands = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    folder = tmp_path_factory.mktemp("site")
    loaded = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    loaded.plugins.run_event("startup", command="build", dirty=False)
    commands.build(loaded)
    return folder
