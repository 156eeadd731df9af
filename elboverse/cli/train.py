"""``elboverse train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from elboverse import identities
from elboverse.config import DEFAULT, load

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig
    from elboverse.runfile import Run

__all__ = ["train"]


@click.command()
@click.argument("config", required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override one value of the config, such as model.latent_dim=8; may be given again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run; runs/<name>-<time> if not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace a run.h5 that is in that folder already.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def train(config: str | None, overrides: tuple[str, ...], out: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """Train what CONFIG describes: a TOML file or the name of a shipped config (see `elboverse config list`).

    Without CONFIG, a small VAE on points of a noisy circle.
    """
    resolved = load(DEFAULT if config is None else config, overrides)
    console = Console(quiet=quiet, highlight=False)
    console.print(_headline(resolved), soft_wrap=True)

    from elboverse.experiment import train as train_config  # torch is needed from here on

    run = train_config(resolved, out=out, overwrite=overwrite, console=console)
    _summarise(run, console)


def _headline(config: ExperimentConfig) -> str:
    training = config.training
    replicas = f", {training.replicas} replicas" if training.replicas > 1 else ""
    return (
        f"Training {config.model.name} on {config.dataset.name}: {training.epochs} epochs, "
        f"batch {training.batch_size}, seed {config.seed}{replicas}"
    )


def _summarise(run: Run, console: Console) -> None:
    table = Table(title=None, box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    replicas = " (median of replicas)" if run.replicas > 1 else ""
    for split, title in (("train", "training data"), ("held_out", "held out")):
        if split not in run.splits:
            continue
        values = {
            name: float(np.median(run.evaluation(split, name)[-1]))
            for name in ("elbo", "entropy_sum", "elbo_standard_error")
        }
        points = run.evaluation_points(split)
        table.add_row(
            f"ELBO, {title}",
            f"{values['elbo']:.4f}",
            f"± {values['elbo_standard_error']:.4f} nats, {points:,} points{replicas}",
        )
        gap = values["elbo"] - values["entropy_sum"]
        relative = 100 * abs(gap) / max(abs(values["elbo"]), 1e-12)
        table.add_row(f"entropy sum, {title}", f"{values['entropy_sum']:.4f}", f"gap {gap:+.4f} nats, {relative:.2f} %")
    truth = run.data.get("held_out_log_likelihood")
    if truth is not None:
        table.add_row("true log-likelihood, held out", f"{truth:.4f}", "nats, of the generating density")
    split = "held_out" if "held_out" in run.splits else "train"
    drop = run.evaluation(split, "entropy_drop")[-1]
    active = np.median((drop >= identities.DROP_THRESHOLD).sum(-1))
    table.add_row("active latents", f"{active:g} of {run.latent_dim}", "by entropy drop")
    console.print()
    console.print(table, soft_wrap=True)
    console.print(f"\nSaved {run.path}. Next:\n  elboverse analyze collapse {run.path}", soft_wrap=True)
