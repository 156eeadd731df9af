"""Command-line options from the fields of an attrs class."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

import attrs
import click

from elboverse.components.registry import Registry
from elboverse.config.structuring import build_converter, structure
from elboverse.errors import ConfigError, Fault, PluginError

__all__ = ["data_option", "options_of", "structured"]

_SCALARS: Mapping[Any, Any] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}


def data_option() -> click.Option:
    """Return the option that says where the data of a run are now."""
    return click.Option(
        ["--data"],
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Where the data of the run are now, if they have moved; they must be the same.",
    )


def options_of(cls: type[Any], owner: str) -> list[click.Option]:
    """Return one option per field, in their order.

    A field `drop_threshold: float = 0.5` becomes ``--drop-threshold FLOAT``; its help is ``metadata["help"]``. A bool
    becomes a pair ``--flag / --no-flag``, a `Literal` of strings a choice, ``X | None`` an option that may be left
    out, and ``tuple[X, ...]`` one that is repeatable.

    Args:
        cls: an attrs class.
        owner: whose it is, for messages.

    Raises:
        PluginError: a field has a type that no option can have.
    """
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise PluginError(f"{owner}: its options have a type that cannot be found: {error}") from error
    return [_option(field, owner) for field in attrs.fields(cls) if field.init]


def structured(registry: Registry, cls: type[Any], values: Mapping[str, Any]) -> Any:
    """Return the values of options as an instance of `cls`, checked by its types and validators.

    Raises:
        ConfigError: with every fault, each named by its option.
    """
    try:
        return structure(build_converter(registry), values, cls)
    except ConfigError as error:
        raise ConfigError([_by_option(fault) for fault in error.faults]) from None


def _by_option(fault: Fault) -> Fault:
    if not fault.path:
        return fault
    name, *inside = fault.path
    return attrs.evolve(fault, path=(f"--{name.replace('_', '-')}", *inside))


def _option(field: attrs.Attribute[Any], owner: str) -> click.Option:
    flag = f"--{field.name.replace('_', '-')}"
    value_type = _without_none(field.type)
    settings: dict[str, Any] = {"help": _help(field), "required": field.default is attrs.NOTHING}
    if field.default is not attrs.NOTHING:
        settings["default"] = _default(field)
    if value_type is bool:
        return click.Option([f"{flag}/--no-{flag.removeprefix('--')}", field.name], **settings)
    if typing.get_origin(value_type) is tuple:
        arguments = typing.get_args(value_type)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            settings["multiple"] = True
        else:
            settings["nargs"] = len(arguments)
        value_type = arguments[0] if len(set(arguments) - {Ellipsis}) == 1 else None
    option_type = _SCALARS.get(value_type)
    if typing.get_origin(value_type) is Literal:
        choices = typing.get_args(value_type)
        option_type = click.Choice(choices) if all(isinstance(choice, str) for choice in choices) else None
    if option_type is None:
        raise PluginError(
            f"{owner}: the field {field.name!r} has the type {field.type!r}, which no command-line option can have; "
            f"expected bool, int, float, str, Path, a Literal of strings, a tuple of one of them, or one or None"
        )
    return click.Option([flag, field.name], type=option_type, **settings)


def _without_none(field_type: Any) -> Any:
    if typing.get_origin(field_type) not in {Union, types.UnionType}:
        return field_type
    alternatives = [alternative for alternative in typing.get_args(field_type) if alternative is not type(None)]
    return alternatives[0] if len(alternatives) == 1 else field_type


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default
    return None if default.takes_self else default.factory()


def _help(field: attrs.Attribute[Any]) -> str:
    text = str(field.metadata.get("help", ""))
    if field.default is attrs.NOTHING or field.default is None or isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return text
    shown = f"{field.default:.4g}" if isinstance(field.default, float) else str(field.default)
    return f"{text}  [default: {shown}]".strip()
