"""``elboverse encode``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from elboverse.cli.results import finish, opened, points_of_file, result_options

__all__ = ["encode"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("data", type=click.Path(path_type=Path), required=False, metavar="[DATA]")
@click.option("--variances", is_flag=True, help="Also write the variances of q(z|x), as var_z0, …")
@result_options
def encode(
    run: Path,
    data: Path | None,
    out: Path,
    replica: int,
    device: str,
    *,
    variances: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write the latents of each row of DATA: the mean of q(z|x).

    The columns are called z0, z1, … DATA is a file like the one that RUN was trained on; without it, the data of the
    run itself, in their order. New rows are scaled as those of training were.
    """
    model = opened(run, out, replica, device, None, overwrite=overwrite)
    rows = points_of_file(model, data)
    parts = [model.encode(block, variances=True) for block in rows.blocks(quiet, "encoding")]
    means, spread = (np.concatenate(each) for each in zip(*parts, strict=True))
    columns = {name: means[:, latent] for latent, name in enumerate(model.latent_names)}
    if variances:
        columns |= {f"var_{name}": spread[:, latent] for latent, name in enumerate(model.latent_names)}
    finish(out, rows, columns, f"{model.latent_dim} latents", quiet=quiet)
