"""The page on all keys of a config, made from the classes that read them."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
from griffe import Docstring, DocstringSectionKind

from elboverse.components.hookspecs import KINDS
from elboverse.components.registry import Registered, Selection, discover
from elboverse.config import ExperimentConfig, TrainingConfig
from elboverse.config.structuring import InRange

HEAD = """# Configuration

A config is a TOML file. The tables below are made from the classes that read it, so they hold for this version;
`elboverse plugins show KIND NAME` prints the same for any plugin that is installed, and
`elboverse config show NAME > mine.toml` writes a config out in full. On the command line every key is
`--set KEY=VALUE`, such as `--set model.latent_dim=8` or `--set training.epochs=40`.

A component is a table with its `name` and the options of that component:

```toml
name = "mine"

[model]
name = "vae-1"
latent_dim = 4
network = { name = "mlp", hidden = [64, 32] }

[dataset]
name = "circle"
```
"""

TITLES = {
    "model": "Models", "network": "Networks", "likelihood": "Likelihoods", "prior": "Priors", "posterior": "Posteriors",
    "regulariser": "Regularisers", "dataset": "Datasets", "constraint": "Weight constraints",
    "annealing": "Schedules of the KL weight and of learning rates", "optimiser": "Optimisers",
    "sink": "Sinks", "launcher": "Launchers", "analysis": "Analyses",
}  # fmt: skip


def page() -> str:
    """Return the page."""
    parts = [HEAD, "## Top level\n", table(ExperimentConfig), "## `[training]`\n", table(TrainingConfig)]
    registry = discover()
    for kind in KINDS:
        ours = [found for found in registry.components[kind.name].values() if found.plugin.distribution == "elboverse"]
        if not ours:
            continue
        parts.append(f"## {TITLES.get(kind.name, kind.plural.capitalize())}\n")
        parts += [part for found in ours for part in (heading(found), table(found.config_class()))]
    return "\n".join(parts)


def heading(found: Registered) -> str:
    name, summary = found.component.name, found.component.summary
    return f"### {name} {{ #{found.kind}-{name} }}\n\n{summary[:1].upper()}{summary[1:]}.\n"


def table(options: type[Any]) -> str:
    """Return the keys of an options class as a table, or that there are none."""
    rows = list(rows_of(options))
    if not rows:
        return "It has no options.\n"
    lines = ["| key | type | range | default | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def rows_of(options: type[Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield key, type, range, default and meaning of each option, ready for a table."""
    attrs.resolve_types(options, localns={"Selection": Selection, "Path": Path})
    written = documented(options)
    for field in attrs.fields(options):
        if field.init:
            name = field.alias or field.name
            meaning = field.metadata.get("help") or written.get(name, "")
            cells = (f"`{name}`", type_of(field), range_of(field), default_of(field), sentence(meaning))
            yield tuple(cell.replace("|", "\\|") for cell in cells)  # type: ignore[misc]


def documented(options: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a class and of those that it is built on say of each argument."""
    found: dict[str, str] = {}
    for cls in reversed(options.__mro__):
        text = inspect.getdoc(cls) if "__doc__" in vars(cls) else None
        for section in Docstring(text or "").parse("google", warnings=False):
            if section.kind is DocstringSectionKind.parameters:
                found |= {parameter.name: " ".join(parameter.description.split()) for parameter in section.value}
    return found


def type_of(field: Any) -> str:
    kind = field.metadata.get("elboverse.kind")
    if kind is None:
        return words(field.type)
    noun = {"annealing": "schedule"}.get(kind, kind)
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def words(kind: Any) -> str:
    """Return a type as a config's author knows it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(f'`"{value}"`' if isinstance(value, str) else f"`{value}`" for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(words(one) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return "table"
    if kind is TrainingConfig:
        return "table"
    names = {int: "integer", float: "number", bool: "true or false", str: "text", Selection: "a component"}
    return names.get(kind, "path" if getattr(kind, "__name__", "") == "Path" else getattr(kind, "__name__", str(kind)))


def range_of(field: Any) -> str:
    validator = field.validator
    inner = getattr(validator, "validator", validator)  # of attrs.validators.optional
    return str(inner) if isinstance(inner, InRange) else ""


def default_of(field: Any) -> str:
    selected = field.metadata.get("elboverse.default")
    if selected is not None:
        return f'`"{selected}"`'
    if field.metadata.get("elboverse.kind") is not None:
        return "none" if typing.get_args(field.type) else "required"
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return "table below" if attrs.has(field.type) else "see meaning"
    return "–" if field.default is None else f"`{toml(field.default)}`"


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    text = re.sub(r"``([^`]+)``", r"`\1`", text.strip())
    return text[:1].upper() + text[1:] if text else ""


if __name__ == "__main__":
    sys.stdout.write(page())
