"""Sweeps: what a config that describes several runs stands for. Expansion only; `sweep` trains them.

A config becomes a sweep, or study, by a table of settings and their values:

    [sweep]
    seeds = "0..9"                               # ten seeds of each run
    "model.latent_dim" = "2..6"                  # crossed with the others
    dataset = [{ name = "pca" }, { name = "circle", points = 4000 }]

    [[sweep.zip]]                                # element by element, crossed with the others
    "training.batch_size" = [100, 1000]
    "training.learning_rate" = [1e-3, 1e-2]

A value may be a number, a name, or a whole table. Each combination is one run, in a folder named after its values.
Seeds become the replicas of one run where they follow one another, else runs of their own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from elboverse.components.registry import Registry
from elboverse.config import SWEEP, ExperimentConfig, advising, from_table, replace_value
from elboverse.errors import ConfigError

__all__ = ["LAUNCHER", "expand", "is_sweep", "number_range", "refuse_both", "settings", "split_seeds"]

LAUNCHER: Final = "launcher"
"""The table of a study that says where its runs are trained; it is not part of a run."""

ZIP: Final = "zip"
SEEDS: Final = "seeds"
SEEDS_AS: Final = "seeds_as"
APART: Final = "seeds_apart"
"""Names of runs whose seeds turned out not to fit as replicas; written by the study itself."""

MOST_RUNS: Final = 1000
"""Far beyond what one command trains; a number above was a slip."""

MOST_NAME_BYTES: Final = 180
"""Of a run's folder name; file systems allow 255, and names beside it are longer."""


@attrs.frozen
class _Axis:
    """Settings that change together: `values[i]` holds one value for each key."""

    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


def is_sweep(table: Mapping[str, Any]) -> bool:
    """Return whether a raw config describes several runs."""
    return SWEEP in table


def settings(table: Mapping[str, Any]) -> frozenset[str]:
    """Return the key paths that a sweep varies.

    Raises:
        ConfigError: the sweep is not usable.
    """
    axes, seeds = _read(table)
    varied = {key for axis in axes for key in axis.keys}
    return frozenset(varied | ({"seed", "training.replicas"} if seeds else set()))


def refuse_both(table: Mapping[str, Any], overridden: Iterable[str]) -> None:
    """Check that no setting is both given one value and swept over.

    Args:
        table: a raw config with a table ``sweep``.
        overridden: the key paths that were given a value beside it.

    Raises:
        ConfigError: one is.
    """
    both = sorted(set(overridden) & settings(table))
    if both:
        raise ConfigError(f"{both[0]}: given one value and swept over as well; leave one of them out")


def expand(table: Mapping[str, Any], registry: Registry | None = None) -> dict[str, ExperimentConfig]:
    """Return the config of every run of a sweep, by the name of the run, in order.

    Args:
        table: a raw config with a table ``sweep``.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: the sweep or one of its runs is not usable.
    """
    axes, seeds = _read(table)
    apart = frozenset(_names_apart(table))
    single = {key: value for key, value in table.items() if key not in {SWEEP, LAUNCHER}}
    names = _value_names(axes)
    configs: dict[str, ExperimentConfig] = {}
    for choice in itertools.product(*(range(len(axis.values)) for axis in axes)):
        chosen = {
            key: value
            for axis, index in zip(axes, choice, strict=True)
            for key, value in zip(axis.keys, axis.values[index], strict=True)
        }
        name = ",".join(names[number][index] for number, index in enumerate(choice))
        for full_name, extra in _with_seeds(name, seeds, apart, _seeds_as(table)):
            name_here = _short_enough(full_name)
            given = dict(single)
            for key in sorted(chosen, key=lambda path: path.count(".")):  # a whole table first, then what is inside it
                replace_value(given, key.split("."), chosen[key])
            for key, value in extra.items():
                replace_value(given, key.split("."), value)
            try:
                with advising(table, given):
                    configs[name_here] = from_table(given, registry)
            except ConfigError as error:
                raise ConfigError([fault.advised(f"in the run {name_here}") for fault in error.faults]) from None
    if len(configs) > MOST_RUNS:
        raise ConfigError(_too_many(len(configs)))
    return configs


