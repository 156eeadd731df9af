"""``elboverse config``."""

from __future__ import annotations

import click

from elboverse.config import (
    DEFAULT,
    SWEEP,
    ExperimentConfig,
    advising,
    apply_override,
    from_table,
    named_configs,
    read_table,
    to_toml,
)
from elboverse.errors import ConfigError

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
    """Print CONFIG as TOML with every default filled in; of a sweep, that of each run."""
    for name, config in _configs(DEFAULT if source is None else source, overrides).items():
        click.echo(f"{f'# {name}' if name else ''}\n{to_toml(config)}".lstrip(), nl=False)


@config.command()
@click.argument("source", metavar="CONFIG")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one value.")
def check(source: str, overrides: tuple[str, ...]) -> None:
    """Check CONFIG and list every fault in it, those that its data have included. Nothing is downloaded."""
    runs = _configs(source, overrides)
    for config in runs.values():
        _check_data(config)
    click.echo(f"{source}: no faults{f' in {len(runs)} runs' if len(runs) > 1 else ''}")


def _check_data(config: ExperimentConfig) -> None:
    """Check the data of a config that reads files: that they are there, can be read, and fill a batch.

    Raises:
        DataError: they cannot be used.
        ConfigError: there are fewer training points than a batch takes.
    """
    options = config.dataset.options
    if config.dataset.registered.name != "array":
        return
    data = config.dataset.registered.build(options, config.seed)
    batch = config.training.batch_size
    if batch is not None and batch > len(data.train):
        raise ConfigError(
            f"training.batch_size: got {batch}; expected at most {len(data.train):,}, the number of training points; "
            "without it, a batch is as large as there are points, up to 1024"
        )
    from elboverse.running.family import checked_fit  # torch, which listing configs does not need

    for finding in checked_fit(config, data):
        click.echo(f"– {finding.text}")


def _configs(source: str, overrides: tuple[str, ...]) -> dict[str, ExperimentConfig]:
    """Return the config of each run that CONFIG describes, by name; a single run has none."""
    given = read_table(source)
    table = dict(given)
    for override in overrides:
        apply_override(table, override)
    with advising(given, table):
        if SWEEP not in table:
            return {"": from_table(table)}
        from elboverse.running.sweep import expand  # NumPy and h5py, which listing configs does not need

        return expand(table)
