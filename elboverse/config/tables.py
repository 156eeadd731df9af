"""Raw tables: TOML files, the configs that ship, overrides, the values of a sweep, and advice where they do not fit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elboverse.components.hookspecs import HOOKS
from elboverse.components.registry import Registry, discover
from elboverse.config.own_data import is_data_file, table_of_data_file, with_paths_from
from elboverse.errors import ConfigError, Fault, UnknownKey, nearest

__all__ = [
    "DEFAULT",
    "EXPECTED_SUFFIX",
    "SWEEP",
    "advising",
    "apply_override",
    "apply_sweep",
    "apply_sweeps",
    "config_folder",
    "find_config",
    "flattened",
    "named_configs",
    "read_table",
    "replace_value",
]

DEFAULT = "circle"
"""The shipped config that is used where none is named."""
SWEEP = "sweep"
"""The table that makes a config describe several runs; see `elboverse.running.sweep`."""
EXPECTED_SUFFIX = ".expected.toml"
"""How the file ends that says what is expected of a config's run (see `expectations`)."""
MAXIMUM_BYTES = 1 << 20


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested tables by their path, as in ``training.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def config_folder() -> Path:
    """Return the folder of the shipped configs: inside the wheel, or beside the package in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def named_configs() -> dict[str, Path]:
    """Return the shipped configs by name, those in subfolders as ``folder/name``.

    What is expected of a config's run lies beside it, in ``name.expected.toml``, and is not a config.
    """
    folder = config_folder()
    files = sorted(file for file in folder.rglob("*.toml") if not file.name.endswith(EXPECTED_SUFFIX))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def read_table(source: str | Path | None) -> dict[str, Any]:
    """Return the raw table of a TOML file or of a shipped config.

    Raises:
        ConfigError: it does not exist, or it is not TOML.
    """
    path = named_configs().get(DEFAULT) if source is None else find_config(source)
    path = find_config(DEFAULT) if path is None else path
    if is_data_file(path):
        return table_of_data_file(path)
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise ConfigError(f"{path}: more than {MAXIMUM_BYTES:,} bytes; a config is a small TOML file")
        table = with_paths_from(path.parent, tomllib.loads(path.read_text(encoding="utf-8-sig")))
        return _as_shipped(table, discover()) if path in named_configs().values() else table
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8, so no TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no valid TOML: {error}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: no usable TOML: {error}") from error


def _as_shipped(table: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Return the table of a shipped config with the built-in components named so that no plugin's can be meant."""
    meant: dict[str, Any] = {}
    for key, value in table.items():
        kind = "annealing" if key == "learning_rate_schedule" else key
        meant[key] = value
        if isinstance(value, Mapping):
            inner = meant[key] = _as_shipped(value, registry)
            if kind in HOOKS and isinstance(inner.get("name"), str):
                inner["name"] = registry.default(kind, inner["name"])
        elif kind in HOOKS and isinstance(value, str):
            meant[key] = registry.default(kind, value)
    return meant


def find_config(source: str | Path) -> Path:
    """Return the file of a config: a TOML file, or that of the shipped config of this name.

    Raises:
        ConfigError: there is none.
    """
    named = named_configs()
    try:
        path = Path(source).expanduser()
        is_file, exists = path.is_file(), path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, no such user
        raise ConfigError(f"{source}: {error}; give a TOML file or one of the names {', '.join(named)}") from error
    if is_file or (exists and not path.is_dir()):  # a pipe, such as /dev/stdin
        return path
    if str(source) in named:
        return named[str(source)]
    if path.suffix == ".toml" or path.is_absolute() or exists:
        what = "is not a file" if exists else "no such file"
        raise ConfigError(f"{path}: {what}; give a TOML file or one of the names {', '.join(named)}")
    beside: list[str] = []
    if path.suffix and path.parent == Path():
        with suppress(OSError):  # a folder that may not be listed
            beside = [entry.name for entry in Path().iterdir()]
    hint = nearest(str(source), [*named, *beside])
    message = f"no config {str(source)!r}{f' ({hint})' if hint else ''}"
    raise ConfigError(f"{message}: neither a file nor one of the names {', '.join(named)}")


