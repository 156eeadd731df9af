"""``elboverse reconstruct``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from elboverse.cli.results import finish, opened, points_of_file, result_options

__all__ = ["reconstruct"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("data", type=click.Path(path_type=Path), required=False, metavar="[DATA]")
@result_options
def reconstruct(
    run: Path, data: Path | None, out: Path, replica: int, device: str, *, overwrite: bool, quiet: bool
) -> None:
    """Write the reconstruction of each row of DATA, denoised by the model, in the units and columns of the data.

    It is the decoder's mean at the encoder's mean. DATA is a file like the one that RUN was trained on; without it, the
    data of the run itself, in their order.
    """
    model = opened(run, out, replica, device, None, overwrite=overwrite)
    rows = points_of_file(model, data)
    values = np.concatenate(
        [model.reconstruct(block).reshape(len(block), -1) for block in rows.blocks(quiet, "reconstructing")]
    )
    columns = {name: values[:, column] for column, name in enumerate(model.column_names)}
    finish(out, rows, columns, "reconstructions", quiet=quiet)
