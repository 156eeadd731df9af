"""The configuration of a run: a typed tree, read from TOML with overrides, and written back."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli_w

from elboverse.components.hookspecs import selects
from elboverse.components.local import REFUSED_VARIABLE, file_digest, files_of_config
from elboverse.components.registry import Registry, Selection, discover
from elboverse.config.fitting import component_conflicts, scaling_misfits, with_scaling
from elboverse.config.own_data import is_data_file, table_of_data_file, with_paths_from
from elboverse.config.places import anchored
from elboverse.config.structuring import build_converter, in_range, structure, unstructure
from elboverse.errors import ConfigError, nearest

__all__ = [
    "DEFAULT",
    "EXPECTED_SUFFIX",
    "SWEEP",
    "ExperimentConfig",
    "TrainingConfig",
    "advising",
    "apply_override",
    "apply_sweep",
    "apply_sweeps",
    "config_folder",
    "find_config",
    "flattened",
    "from_table",
    "load",
    "named_configs",
    "read_table",
    "replace_value",
    "to_table",
    "to_toml",
    "with_plugins_of",
]

DEFAULT = "circle"
"""The shipped config that is used where none is named."""

SWEEP = "sweep"
"""The table that makes a config describe several runs; see `elboverse.running.sweep`."""

EXPECTED_SUFFIX = ".expected.toml"
"""How the file ends that says what is expected of a config's run (see `expectations`)."""

MAXIMUM_BYTES = 1 << 20

MOST_EPOCHS = 10_000_000
MOST_SAMPLES = 100_000
MOST_REPLICAS = 10_000
MOST_SNAPSHOTS = 10_000
MOST_THREADS = 1024
"""Far beyond any experiment: a number above was a slip, and would take all memory."""


def _is_count_or_auto(_instance: Any, _attribute: Any, value: int | str) -> None:
    if not isinstance(value, str) and not 1 <= value <= MOST_THREADS:
        raise ValueError(f'{value} given, allowed is "auto" or 1 to {MOST_THREADS}')


