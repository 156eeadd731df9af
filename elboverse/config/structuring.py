"""Strict structuring: raw tables to attrs classes, every fault collected and shown with its path.

cattrs dispatches on the types; the hooks here replace what it does by default, which is to coerce (``3.7`` → ``3``,
``"false"`` → true), to ignore unknown keys and to stop at the first failed validator.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

import attrs
import cattrs

from elboverse.components.registry import Registry, Selection
from elboverse.config.validators import Faults, InRange, in_range, not_one_of, one_of
from elboverse.errors import ConfigError, ElboverseError, Fault, PluginError, UnknownKey, nearest

__all__ = [
    "Faults",
    "InRange",
    "build_converter",
    "in_range",
    "one_of",
    "structure",
    "structure_selection",
    "unstructure",
]

NAME_KEY = "name"


def structure(converter: cattrs.Converter, raw: Any, cls: type[Any], where: str = "") -> Any:
    """Return `raw` as an instance of `cls`.

    Args:
        converter: of `build_converter`.
        raw: dicts, lists, str, int, float, bool, as TOML gives them.
        cls: an attrs class.
        where: a name for the whole, put before the path of every fault.

    Raises:
        ConfigError: with every fault as ``where.path: what was given, what is allowed``.
    """
    try:
        return converter.structure(raw, cls)
    except Faults as faults:
        raise ConfigError(_located(faults, where)) from None


def unstructure(value: Any) -> Any:
    """Return options as plain dicts, lists and scalars, defaults filled in, None left out as TOML has none."""
    if isinstance(value, Selection):
        return {NAME_KEY: value.name, **unstructure(value.options)}
    if attrs.has(type(value)):
        fields = [field for field in attrs.fields(type(value)) if field.init]
        items = {field.alias or field.name: getattr(value, field.name) for field in fields}
        return {name: unstructure(item) for name, item in items.items() if item is not None}
    if isinstance(value, Mapping):
        return {str(key): unstructure(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [unstructure(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def build_converter(registry: Registry) -> cattrs.Converter:
    """Return a cattrs converter that structures strictly and resolves selected components with `registry`."""
    converter = cattrs.Converter()
    # What is registered later comes first, so the first two take whatever the others leave.
    converter.register_structure_hook_func(lambda _t: True, _no_such_type)
    converter.register_structure_hook_func(lambda t: t is Any, lambda value, _t: value)
    scalars: dict[type[Any], Callable[[Any], Any]] = {
        int: _integer,
        float: _number,
        bool: _boolean,
        str: _string,
        Path: _path,
    }
    for scalar, read in scalars.items():
        # By type, not by predicate: cattrs would find its own conversions of these first.
        converter.register_structure_hook(scalar, _ignoring_type(read))
    converter.register_structure_hook_func(lambda t: _origin(t) is Literal, _literal)
    converter.register_structure_hook_func(
        lambda t: _origin(t) in {Union, types.UnionType},
        lambda value, union: _first_that_fits(converter, value, typing.get_args(union)),
    )
    converter.register_structure_hook_func(
        lambda t: _origin(t) is tuple, lambda value, t: _sequence(converter, value, t)
    )
    converter.register_structure_hook_func(
        lambda t: _origin(t) in {dict, Mapping}, lambda value, t: _mapping(converter, value, t)
    )
    converter.register_structure_hook_func(
        lambda t: isinstance(t, type) and attrs.has(t),
        lambda value, cls: _attrs_class(converter, registry, value, cls),
    )
    return converter


def _ignoring_type(read: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _t: read(value)


def _located(faults: Faults, where: str) -> list[Fault]:
    placed = faults.below(where) if where else faults.faults
    return [fault if fault.path else fault.below("configuration") for fault in placed]


def _given(value: Any) -> str:
    kind = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    shown = repr(value)
    if isinstance(value, bool):
        shown = str(value).lower()
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{shown} ({kind.get(type(value), type(value).__name__)})"


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Faults.misfit(_given(value), "an integer")
    if not -(2**63) <= value < 2**63:
        raise Faults.misfit(_given(value), "an integer of at most 64 bits")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Faults.misfit(_given(value), "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Faults.misfit(_given(value), "a finite number")
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Faults.misfit(_given(value), "true or false")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Faults.misfit(_given(value), "a string")
    return value


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise Faults.misfit(_given(value), "a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise Faults.misfit(_given(value), "a path; no such user has a home folder") from None


def _no_such_type(_value: Any, t: Any) -> Any:
    raise Faults.single(
        f"an option of type {t} cannot be read from a config; its plugin may use int, float, bool, str, pathlib.Path, "
        "Literal, tuple, dict, attrs classes and unions of these"
    )


def _literal(value: Any, literal: Any) -> Any:
    allowed = typing.get_args(literal)
    if not any(value == item and type(value) is type(item) for item in allowed):
        raise not_one_of(value, allowed)
    return value


def _origin(t: Any) -> Any:
    return typing.get_origin(t)


def _first_that_fits(converter: cattrs.Converter, value: Any, alternatives: tuple[Any, ...]) -> Any:
    if value is None and type(None) in alternatives:
        return None
    found: list[Fault] = []
    for alternative in alternatives:
        if alternative is type(None):
            continue
        try:
            return converter.structure(value, alternative)
        except Faults as faults:
            if len(alternatives) == 1 + (type(None) in alternatives):
                raise
            found.extend(faults.faults)
    # A value of the right kind whose inside is wrong is told as that; otherwise none fits, and all are told.
    inside = [fault for fault in found if fault.path or fault.problem]
    if inside:
        raise Faults(inside[:1])
    hints = dict.fromkeys(fault.hint for fault in found if fault.hint)
    raise Faults.misfit(found[0].given, " or ".join(fault.expected for fault in found), "; ".join(hints))


def _sequence(converter: cattrs.Converter, value: Any, t: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Faults.misfit(_given(value), "a list")
    arguments = typing.get_args(t)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = [arguments[0]] * len(value)
    elif len(arguments) == len(value):
        inner = list(arguments)
    else:
        raise Faults.misfit(f"{len(value)} value{'s' if len(value) != 1 else ''}", f"a list of {len(arguments)}")
    faults: list[Fault] = []
    items = []
    for index, (item, item_type) in enumerate(zip(value, inner, strict=True)):
        try:
            items.append(converter.structure(item, item_type))
        except Faults as found:
            faults.extend(found.below(str(index)))
    if faults:
        raise Faults(faults)
    return tuple(items)


def _mapping(converter: cattrs.Converter, value: Any, t: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Faults.misfit(_given(value), "a table")
    item_type = (typing.get_args(t) or (str, Any))[1]
    faults: list[Fault] = []
    items = {}
    for key, item in value.items():
        try:
            items[str(key)] = converter.structure(item, item_type)
        except Faults as found:
            faults.extend(found.below(str(key)))
    if faults:
        raise Faults(faults)
    return items


def _attrs_class(converter: cattrs.Converter, registry: Registry, raw: Any, cls: type[Any]) -> Any:
    if isinstance(raw, cls):
        return raw
    if not isinstance(raw, Mapping):
        raise Faults.misfit(_given(raw), "a table")
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise PluginError(f"{cls.__module__}.{cls.__qualname__}: {error}; import the types of its fields") from error
    fields = {field.alias or field.name: field for field in attrs.fields(cls) if field.init}
    faults: list[Fault] = []
    for key in raw:
        if key not in fields:
            hint = nearest(str(key), fields)
            known = f"known here: {', '.join(fields)}" if fields else "no keys are allowed here"
            faults.append(UnknownKey((str(key),), problem=f"unknown key{f' ({hint})' if hint else ''}", hint=known))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        try:
            if "elboverse.kind" in field.metadata:
                values[key] = _selected(converter, registry, raw, key, field)
            elif key in raw:
                values[key] = _validated(converter.structure(raw[key], field.type), field)
            elif field.default is attrs.NOTHING:
                faults.append(Fault((key,), problem="missing, and it has no default"))
        except Faults as found:
            faults.extend(found.below(key))
    if not faults:
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:  # a check across fields
            raise error if isinstance(error, Faults) else Faults.single(str(error)) from None
        except Exception as error:
            raise PluginError(f"{cls.__qualname__}: its check fails: {type(error).__name__}: {error}") from error
    raise Faults(faults)


def _validated(value: Any, field: attrs.Attribute[Any]) -> Any:
    if field.validator is not None:
        try:
            field.validator(_NotYet(), field, value)
        except _LooksAtOthersError:
            pass  # it runs again when there is an instance
        except Faults:
            raise
        except (ValueError, TypeError) as error:
            raise Faults.single(str(error.args[0] if error.args else error)) from None
        except Exception as error:
            raise PluginError(f"the validator of {field.name!r} fails: {type(error).__name__}: {error}") from error
    return value


class _LooksAtOthersError(Exception):
    """A validator looks at other fields of its instance, so that it cannot run before there is one, and does then."""


class _NotYet:
    """Stands for the instance while its fields are validated one by one."""

    def __getattribute__(self, name: str) -> Any:
        raise _LooksAtOthersError(name)


def _selected(
    converter: cattrs.Converter,
    registry: Registry,
    raw: Mapping[str, Any],
    key: str,
    field: attrs.Attribute[Any],
) -> Selection | tuple[Selection, ...] | None:
    kind, default = field.metadata["elboverse.kind"], field.metadata["elboverse.default"]
    table = raw.get(key)
    always_several = typing.get_origin(field.type) is tuple
    if field.metadata.get("elboverse.several") and isinstance(table, list | tuple):
        found = _several(converter, registry, kind, table)
        return ((found,) if isinstance(found, Selection) else found or ()) if always_several else found
    if table is None:
        if default is None:
            if type(None) in typing.get_args(field.type):
                return None
            raise Faults.single(f"missing; it selects a {kind} by name")
        table = {NAME_KEY: registry.default(kind, default)}
    if isinstance(table, Mapping) and NAME_KEY not in table and default is not None:
        table = {NAME_KEY: registry.default(kind, default), **table}
    chosen = structure_selection(converter, registry, kind, table)
    return (chosen,) if always_several else chosen


def _several(
    converter: cattrs.Converter, registry: Registry, kind: str, tables: Sequence[Any]
) -> Selection | tuple[Selection, ...] | None:
    """Return the components of a list of tables: none of an empty one, that of a single one, else all of them."""
    found, faults = [], []
    for number, table in enumerate(tables):
        try:
            found.append(structure_selection(converter, registry, kind, table))
        except Faults as below:
            faults += below.below(str(number))
    if faults:
        raise Faults(faults)
    return tuple(found) if len(found) > 1 else found[0] if found else None


def structure_selection(converter: cattrs.Converter, registry: Registry, kind: str, table: Any) -> Selection:
    """Return the component that `table` names, with the rest of the table as its structured options.

    Raises:
        Faults: the table has no name or an unknown one, or its options are wrong.
    """
    if isinstance(table, Selection):
        return table
    if isinstance(table, str):
        table = {NAME_KEY: table}
    if not isinstance(table, Mapping):
        raise Faults.misfit(_given(table), "a table with a name")
    name = table.get(NAME_KEY)
    if not isinstance(name, str):
        known = ", ".join(registry.names(kind))
        problem = "missing" if name is None else f"got {_given(name)}"
        raise Faults([Fault((NAME_KEY,), problem=problem, hint=f"known: {known}")])
    try:
        registered = registry.find(kind, name)
    except ElboverseError as error:
        raise Faults([Fault((NAME_KEY,), problem=str(error))]) from None
    options = {key: value for key, value in table.items() if key != NAME_KEY}
    return Selection(registered, converter.structure(options, registered.config_class()))
