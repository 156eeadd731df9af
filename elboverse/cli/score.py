"""``elboverse score``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from elboverse.cli.results import finish, opened, points_of_file, result_options

__all__ = ["score"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("data", type=click.Path(path_type=Path), required=False, metavar="[DATA]")
@click.option(
    "--importance-samples",
    type=click.IntRange(1),
    metavar="K",
    help="Also write the importance-weighted bound with K samples per row, and how many of them count.",
)
@click.option("--scaled-units", is_flag=True, help="Densities of the scaled data, as training reports them.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the Monte-Carlo samples.")
@result_options
def score(
    run: Path,
    data: Path | None,
    out: Path,
    replica: int,
    device: str,
    importance_samples: int | None,
    seed: int,
    *,
    scaled_units: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write the ELBO of each row of DATA and its terms, in nats: how likely the model finds it.

    DATA is a file like the one that RUN was trained on; without it, the data of the run itself, in their order. A low
    ELBO marks an unusual row.
    """
    model = opened(run, out, replica, device, None, overwrite=overwrite)
    rows = points_of_file(model, data)
    parts = [
        model.score(block, importance_samples=importance_samples or 0, scaled_units=scaled_units, seed=seed)
        for block in rows.blocks(quiet, "scoring")
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    finish(out, rows, columns, "scores", quiet=quiet)
    if not quiet:
        units = "scaled" if scaled_units else "data"
        click.echo(f"Mean ELBO {float(columns['elbo'].mean()):z.4f} nats, in {units} units", err=True)
