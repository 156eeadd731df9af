"""The house rules: which room may import from which, what start-up may import, what must be documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import elboverse
from elboverse.components.hookspecs import HOOKS, HookSpecs

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "elboverse"
SOURCES = sorted(PACKAGE.rglob("*.py"))

ROWS = (
    {"_version", "errors", "faces", "files", "public", "renamed", "seeding", "warning"},
    {"theory"},
    {"contracts"},
    {"data"},
    {"components"},
    {"config"},
    {"models", "runfile"},
    {"training"},
    {"running"},
    {"analysis"},
    {"integrations", "reproduction", "sklearn", "testing"},
    {"builtin", "cli"},
    {"__main__"},
)
"""The wings from the ground floor up: a file imports from its own wing and from wings above its own alone."""

OPEN_TO_STRANGERS = {
    "_version", "analysis", "components", "config", "contracts", "data", "errors", "faces", "models", "runfile",
    "seeding", "theory", "warning",
}  # fmt: skip
"""The wings that a plugin may use; the built-in components use no others."""

HEAVY = {"torch", "numpy", "h5py", "matplotlib", "tensorboard", "cattrs"}


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    """Yield the room of everything of ours that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "elboverse":
            names = [f"elboverse.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == "elboverse" and inner:
                room = inner.partition(".")[0]
                yield elboverse._HOMES.get(room, f"elboverse.{room}").split(".")[1]


def test_every_file_belongs_to_a_room_of_the_plan() -> None:
    rooms = set().union(*ROWS)
    assert {room_of(path) for path in SOURCES} - {"__init__"} <= rooms


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) != "__init__"], ids=short)
def test_a_file_imports_from_rows_above_its_own_alone(path: Path) -> None:
    room = room_of(path)
    row = next(index for index, rooms in enumerate(ROWS) if room in rooms)
    allowed = {room, "__version__"}.union(*ROWS[:row])
    assert set(imported_rooms(path)) <= allowed


def test_built_in_components_use_only_what_a_stranger_may_use() -> None:
    used = {room for path in SOURCES if room_of(path) == "builtin" for room in imported_rooms(path)}
    assert used - {"builtin"} <= OPEN_TO_STRANGERS


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_no_room_is_a_grab_bag(path: Path) -> None:
    parts = {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}
    assert not parts & {"utils", "util", "misc", "helpers", "helper", "common", "tools"}


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_is_pickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            names = {module, *(alias.name for alias in node.names)}
            assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr not in {"load", "save"}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_every_file_is_short_enough_to_be_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 460


def imported_by(code: str) -> set[str]:
    """Return the heavy packages that a fresh interpreter has imported after some code."""
    command = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.__stdout__))\n{code}"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()) & HEAVY


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import elboverse", set()),
        (
            "import elboverse.contracts, elboverse.components, elboverse.theory.gaussian, elboverse.theory.elbo",
            set(),
        ),
        ("from elboverse.cli import main; main(['--help'])", set()),
        ("from elboverse.cli import main; main(['--version'])", set()),
        ("from elboverse.cli import main; main(['plugins'])", set()),
        ("from elboverse.cli import main; main(['plugins', '--json'])", set()),
        ("from elboverse.cli import main; main(['config', 'list'])", {"cattrs"}),
        ("from elboverse.cli import main; main(['train', '--help'])", {"cattrs", "numpy", "h5py"}),
        ("from elboverse.cli import main; main(['analyze', 'collapse', '--help'])", {"cattrs", "numpy", "h5py"}),
        ("from elboverse import Run", {"numpy", "h5py"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_start_up_imports_no_more_than_it_needs(code: str, allowed: set[str]) -> None:
    assert imported_by(code) <= allowed


def test_the_start_up_test_sees_what_is_imported() -> None:
    assert imported_by("import numpy") == {"numpy"}


def documented(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", sorted(HOOKS.values()))
def test_every_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    signature = inspect.signature(getattr(HookSpecs, hook))
    without_self = signature.replace(parameters=list(signature.parameters.values())[1:])
    assert f"`{hook}{without_self}`".replace("'", "") in documented("plugins.md")


def test_every_specified_hook_has_a_kind_and_no_other_is_documented() -> None:
    specified = {name for name in vars(HookSpecs) if name.startswith("elboverse_")}
    assert specified == set(HOOKS.values())
    assert set(re.findall(r"`(elboverse_\w+)\(", documented("plugins.md"))) == specified


def test_every_environment_variable_is_documented() -> None:
    used = {name for path in SOURCES for name in re.findall(r"ELBOVERSE_[A-Z_]+", path.read_text(encoding="utf-8"))}
    everything = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert used
    assert {name for name in used if f"`{name}`" not in everything} == set()


def test_every_public_name_of_a_file_exists() -> None:
    for path in SOURCES:
        if path.parent.name == "integrations" and path.stem in {"lightning", "pythae", "transformers"}:
            continue  # their packages are extras; nox -s peers imports them
        names = [
            ast.literal_eval(node.value)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        ]
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in names[0] if names else ():
            code_object = __import__(module, fromlist=[name])
            assert hasattr(code_object, name), f"{module}.{name}"


def test_the_page_on_the_architecture_shows_the_rows_that_are_enforced() -> None:
    table = documented("architecture.md").partition("## The wings")[2].partition("Nothing outside")[0]
    shown = tuple(
        set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines() if line.startswith("| `")
    )
    assert shown == ROWS


def test_nothing_outside_builtin_imports_from_it() -> None:
    outside = [path for path in SOURCES if room_of(path) not in {"builtin", "__init__"}]
    assert [short(path) for path in outside if "builtin" in set(imported_rooms(path))] == []


def imports_of(path: Path) -> set[str]:
    """Return every module of ours that a file imports, wherever in the file, or imports names of."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Return the modules that lie on a circle: what is left when modules without arrows are taken away, both ways."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while True:
        ends = {name for name in left if not left[name] & left.keys()}
        starts = left.keys() - set().union(*left.values())
        if not ends | starts:
            return sorted(left)
        left = {name: targets for name, targets in left.items() if name not in ends | starts}


def test_no_circle_is_among_modules() -> None:
    modules = {module_of(path): path for path in SOURCES if path.name != "__init__.py"}
    arrows = {name: (imports_of(path) & modules.keys()) - {name} for name, path in modules.items()}
    assert len(arrows) > 200
    assert circles(arrows) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["b", "c"]


ANALYSES = PACKAGE / "builtin" / "analyses"


def floor_of(path: Path) -> int:
    """Return where a file of an analysis stands: numbers of any name, then the figure, then the analysis."""
    return {"figure": 1, "analysis": 2}.get(path.stem, 0)


@pytest.mark.parametrize("path", sorted(ANALYSES.glob("*/*.py")), ids=short)
def test_an_analysis_is_numbers_then_figure_then_analysis(path: Path) -> None:
    assert {"numbers", "figure", "analysis", "criteria"} & {file.stem for file in path.parent.glob("*.py")}
    prefix = f"{module_of(ANALYSES)}."
    for name in sorted(imports_of(path)):
        if name.startswith(prefix):
            folder, _, rest = name.removeprefix(prefix).partition(".")
            assert folder == path.parent.name, f"{short(path)} takes from another analysis: {name}"
            target = ANALYSES / folder / f"{rest.partition('.')[0]}.py"
            assert floor_of(target) <= floor_of(path), f"{short(path)} reaches up: {name}"
