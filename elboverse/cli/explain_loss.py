"""``elboverse explain-loss``."""

from __future__ import annotations

from pathlib import Path

import click

from elboverse.errors import DataError

__all__ = ["explain_loss"]


@click.command(name="explain-loss")
@click.argument("loss", metavar="LOSS")
@click.option(
    "--dimension", type=click.IntRange(1), help="Number of observed dimensions, D; that of --data by default."
)
@click.option("--latent-dim", type=click.IntRange(1), required=True, help="Number of latents, H.")
@click.option("--kl-weight", type=float, help="Factor of the KL divergence; the implementation's own by default.")
@click.option("--weight", type=float, help="Factor of the reconstruction error.")
@click.option("--reduction", type=click.Choice(["batchmean", "mean", "sum"]), help="Of the reconstruction error.")
@click.option("--kl-reduction", type=click.Choice(["batchmean", "mean", "sum"]), help="Of the KL divergence.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Points in a batch.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Your points as a .npy file, to say which latents survive."
)
def explain_loss(
    loss: str,
    dimension: int | None,
    latent_dim: int,
    kl_weight: float | None,
    weight: float | None,
    reduction: str | None,
    kl_reduction: str | None,
    batch_size: int,
    data: Path | None,
) -> None:
    """Say what LOSS, such as mse-mean or pytorch-vae, means as a Gaussian VAE or a beta-VAE."""
    import numpy as np  # not at start-up

    from elboverse.integrations.explaining import explain_loss as explained

    points = None
    if data is not None:
        try:
            points = np.load(data, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{data}: cannot be read: {error}; expected a .npy file of points (N, D)") from error
    meaning = explained(
        loss,
        dimension=dimension,
        latent_dim=latent_dim,
        data=points,
        batch_size=batch_size,
        kl_weight=kl_weight,
        weight=weight,
        reduction=reduction,
        kl_reduction=kl_reduction,
    )
    for sentence in ([f"{loss}: {meaning.form.seen}."] if meaning.form.seen else []) + meaning.sentences():
        click.echo(sentence)
