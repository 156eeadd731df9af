"""``elboverse sample``."""

from __future__ import annotations

from pathlib import Path

import click

from elboverse.cli.results import finish, opened, result_options

__all__ = ["sample"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--count", "-n", type=click.IntRange(1), default=1000, show_default=True, help="Number of samples.")
@click.option("--means", is_flag=True, help="Write E[x|z], without the decoder's noise.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same samples for the same seed."
)
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Condition of all rows, such as batch=a; repeatable. By default, conditions of random training points.",
)
@result_options
def sample(
    run: Path,
    out: Path,
    count: int,
    seed: int,
    conditions: tuple[str, ...],
    replica: int,
    device: str,
    *,
    means: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write new rows drawn from the model of RUN, x ~ p(x|z) with z ~ p(z), in the units and columns of the data."""
    model = opened(run, out, replica, device, None, overwrite=overwrite)
    named: dict[str, str] = {}
    for text in conditions:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--condition {text}: expected NAME=VALUE")
        named[name.strip()] = value.strip()
    values = model.sample(count, seed=seed, means=means, conditions=named or None).reshape(count, -1)
    columns = {name: values[:, column] for column, name in enumerate(model.column_names)}
    finish(out, None, columns, "samples", quiet=quiet)
