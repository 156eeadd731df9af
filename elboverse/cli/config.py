"""``elboverse config``."""

from __future__ import annotations

import click

from elboverse.config import DEFAULT, load, named_configs, to_toml

__all__ = ["config"]


@click.group()
def config() -> None:
    """List, show and check configs."""


@config.command(name="list")
def list_() -> None:
    """List the configs that ship with elboverse, usable by name."""
    named = named_configs()
    width = max(map(len, named), default=0)
    for name, path in named.items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        click.echo(f"{name:{width}}  {first.lstrip('# ') if first.startswith('#') else ''}".rstrip())


@config.command()
@click.argument("source", required=False, metavar="CONFIG")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one value.")
def show(source: str | None, overrides: tuple[str, ...]) -> None:
    """Print CONFIG as TOML with every default filled in."""
    click.echo(to_toml(load(DEFAULT if source is None else source, overrides)), nl=False)


@config.command()
@click.argument("source", metavar="CONFIG")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one value.")
def check(source: str, overrides: tuple[str, ...]) -> None:
    """Check CONFIG and list every fault in it."""
    load(source, overrides)
    click.echo(f"{source}: no faults")
