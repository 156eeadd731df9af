"""The project's checks. `nox` runs the tests, the linter and the type checker; `nox -l` lists the rest.

Every session installs the versions that constraints.txt pins.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

# Versions of Python that pyenv has installed are found although it shows one at a time.
for version in sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin")):
    os.environ["PATH"] += os.pathsep + str(version)

LARGE = {"elboverse-mlflow", "elboverse-ray", "elboverse-slurm"}  # what they need is large: tested beside the peers
PLUGINS = sorted(
    str(folder)
    for folder in Path("plugins").iterdir()
    if (folder / "pyproject.toml").is_file() and folder.name not in LARGE
)
TEST_TOOLS = ("polars", "hatchling", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
SOAK = [str(path) for path in sorted(Path("tests/soak").glob("*.py")) if path.stem != "conftest"]
A_HANGING_TEST_FAILS = ("--timeout", "300")  # seconds; with the stacks of all threads
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the tests run side by side, one process per core
VECTOR_WIDTHS = ("default", "avx2")  # of torch's kernels (ATEN_CPU_CAPABILITY), besides the processor's own
NUMERICS = [  # where rounding could decide
    "tests/theory",
    "tests/training/test_numbers_going_wrong.py",
    "tests/training/test_training_evaluation.py",
    "tests/training/test_training_gradients.py",
    "tests/training/test_training_replicas.py",
    "tests/training/test_training_step.py",
    "tests/training/test_training_tape.py",
    "tests/running/test_repeat.py",
]
QUICK = [
    "tests/test_architecture.py",
    "tests/theory/test_identities.py",
    "tests/theory/test_elbo.py",
    "tests/theory/test_gaussian.py",
    "tests/config",
    "tests/components/test_registry.py",
    "tests/training/test_training_step.py",
]
SMOKE = [
    "tests/theory/test_elbo.py",
    "tests/config",
    "tests/components/test_registry.py",
    "tests/training/test_training_step.py",
    "tests/training/test_training_tape.py",
    "tests/runfile/test_former_format.py",
]


def install(session: nox.Session, *packages: str) -> None:
    session.install("-c", "constraints.txt", *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of the core and of the plugins, against the installed wheels."""
    install(session, ".[tables,excel,filters,sklearn,xarray]", *PLUGINS, *TEST_TOOLS)
    places = [place for plugin in PLUGINS if (place := f"{plugin}/tests") and Path(place).is_dir()]
    session.run("pytest", "-n", "2", *A_HANGING_TEST_FAILS, *(session.posargs or ["tests", *places]), env=ONE_THREAD)
    for width in () if session.posargs else VECTOR_WIDTHS:
        environment = {**ONE_THREAD, "ATEN_CPU_CAPABILITY": width}
        session.run("pytest", "-n", "2", "-q", *A_HANGING_TEST_FAILS, *NUMERICS, env=environment)


@nox.session(python=["3.12", "3.13"])
def smoke(session: nox.Session) -> None:
    """The program and some tests under other versions of Python, where they are installed."""
    install(session, ".", "hypothesis", "pytest", "pytest-timeout")
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        quickly = ("--quiet", "--set", "training.epochs=3")
        session.run("elboverse", "train", "circle", *quickly, "--out", run, env=ONE_THREAD)
        session.run("elboverse", "analyze", "collapse", run, silent=True, env=ONE_THREAD)
    session.run("pytest", "-q", *A_HANGING_TEST_FAILS, *SMOKE, env=ONE_THREAD)


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
@nox.parametrize("peer", ["plain", "lightning", "pythae", "scvi", "diffusers", "transformers", "mlflow", "jax"])
def peers(session: nox.Session, peer: str) -> None:
    """The how-to scripts, each with its peer in an environment of its own, and what they record checked."""
    needed = {"plain": ["."], "jax": [".", "jax"], "mlflow": [".", "plugins/elboverse-mlflow"]}
    install(session, *needed.get(peer, [f".[{peer}]"]), "pytest")
    tests = [str(path) for path in sorted(Path("tests/peers").glob(f"test_{peer}*.py"))]
    tests = ["plugins/elboverse-mlflow/tests"] if peer == "mlflow" else tests
    session.run("pytest", "-p", "no:cacheprovider", "-W", "default", *tests, env=ONE_THREAD)


@nox.session
@nox.parametrize("launcher", ["ray", "slurm"])
def launchers(session: nox.Session, launcher: str) -> None:
    """The launchers of clusters, each with what it needs, on this machine."""
    install(session, ".", f"plugins/elboverse-{launcher}", "pytest")
    session.run("pytest", "-p", "no:cacheprovider", f"plugins/elboverse-{launcher}/tests", env=ONE_THREAD)


@nox.session
def kit(session: nox.Session) -> None:
    """A plugin of every kind, written and installed outside the repository, tested, trained and reported."""
    install(session, ".", "hatchling", "mypy", "pytest", "ruff")
    listed = session.run("python", "-c", "from elboverse.components import HOOKS; print(*HOOKS)", silent=True)
    strangers = [folder.resolve() for folder in sorted(Path("tests/components/strangers").iterdir()) if folder.is_dir()]
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        for kind in session.posargs or str(listed).split():
            name = f"elboverse-kit-{kind}"
            session.run("elboverse", "plugins", "new", name, "--kind", kind)
            session.install("--no-deps", "--no-build-isolation", f"./{name}")
            with session.chdir(name):
                session.run("ruff", "check", "--no-cache", ".")
                session.run("ruff", "format", "--no-cache", "--check", ".")
                session.run("mypy")
                session.run("pytest", "-q", "-p", "no:cacheprovider", env=ONE_THREAD)
            session.run("elboverse", "plugins", "check", f"kit-{kind}", env=ONE_THREAD)
        if not session.posargs:
            session.install("--no-deps", "--no-build-isolation", *map(str, strangers))
            for stranger in strangers:
                session.run("elboverse", "plugins", "check", stranger.name, env=ONE_THREAD)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, then check its links, its commands' output, its examples and notebooks."""
    install(session, ".[docs,xarray]", *PLUGINS, "pytest", "ruff")  # ruff formats signatures
    session.run("python", "docs/generate_cli.py")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("pytest", "-p", "no:cacheprovider", "-q", *(session.posargs or ["tests/site"]), env=ONE_THREAD)


@nox.session
def quick(session: nox.Session) -> None:
    """A check while working, within a minute: the linter, and the tests of structure, formulas, configs and docs."""
    install(session, "-e", ".", "hypothesis", "pytest", "pytest-timeout", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("pytest", "-q", *A_HANGING_TEST_FAILS, *(session.posargs or QUICK), env=ONE_THREAD)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: paired ratios against bare loops, as a table and as JSON."""
    install(session, ".", *PLUGINS)
    session.run("python", "tests/benchmarks/step.py", *session.posargs)