@attrs.frozen(kw_only=True)
class TrainingConfig:
    """How a model is trained, whatever it is.

    Args:
        epochs: passes over the training points.
        batch_size: B, points per step, min(1024, N) by default; those left over at the end of an epoch are skipped.
        learning_rate: Adam's, for all parameters but the variances.
        variance_learning_rate: Adam's, for the variance parameters.
        variances: ``"learned"`` by gradient, or ``"optimal"``: set to their closed form in each step.
        objective: ``"elbo"``, or ``"importance-weighted"``, the bound ln mean_k p(x, z_k)/q(z_k|x) of K samples.
        free_bits: nats that each latent's KL counts as at least; 0 for none.
        samples: K, Monte-Carlo samples per point; ignored by a model whose ELBO needs none.
        samples_at_once: how many of the K samples go through the decoder together; by default as many as fit the cache.
        replicas: R, copies trained side by side with seeds s … s+R−1.
        replica_group: how many replicas share one vectorised step; by default measured before the first step.
        evaluate_every: epochs between two evaluations, rounded to whole steps; there is one before and after all steps.
        until: ``"epochs"``, or ``"stationary"``: until the training certificate holds (see `training.stopping`).
        max_epochs: epochs that ``until = "stationary"`` may take at most; by default as many as `epochs`.
        tolerance: the relative mismatch of a variance that counts as stationary.
        polish_steps: iterations of the polish at most.
        record_every: steps between two recorded rows.
        snapshots: frames of an animation that are recorded, for `elboverse analyze animate`.
        snapshot_every_seconds: time between two saves at least; longer where they would take over 2 % of the time.
        compile: ``"off"``, or the mode in which `torch.compile` compiles encoder and decoder: ``"default"``, or
            ``"reduce-overhead"``, which replays CUDA graphs. On two processor cores it was slower than ``"off"``.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        dtype: ``"float32"`` or ``"float64"``.
        threads: processor threads of the run; ``"auto"`` is one, unless more are found to pay before the first step.
            What was found is kept when the run is resumed.
    """

    epochs: int = attrs.field(default=150, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    batch_size: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    learning_rate: float = attrs.field(default=1e-3, validator=in_range(above=0))
    variance_learning_rate: float = attrs.field(default=1e-3, validator=in_range(above=0))
    variances: Literal["learned", "optimal"] = "learned"
    objective: Literal["elbo", "importance-weighted"] = "elbo"
    free_bits: float = attrs.field(default=0.0, validator=in_range(minimum=0))
    samples: int = attrs.field(default=1, validator=in_range(minimum=1, maximum=MOST_SAMPLES))
    samples_at_once: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    replicas: int = attrs.field(default=1, validator=in_range(minimum=1, maximum=MOST_REPLICAS))
    replica_group: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    evaluate_every: float = attrs.field(default=10.0, validator=in_range(above=0))
    until: Literal["epochs", "stationary"] = "epochs"
    max_epochs: int | None = attrs.field(default=None, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    tolerance: float = attrs.field(default=0.02, validator=in_range(above=0, maximum=1))
    polish_steps: int = attrs.field(default=1000, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    record_every: int = attrs.field(default=1, validator=in_range(minimum=1))
    snapshots: int = attrs.field(default=0, validator=in_range(minimum=0, maximum=MOST_SNAPSHOTS))
    snapshot_every_seconds: float = attrs.field(default=10.0, validator=in_range(minimum=0))
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_is_count_or_auto)


def _is_folder_name(_instance: Any, _attribute: Any, value: str) -> None:
    if not re.fullmatch(r"\w[\w .-]{0,99}", value):
        raise ValueError(
            f"{value!r} given, allowed are at most 100 letters, digits, spaces and ._-, the first a letter or digit"
        )


@attrs.frozen(kw_only=True)
class ExperimentConfig:
    """One run: which components, with which options, trained how.

    Args:
        name: what the run is called; its folder is named after it, so it may hold letters, digits, spaces and ``._-``.
        seed: data, split, initial weights, batch order and noise all derive from it.
        model: the VAE type.
        dataset: the data.
        constraint: a constraint on the decoder's first linear weight, for models that have one.
        regulariser: terms that are added to the loss and recorded, of a component; None for none.
        annealing: the schedule of the KL weight β.
        training: optimisation and recording.
        plugins: Python files in the config's own folder that are plugins without packaging.
    """

    name: str = attrs.field(default="run", validator=_is_folder_name)
    seed: int = attrs.field(default=0, validator=in_range(minimum=0))
    model: Selection = selects("model", default="vae-1")
    dataset: Selection = selects("dataset")
    constraint: Selection | None = selects("constraint")
    regulariser: Selection | None = selects("regulariser")
    annealing: Selection = selects("annealing", default="constant")
    training: TrainingConfig = attrs.field(factory=TrainingConfig)
    plugins: tuple[str, ...] = ()


def load(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    registry: Registry | None = None,
) -> ExperimentConfig:
    """Return the config that `source` names, with `overrides` applied and every component resolved.

    Args:
        source: a TOML file, the name of a shipped config (``"circle"``), a table, or None for the default one.
        overrides: ``"key.path=value"`` strings, the value in TOML; what is no TOML value is taken as a string.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: with every fault found.
    """
    given = dict(source) if isinstance(source, Mapping) else read_table(source)
    table = dict(given)
    for override in overrides:
        apply_override(table, override)
    if table.get("plugins"):
        folder = None if source is None or isinstance(source, Mapping) else find_config(source).parent
        if folder is not None or registry is None:
            registry = with_plugins_of(table, folder, registry)
    table = anchored(table, Path.cwd())
    with advising(given, table):
        return from_table(table, registry)


def with_plugins_of(table: Mapping[str, Any], folder: Path | None, registry: Registry | None = None) -> Registry:
    """Return the components with those of the files that a config names, each announced before it is loaded.

    Args:
        table: the raw config.
        folder: of the config; its ``plugins`` are taken from there alone.
        registry: the components otherwise; those of all installed plugins by default.

    Raises:
        ConfigError: a file is not in that folder, or ``ELBOVERSE_NO_LOCAL_PLUGINS`` is set.
        PluginError: a file cannot be loaded.
    """
    registry = discover() if registry is None else registry
    files = files_of_config(table.get("plugins", []), folder)
    if files and os.environ.get(REFUSED_VARIABLE, "").strip() not in {"", "0", "false"}:
        raise ConfigError(f"plugins: got {table['plugins']!r}; local plugins are refused ({REFUSED_VARIABLE} is set)")
    for file in files:
        sys.stderr.write(f"Loading plugin {file} (sha256 {file_digest(file)})\n")
    return registry.joined(files)


def from_table(table: Mapping[str, Any], registry: Registry | None = None) -> ExperimentConfig:
    """Return a raw table as a config with every component resolved.

    Raises:
        ConfigError: with every fault found, those of components that do not fit together included.
    """
    if SWEEP in table:
        raise ConfigError(
            f"{SWEEP}: the config describes several runs, where one is expected; train them with `elboverse train` or "
            "elboverse.train_sweep"
        )
    registry = discover() if registry is None else registry
    table = with_scaling(table, registry)
    config: ExperimentConfig = structure(build_converter(registry), table, ExperimentConfig)
    faults = [*component_conflicts(config), *scaling_misfits(config.model.options, config.dataset.options)]
    if faults:
        raise ConfigError(faults)
    return config


def to_table(config: ExperimentConfig) -> dict[str, Any]:
    """Return the resolved config as plain dicts, lists and scalars; `from_table` reads it back."""
    table: dict[str, Any] = unstructure(config)
    return table


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested tables by their path, as in ``training.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def to_toml(config: ExperimentConfig) -> str:
    """Return the resolved config as TOML."""
    return tomli_w.dumps(to_table(config))


def config_folder() -> Path:
    """Return the folder of the shipped configs: inside the wheel, or beside the package in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def named_configs() -> dict[str, Path]:
    """Return the shipped configs by name, those in subfolders as ``folder/name``.

    What is expected of a config's run lies beside it, in ``name.expected.toml``, and is no config.
    """
    folder = config_folder()
    files = sorted(file for file in folder.rglob("*.toml") if not file.name.endswith(EXPECTED_SUFFIX))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def read_table(source: str | Path | None) -> dict[str, Any]:
    """Return the raw table of a TOML file or of a shipped config.

    Raises:
        ConfigError: there is none, or it is no TOML.
    """
    path = named_configs().get(DEFAULT) if source is None else find_config(source)
    path = find_config(DEFAULT) if path is None else path
    if is_data_file(path):
        return table_of_data_file(path)
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise ConfigError(f"{path}: more than {MAXIMUM_BYTES:,} bytes; a config is a small TOML file")
        return with_paths_from(path.parent, tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8, so no TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no valid TOML: {error}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: no usable TOML: {error}") from error


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
        what = "is no file" if exists else "no such file"
        raise ConfigError(f"{path}: {what}; give a TOML file or one of the names {', '.join(named)}")
    hint = nearest(str(source), named)
    message = f"no config {str(source)!r}{f' ({hint})' if hint else ''}"
    raise ConfigError(f"{message}: neither a file nor one of the names {', '.join(named)}")


def apply_override(table: dict[str, Any], override: str) -> str:
    """Set one value of a raw table, leaving the tables that it shares with others as they are, and return its path.

    Args:
        table: changed in place.
        override: ``"key.path=value"``, the value in TOML; what is no TOML value is taken as a string.

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


def _with_advice(fault: str, given: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    where, _, what = fault.partition(": ")
    component, _, option = where.rpartition(".")
    before, now = _below(given, component), _below(table, component)
    if before.get("name") == now.get("name") or not what.startswith("unknown key") or option not in before:
        return fault
    return f"{fault}; the config's own {component} has it: --set {component}={now['name']} drops all options of that"


def _below(table: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the table at a path; an empty one where there is none."""
    found: Any = table
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
