"""``elboverse plugins``."""

from __future__ import annotations

import json

import click

from elboverse.components.hookspecs import HOOKS
from elboverse.components.registry import Plugin, Registered, Registry, discover

__all__ = ["plugins"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(*, as_json: bool) -> None:
    """List plugins, the components that they offer, and those that could not be loaded."""
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
                    click.echo(f"  {kind:10} {registered.name:16} {registered.component.summary}")


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