def apply_override(table: dict[str, Any], override: str) -> str:
    """Set one value of a raw table, leaving the tables that it shares with others as they are, and return its path.

    Args:
        table: changed in place.
        override: ``"key.path=value"``, the value in TOML; what is not TOML value is taken as a string.

    Raises:
        ConfigError: it has no ``=`` or an empty key.
    """
    path, text = _split(override, f"--set {override}: give it as key.path=value, for example --set model.latent_dim=8")
    value = _toml_value(text)
    if path == ["constraint"] and text.strip().strip("\"'").lower() in {"none", "null", ""}:
        table.pop("constraint", None)  # the one component that a run may go without
    else:
        replace_value(table, path, text.strip() if value is None else value)
    return ".".join(path)


def apply_sweeps(table: dict[str, Any], settings: Iterable[str]) -> None:
    """Make a raw table a sweep over some values of settings, besides those that it sweeps over already.

    A setting that is named several times gets all its values; one that the table sweeps over gets these instead.

    Args:
        table: changed in place.
        settings: each ``"key.path=[2, 4]"``, ``"key.path=2,4"`` or ``"key.path=2..4"``, the values in TOML; what is
            none is taken as a string.

    Raises:
        ConfigError: one has no ``=``, an empty key, or no value.
    """
    found: dict[str, list[Any]] = {}
    for setting in settings:
        key, values = _swept(setting)
        found.setdefault(key, []).extend(values)
    if not found:
        return
    before = table.get(SWEEP)
    swept = dict(before) if isinstance(before, Mapping) else {}
    for key, values in found.items():
        _drop(swept, key.split("."))
        swept[key] = values
    table[SWEEP] = swept


def apply_sweep(table: dict[str, Any], setting: str) -> None:
    """Do what `apply_sweeps` does for one setting."""
    apply_sweeps(table, [setting])


def _swept(setting: str) -> tuple[str, list[Any]]:
    """Return the key path and the values of a ``--sweep``."""
    example = "model.latent_dim=2,4,6"
    path, text = _split(setting, f"--sweep {setting}: give it as key.path=values, for example --sweep {example}")
    values = _toml_value(text)
    if not isinstance(values, list):
        values = _toml_value(f"[{text}]")
    if values is None:
        each = [part.strip() for part in text.split(",")]
        values = [part if value is None else value for part in each for value in (_toml_value(part),)]
    if not values or values == [""]:
        raise ConfigError(f"--sweep {setting}: no value given; give it some, for example --sweep {example}")
    return ".".join(path), values


def _drop(swept: dict[str, Any], path: Sequence[str]) -> None:
    """Take a setting out of a sweep's table, whether its key is quoted or a table in a table."""
    swept.pop(".".join(path), None)
    for length in range(1, len(path)):
        inner = swept.get(".".join(path[:length]))
        if isinstance(inner, Mapping):
            kept = dict(inner)
            _drop(kept, path[length:])
            if kept:
                swept[".".join(path[:length])] = kept
            else:
                del swept[".".join(path[:length])]


def _split(text: str, advice: str) -> tuple[list[str], str]:
    key, separator, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not separator or not all(path):
        raise ConfigError(advice)
    return path, value


def _toml_value(text: str) -> Any:
    """Return the value that a text is in TOML, None if it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        number = re.fullmatch(r"\s*[+-]?(\d+\.|\.\d+|\d+\.\d+|\d+)([eE][+-]?\d+)?\s*", text)
        return float(text) if number else None  # .01 and 1. are numbers wherever people write them, if not in TOML
    return parsed["value"] if len(parsed) == 1 else text


def replace_value(table: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set one value of a raw table, leaving the tables that it shares with others as they are.

    Args:
        table: changed in place.
        path: the keys that lead to the value.
        value: as TOML gives it.
    """
    inner = table
    for part in path[:-1]:
        below = inner.get(part, {})
        if not isinstance(below, Mapping):
            below = {"name": below} if isinstance(below, str) else {}
        inner[part] = dict(below)
        inner = inner[part]
    inner[path[-1]] = value


@contextmanager
def advising(given: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[None]:
    """Add what to do to the faults of a config: where another component was named, its old options are no longer known.

    Args:
        given: the raw config.
        table: what overrides made of it.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_with_advice(fault, given, table) for fault in error.faults]) from None


def _with_advice(fault: Fault, given: Mapping[str, Any], table: Mapping[str, Any]) -> Fault:
    if not isinstance(fault, UnknownKey):
        return fault
    *place, option = fault.path
    before, now = _below(given, place), _below(table, place)
    if before.get("name") == now.get("name") or option not in before:
        return fault
    component = ".".join(place)
    return fault.advised(
        f"the config's own {component} has it: --set {component}={now['name']} drops all options of that"
    )


def _below(table: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """Return the table at a path; an empty one where there is none."""
    found: Any = table
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
