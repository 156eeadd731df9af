"""``elboverse plugins``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import click

from elboverse.cli.scaffold import SPELLINGS, WRITTEN, write_plugin
from elboverse.components.hookspecs import HOOKS
from elboverse.components.registry import Plugin, Registered, Registry, discover
from elboverse.errors import PluginError

__all__ = ["plugins"]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List plugins, the components that they offer, and what is wrong with them; write, check and show one."""
    if ctx.invoked_subcommand is not None:
        return
    registry = discover()
    if as_json:
        click.echo(json.dumps(_table(registry), indent=2))
        return
    for plugin in registry.plugins:
        click.echo(f"{plugin.name}  ({plugin.distribution} {plugin.version})")
        if plugin.failure is not None:
            click.echo(f"  could not be loaded: {plugin.failure}")
            if plugin.trace:
                click.echo(plugin.trace)
        for problem in plugin.problems:
            click.echo(f"  ! {problem}")
        for kind in HOOKS:
            for registered in registry.components[kind].values():
                if _is_of(registered, plugin):
                    click.echo(f"  {kind:11} {registered.name:19} {registered.component.summary}")


@plugins.command()
@click.argument("name")
@click.option("--kind", type=click.Choice([*WRITTEN, *SPELLINGS]), required=True, help="What it offers.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where its folder is made.")
def new(name: str, kind: str, out: Path) -> None:
    """Write a package NAME, such as elboverse-rings, with a component that works, its tests and their CI."""
    for path in write_plugin(name, kind, out):
        click.echo(path)
    short = name.removeprefix("elboverse-")
    steps = (f"pip install -e '{out / name}[dev]'", f"elboverse plugins check {short}", f"cd '{out / name}' && pytest")
    click.echo("\n  ".join(("\nNext:", *steps)), err=True)


@plugins.command()
@click.argument("name")
@click.option("--no-round-trip", is_flag=True, help="Check the contracts alone: train nothing.")
def check(name: str, *, no_round_trip: bool) -> None:
    """Check the plugin NAME: each component's contract, then training, resuming, replicas, an analysis and a report."""
    from elboverse.testing import check_plugin  # torch, which no other plugin command needs

    faults = 0
    for checked in check_plugin(discover(), name, round_trip=not no_round_trip, report=_report):
        faults += bool(checked.fault)
        click.echo(f"{'FAILED' if checked.fault else 'ok':6}  {checked.what}")
        if checked.fault:
            click.echo(f"        {checked.fault}")
    if faults:
        raise PluginError(f"{faults} of the checks of {name} failed")


def _report(path: Path, analysis: str) -> None:
    """Write a report of one analysis, and raise what it says was left out."""
    from elboverse.cli.report import page  # the reader of run files, which no other plugin command needs
    from elboverse.runfile import Run

    registry = discover()
    chosen = registry.find("analysis", analysis)
    alone = {**registry.components, "analysis": {chosen.name: chosen}}
    with Run.open(path) as run:
        text = page(run, attrs.evolve(registry, components=alone))
    if "<h2>Left out</h2>" in text:
        raise PluginError(f"{chosen}: the report leaves it out; see `elboverse report`")


@plugins.command()
@click.argument("kind", type=click.Choice([*HOOKS, *SPELLINGS]))
@click.argument("name")
def show(kind: str, name: str) -> None:
    """Show the component NAME of a KIND: whose it is, what it is made from, and its options with their defaults."""
    registered = discover().find(SPELLINGS.get(kind, kind), name)
    click.echo(f"{registered}: {registered.component.summary}")
    click.echo(f"  built by {':'.join(registered.origin)}")
    for field in attrs.fields(registered.config_class()):
        if field.init:
            default = "required" if field.default is attrs.NOTHING else f"default {_default(field)}"
            described = f"{_type(field)}, {default}  {field.metadata.get('help', '')}"
            click.echo(f"  {field.alias or field.name:24} {described}".rstrip())


def _default(field: attrs.Attribute[Any]) -> str:
    selected = field.metadata.get("elboverse.default")
    if selected is not None:
        return repr(selected)
    return "made anew" if isinstance(field.default, attrs.Factory) else repr(field.default)  # type: ignore[arg-type]


def _type(field: attrs.Attribute[Any]) -> str:
    kind = field.metadata.get("elboverse.kind")
    if kind is not None:
        return f"a {kind}"
    return field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))


def _table(registry: Registry) -> list[dict[str, object]]:
    return [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "failure": plugin.failure,
            "problems": list(plugin.problems),
            "contract": plugin.contract,
            "components": [
                {"kind": kind, "name": registered.name, "summary": registered.component.summary}
                for kind in HOOKS
                for registered in registry.components[kind].values()
                if _is_of(registered, plugin)
            ],
        }
        for plugin in registry.plugins
    ]


def _is_of(registered: Registered, plugin: Plugin) -> bool:
    return (registered.plugin.name, registered.plugin.distribution) == (plugin.name, plugin.distribution)