def split_seeds(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a study's raw config in which the seeds of one run are runs of their own.

    Args:
        table: a raw config with ``sweep.seeds``.
        name: of the run whose seeds do not fit as replicas.
    """
    swept = dict(table[SWEEP])
    swept[APART] = sorted({*_names_apart(table), name})
    return {**table, SWEEP: swept}


def number_range(text: Any) -> list[int] | None:
    """Return the integers that ``"2..6"`` stands for, both ends included; None if it is not a range."""
    found = re.fullmatch(r"\s*(-?\d{1,18})\s*\.\.\s*(-?\d{1,18})\s*", text) if isinstance(text, str) else None
    if found is None:
        return None
    first, last = (int(part) for part in found.groups())
    return list(range(first, last + 1)) if 0 <= last - first < MOST_RUNS * 10 else None


def _read(table: Mapping[str, Any]) -> tuple[list[_Axis], list[int]]:
    """Return the axes of a sweep, and the seeds where it names some."""
    swept = table.get(SWEEP)
    if not isinstance(swept, Mapping) or not swept:
        raise ConfigError(f'{SWEEP}: got {swept!r}; expected a table of settings and lists of values, such as '
                          '"model.latent_dim" = [2, 4]')  # fmt: skip
    faults: list[str] = []
    axes: list[_Axis] = []
    crossed = {key: value for key, value in swept.items() if key not in {ZIP, SEEDS, SEEDS_AS, APART}}
    for key, values in _flat(crossed):
        listed = _listed(values, f"{SWEEP}.{key}", faults)
        if listed:
            axes.append(_Axis((key,), tuple((value,) for value in listed)))
    axes += _zipped(swept.get(ZIP), faults)
    seeds = _seeds(swept, table, faults) if SEEDS in swept else []
    if swept.get(SEEDS_AS, "auto") not in {"auto", "replicas", "runs"}:
        faults.append(f'{SWEEP}.{SEEDS_AS}: got {swept[SEEDS_AS]!r}; expected "auto", "replicas" or "runs"')
    keys = [key for axis in axes for key in axis.keys]
    faults += [
        f"{SWEEP}.{key}: given twice; expected one list of values"
        for key in sorted({k for k in keys if keys.count(k) > 1})
    ]
    if seeds and {"seed", "training.replicas"} & set(keys):
        faults.append(f"{SWEEP}.{SEEDS}: seed or training.replicas is swept over as well; leave one of them out")
    if not axes and not seeds and not faults:
        faults.append(f"{SWEEP}: got no setting; expected at least one list of values")
    runs = 1
    for axis in axes:
        runs *= len(axis.values)
    if runs > MOST_RUNS:
        faults.append(_too_many(runs))
    if faults:
        raise ConfigError(faults)
    return axes, seeds


def _too_many(runs: int) -> str:
    return f"{SWEEP}: got {runs:,} runs; expected at most {MOST_RUNS:,}"


def _listed(values: Any, where: str, faults: list[str]) -> list[Any]:
    """Return a setting's values, each once."""
    numbers = number_range(values)
    if numbers is not None:
        return list(numbers)
    if not isinstance(values, list) or not values:
        faults.append(f'{where}: got {values!r}; expected a list of at least one value, or a range such as "2..6"')
        return []
    kept: list[Any] = []
    for value in (part for one in values for part in (number_range(one) or [one])):
        if any(_same(value, other) for other in kept):
            faults.append(f"{where}: got {value!r} twice; expected each value once")
            return []
        kept.append(value)
    return kept


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _zipped(groups: Any, faults: list[str]) -> list[_Axis]:
    """Return the axes of ``[[sweep.zip]]``: in each, value i of one setting goes with value i of the others."""
    if groups is None:
        return []
    axes = []
    for number, group in enumerate(groups if isinstance(groups, list) else [groups]):
        where = f"{SWEEP}.{ZIP}" if not isinstance(groups, list) else f"{SWEEP}.{ZIP}[{number}]"
        if not isinstance(group, Mapping) or not group:
            faults.append(f"{where}: got {group!r}; expected a table of settings and lists of values")
            continue
        columns: dict[str, list[Any]] = {}
        for key, values in _flat(group):
            listed = number_range(values) or values
            if not isinstance(listed, list) or not listed:
                faults.append(f"{where}.{key}: got {values!r}; expected a list of at least one value")
            else:
                columns[key] = listed
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} {length}" for key, length in lengths.items())
            faults.append(f"{where}: got lists of different lengths ({told}); expected as many values of each")
            continue
        rows = tuple(zip(*columns.values(), strict=True)) if columns else ()
        for index, row in enumerate(rows):
            if any(all(map(_same, row, earlier)) for earlier in rows[:index]):
                faults.append(f"{where}: got {list(row)!r} twice; expected each combination once")
                break
        else:
            if rows:
                axes.append(_Axis(tuple(columns), rows))
    return axes


