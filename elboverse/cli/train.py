"""``elboverse train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from elboverse import identities
from elboverse.config import load
from elboverse.runfile import Run

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig

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
@click.option(
    "--resume",
    "resumed",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with an interrupted run: its folder or run.h5. With --set training.epochs=N, extend it.",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    metavar="RUN.h5",
    help="Repeat an earlier run: take its config, and say what differs in versions, device and plugins.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def train(
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    resumed: Path | None,
    like: Path | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train what CONFIG describes: a TOML file or the name of a shipped config (see `elboverse config list`).

    Without CONFIG, a small VAE on points of a noisy circle.
    """
    console = Console(quiet=quiet, highlight=False)
    if resumed is not None:
        if config is not None or out is not None or like is not None or overwrite:
            raise click.UsageError("--resume takes the run's own config and folder; only --set training.epochs=N fits.")
        from elboverse.execution import resume  # torch is needed from here on

        console.print(f"Resuming {resumed}", soft_wrap=True)
        _summarise(resume(resumed, overrides=overrides, console=console), console)
        return
    if like is not None and config is not None:
        raise click.UsageError("--like takes the config of an earlier run; give it or CONFIG, not both.")
    resolved = load(_config_of(like) if like is not None else config, overrides)
    console.print(_headline(resolved), soft_wrap=True)

    from elboverse.execution import train as train_config  # torch is needed from here on

    if like is not None:
        _print_differences(like, resolved, console)
    _summarise(train_config(resolved, out=out, overwrite=overwrite, console=console), console)


def _config_of(path: Path) -> dict[str, Any]:
    with Run.open(path) as run:
        return run.config


def _print_differences(path: Path, config: ExperimentConfig, console: Console) -> None:
    from elboverse.execution import differences  # torch is needed from here on

    with Run.open(path) as run:
        found = differences(run, config)
    if found:
        console.print(f"Not as in {path}, so the numbers may differ:", soft_wrap=True)
        for difference in found:
            console.print(f"  {difference}", soft_wrap=True)
    else:
        console.print(f"Versions, device and plugins are those of {path}.", soft_wrap=True)


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
