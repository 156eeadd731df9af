"""The project's checks. `nox` runs the tests, the linter and the type checker; `nox -l` lists the rest.

Every session installs the versions that constraints.txt pins.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True

LAUNCHERS = {"elboverse-ray", "elboverse-slurm"}  # what they need is large: tested beside the peers
PLUGINS = sorted(
    str(folder)
    for folder in Path("plugins").iterdir()
    if (folder / "pyproject.toml").is_file() and folder.name not in LAUNCHERS
)
TEST_TOOLS = ("polars", "hatchling", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
SOAK = [str(path) for path in sorted(Path("tests/soak").glob("*.py")) if path.stem != "conftest"]
A_HANGING_TEST_FAILS = ("--timeout", "300")  # seconds; with the stacks of all threads
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the tests run side by side, one process per core


def install(session: nox.Session, *packages: str) -> None:
    session.install("-c", "constraints.txt", *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of the core and of the plugins, against the installed wheels."""
    install(session, ".[tables,excel,filters,sklearn,xarray]", *PLUGINS, *TEST_TOOLS)
    places = [place for plugin in PLUGINS if (place := f"{plugin}/tests") and Path(place).is_dir()]
    session.run("pytest", "-n", "2", *A_HANGING_TEST_FAILS, *(session.posargs or ["tests", *places]), env=ONE_THREAD)


@nox.session
def soak(session: nox.Session) -> None:
    """The long runs of the reliability tests: a hundred kills, thousands of damaged files."""
    install(session, ".", *PLUGINS, *TEST_TOOLS)
    session.run("pytest", "--timeout", "900", *(session.posargs or SOAK), env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy."""
    install(session, ".", *PLUGINS, "mypy")
    session.run("mypy")


@nox.session
@nox.parametrize("peer", ["plain", "lightning", "pythae", "scvi", "diffusers"])
def peers(session: nox.Session, peer: str) -> None:
    """The how-to scripts, each with its peer in an environment of its own, and what they record checked."""
    extra = "" if peer == "plain" else f"[{peer}]"
    install(session, f".{extra}", "pytest")
    session.run("pytest", "-p", "no:cacheprovider", "-W", "default", f"tests/peers/test_{peer}.py", env=ONE_THREAD)


@nox.session
@nox.parametrize("launcher", ["ray", "slurm"])
def launchers(session: nox.Session, launcher: str) -> None:
    """The launchers of clusters, each with what it needs, on this machine."""
    install(session, ".", f"plugins/elboverse-{launcher}", "pytest")
    session.run("pytest", "-p", "no:cacheprovider", f"plugins/elboverse-{launcher}/tests", env=ONE_THREAD)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the generated pages anew."""
    install(session, ".", *PLUGINS)
    session.run("python", "docs/generate_cli.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: paired ratios against bare loops, as a table and as JSON."""
    install(session, ".", *PLUGINS)
    session.run("python", "tests/benchmarks/step.py", *session.posargs)