def _seeds(swept: Mapping[str, Any], table: Mapping[str, Any], faults: list[str]) -> list[int]:
    given = swept[SEEDS]
    found = number_range(given) or given
    whole = isinstance(found, list) and found and all(type(seed) is int and seed >= 0 for seed in found)
    if not whole:
        faults.append(f'{SWEEP}.{SEEDS}: got {given!r}; expected a range such as "0..9", or a list of integers ≥ 0')
        return []
    if len(set(found)) < len(found):
        twice = next(seed for seed in found if found.count(seed) > 1)
        faults.append(f"{SWEEP}.{SEEDS}: got {twice} twice; expected each seed once")
    training = table.get("training")
    if isinstance(training, Mapping) and training.get("replicas", 1) != 1:
        faults.append(f"{SWEEP}.{SEEDS}: training.replicas is given as well; leave one of them out")
    return list(found)


def _seeds_as(table: Mapping[str, Any]) -> str:
    return str(table[SWEEP].get(SEEDS_AS, "auto"))


def _names_apart(table: Mapping[str, Any]) -> Sequence[str]:
    names = table[SWEEP].get(APART, ())
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _with_seeds(name: str, seeds: Sequence[int], apart: frozenset[str], how: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names of a combination's runs, each with the settings that its seeds come to."""
    if not seeds:
        return [(name, {})]
    first, last = seeds[0], seeds[-1]
    follow = list(seeds) == list(range(first, first + len(seeds)))
    if how == "replicas" and not follow:
        raise ConfigError(
            f'{SWEEP}.{SEEDS}: got {list(seeds)}; expected seeds that follow one another, as {SEEDS_AS} = "replicas" '
            f'needs them; or give {SEEDS_AS} = "runs"'
        )
    together = ",".join(filter(None, (name, f"seeds={first}..{last}")))
    if len(seeds) > 1 and how != "runs" and follow and together not in apart:
        return [(together, {"seed": first, "training.replicas": len(seeds)})]
    return [(",".join(filter(None, (name, f"seed={seed}"))), {"seed": seed}) for seed in seeds]


def _flat(swept: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield key paths and values: ``model.latent_dim = [2]`` without quotes is a table in a table in TOML."""
    for key, value in swept.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value_names(axes: Sequence[_Axis]) -> list[list[str]]:
    """Return how each value of each axis is called in the names of runs; no two of an axis are called alike."""
    last = [key.rpartition(".")[2] for axis in axes for key in axis.keys]
    shown = {
        key: name if last.count(name) == 1 else key
        for key, name in zip((key for axis in axes for key in axis.keys), last, strict=True)
    }
    names = []
    for axis in axes:
        columns = []
        for position, key in enumerate(axis.keys):
            values = [row[position] for row in axis.values]
            columns.append([f"{shown[key]}={called}" for called in _told_apart(values)])
        names.append([",".join(row) for row in zip(*columns, strict=True)])
    return names


def _told_apart(values: Sequence[Any]) -> list[str]:
    """Return names of values that are safe for folders and, where the values differ, differ beyond case.

    A component is called by its own name, with those of its options that differ where that is not enough; anything
    else that would look alike gets a digest of its value.
    """
    names = [_as_name(value) for value in values]
    if _clashes(names, values):
        names = [_with_options(value, values) for value in values]
    clashing = _clashes(names, values)
    return [
        f"{name}-{_digest(value)}" if name.casefold() in clashing else name
        for name, value in zip(names, values, strict=True)
    ]


def _clashes(names: Sequence[str], values: Sequence[Any]) -> set[str]:
    owners: dict[str, list[Any]] = {}
    for name, value in zip(names, values, strict=True):
        known = owners.setdefault(name.casefold(), [])
        if not any(_same(value, other) for other in known):
            known.append(value)
    return {name for name, known in owners.items() if len(known) > 1}


def _as_name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name", "-".join(map(str, value.values())))
    return _safe(str(value))


def _with_options(value: Any, values: Sequence[Any]) -> str:
    if not isinstance(value, Mapping):
        return _as_name(value)
    rivals = [other for other in values if isinstance(other, Mapping) and _as_name(other) == _as_name(value)]
    keys = sorted({key for table in rivals for key in table if any(table.get(key) != one.get(key) for one in rivals)})
    options = [f"{key}={_as_name(value[key])}" for key in keys if key in value]
    return _safe("-".join([_as_name(value), *options]))


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "-", text)[:60]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _short_enough(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= MOST_NAME_BYTES:
        return name
    return f"{encoded[: MOST_NAME_BYTES - 8].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:6]}"
