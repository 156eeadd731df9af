"""``elboverse train``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
from rich.console import Console

from elboverse.cli.advice import AdvisedCommand, require_known_setting
from elboverse.components.registry import discover
from elboverse.config import (
    advising,
    anchored,
    apply_override,
    apply_sweeps,
    find_config,
    from_table,
    read_table,
    with_plugins_of,
)
from elboverse.config.own_data import is_data_file
from elboverse.runfile import Run
from elboverse.running.sweep import SWEEP_FILE, is_sweep, refuse_both, resume_sweep, train_sweep
from elboverse.theory import identities
from elboverse.theory.certificate import certificates, told
from elboverse.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from elboverse.components.registry import Registry
    from elboverse.config import ExperimentConfig

__all__ = ["train"]

OVERFIT_ERRORS: Final = 4.0
OVERFIT_SHARE: Final = 0.05
"""Standard errors, and share of the ELBO, by which held-out points fall short where a model is called overfitted."""


@click.command(cls=AdvisedCommand)
@click.argument("config", required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override one value of the config, such as model.latent_dim=8; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run; runs/<name>-<time> if not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace a run.h5 that is in that folder already.")
@click.option(
    "--replicas",
    type=click.IntRange(1),
    metavar="R",
    help="Train R copies side by side, with seeds s, s+1, …; short for --set training.replicas=R.",
)
@click.option("--seeds", metavar="A..B", help="Train one copy for each seed from A to B, such as 0..99.")
@click.option(
    "--resume",
    "resumed",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Resume an interrupted run, its folder or run.h5, or with a sweep, its folder. With --set "
    "training.epochs=N, extend it.",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Repeat an earlier run, its folder or run.h5: take its config, and say what differs in versions and device.",
)
@click.option(
    "--sweep",
    "swept",
    multiple=True,
    metavar="KEY.PATH=A,B,…",
    help="Train one run for each of some values, such as model.latent_dim=2,4,6; given again, for each combination.",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    metavar="N",
    help="Train the runs of a study N at a time, each in a process of its own.",
)
@click.option(
    "--launcher",
    metavar="NAME",
    help="What starts the runs of a study: local, or that of a plugin, such as ray or slurm.",
)
@click.option("--address", metavar="ADDRESS", help="Address of the launcher's cluster, such as 10.0.0.1:6379 for ray.")
@click.option(
    "--launch",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set an option of the launcher, such as partition=gpu for slurm; repeatable.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Processor threads of a run; short for --set training.threads=N. By default one, unless more are found "
    "to pay; in a study one for each run. Numbers do not depend on --jobs, but may on this.",
)
@click.option(
    "--until",
    type=click.Choice(["epochs", "stationary"]),
    help="Train for the config's epochs, or until the training certificate holds; short for --set training.until=….",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --resume or --like: where the data of the run are now, if they have moved.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def train(
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    replicas: int | None,
    seeds: str | None,
    resumed: Path | None,
    like: Path | None,
    swept: tuple[str, ...],
    jobs: int | None,
    launcher: str | None,
    address: str | None,
    options: tuple[str, ...],
    threads: int | None,
    until: str | None,
    data: Path | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train what CONFIG describes: a TOML file or the name of a shipped config (see `elboverse config list`).

    A data file in its place, such as table.csv, is trained on with settings that suit most tables.

    Without CONFIG, a small VAE on points of a noisy circle.
    """
    console = Console(quiet=quiet, highlight=False)
    keep_freed_memory()
    if until is not None:
        overrides = (*overrides, f"training.until={until}")
    if resumed is not None:
        copies = replicas is not None or seeds is not None or swept
        if config is not None or out is not None or like is not None or overwrite or copies:
            raise click.UsageError("--resume takes the run's own config and folder; only --set training.epochs=N fits.")
        from elboverse.running.runs import resume  # torch is needed from here on

        if (resumed / SWEEP_FILE).is_file():
            announce = _announcer(console)
            paths = resume_sweep(
                resumed,
                overrides=overrides,
                console=console,
                announce=announce,
                jobs=jobs,
                launcher=_launcher(launcher, address, options),
                threads=threads or 1,
            )
            _summarise_sweep(paths, console)
            return
        if threads is not None:
            raise click.UsageError("A resumed run keeps its number of threads.")
        console.print(f"Resuming {resumed}", soft_wrap=True)
        _summarise(resume(resumed, overrides=overrides, console=console, data=data), console)
        return
    if data is not None and like is None:
        raise click.UsageError("--data says where the data of an earlier run are now; give --resume or --like with it.")
    if like is not None and swept:
        raise click.UsageError("--like repeats one run; leave out --sweep, or give it with a CONFIG.")
    if like is not None and config is not None:
        raise click.UsageError("--like takes the config of an earlier run; give it or CONFIG, not both.")
    earlier = None if like is None else _opened(like)
    given = _earlier_config(earlier, data) if earlier is not None else read_table(config)
    if config is not None and is_data_file(Path(config)):
        console.print(
            f"{config} is a data file, so settings for it are taken: {given['model']['name']} with "
            f"{given['model']['latent_dim']} latents{_how_long(given)}. "
            f"`elboverse config show {shlex.quote(config)}` prints them as a config.",
            soft_wrap=True,
        )
    table = dict(given)
    overridden = []
    for override in (*overrides, *_copies(replicas, seeds)):
        overridden.append(apply_override(table, override))
        require_known_setting(override, overridden[-1], given)
    table = anchored(table, Path.cwd())
    apply_sweeps(table, swept)
    where = _launcher(launcher, address, options)
    if is_sweep(table):
        refuse_both(table, overridden)
        announce = _announcer(console)
        with advising(given, table):
            paths = train_sweep(
                table,
                out=out,
                overwrite=overwrite,
                console=console,
                announce=announce,
                jobs=jobs,
                launcher=where,
                threads=threads or 1,
                registry=_components(config, table),
            )
        _summarise_sweep(paths, console)
        return
    if jobs is not None or where is not None:
        raise click.UsageError(
            "--jobs and --launcher train the runs of a study; this config describes one run. Give it a table [sweep], "
            "or --sweep KEY=A,B."
        )
    if threads is not None:
        apply_override(table, f"training.threads={threads}")
    with advising(given, table):
        resolved = from_table(table, _components(config, table))
    console.print(_headline(resolved), soft_wrap=True)

    from elboverse.running.runs import train as train_config  # torch is needed from here on

    if earlier is not None:
        _print_differences(earlier, resolved, console)
    _summarise(train_config(resolved, out=out, overwrite=overwrite, console=console, like=earlier), console)


def _components(config: str | None, table: dict[str, Any]) -> Registry | None:
    """Return the components with those of the files that a config names; None where it names none."""
    if config is None or not table.get("plugins"):
        return None
    return with_plugins_of(table, find_config(config).parent)


def _earlier_config(earlier: Run, data: Path | None) -> dict[str, Any]:
    """Return the config of an earlier run, its data taken from where they are now."""
    if data is None:
        return dict(earlier.config)
    from elboverse.running.given_data import with_data  # torch is needed from here on

    return with_data(discover(), earlier.config, data)[1]


def _launcher(name: str | None, address: str | None, options: Sequence[str]) -> dict[str, Any] | None:
    """Return the table of the launcher that the options ask for, None if they ask for none."""
    if name is None and (address is not None or options):
        raise click.UsageError("--address and --launch are options of a launcher; give --launcher too, such as ray.")
    if name is None:
        return None
    table: dict[str, Any] = {"name": name}
    if address is not None:
        table["address"] = address
    for option in options:
        apply_override(table, option)
    return table


def _announcer(console: Console) -> Callable[[str, ExperimentConfig], None]:
    def announce(name: str, config: ExperimentConfig) -> None:
        console.print(f"\n{name}\n{_headline(config)}", soft_wrap=True)

    return announce


def _copies(replicas: int | None, seeds: str | None) -> list[str]:
    """Return the overrides that `--replicas` or `--seeds` stand for."""
    if seeds is None:
        return [] if replicas is None else [f"training.replicas={replicas}"]
    if replicas is not None:
        raise click.UsageError("--seeds says how many replicas there are; give it or --replicas, not both.")
    found = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", seeds.strip())
    first, last = (int(part) for part in found.groups()) if found else (1, 0)
    if last < first:
        raise click.UsageError(f"--seeds {seeds}: give a first and a last seed, such as 0..99")
    return [f"seed={first}", f"training.replicas={last - first + 1}"]


def _opened(path: Path) -> Run:
    """Return a run, closed: what it says of its circumstances stays readable."""
    with Run.open(path) as run:
        return run


def _print_differences(run: Run, config: ExperimentConfig, console: Console) -> None:
    from elboverse.running.runs import differences  # torch is needed from here on

    found = differences(run, config)
    if found:
        console.print(f"Not as in {run.path}, so the numbers may differ:", soft_wrap=True)
        for difference in found:
            console.print(f"  {difference}", soft_wrap=True)
    else:
        console.print(f"Versions, device and plugins are those of {run.path}.", soft_wrap=True)


def _headline(config: ExperimentConfig) -> str:
    training = config.training
    replicas = f", {training.replicas} replicas" if training.replicas > 1 else ""
    return (
        f"Training {config.model.name} on {config.dataset.name}: {training.epochs} epochs, "
        f"batch {training.batch_size or 'of 1024 at most'}, seed {config.seed}{replicas}"
    )


def _how_long(table: Mapping[str, Any]) -> str:
    return ", trained until it is stationary" if "until" in table["training"] else ""


def _summarise(run: Run, console: Console) -> None:
    lines: list[tuple[str, str, str]] = []
    for split, title in (("train", "training data"), ("held_out", "held out")):
        if split not in run.splits:
            continue
        names = ("elbo", "entropy_sum", "elbo_standard_error", "gap")
        final = {name: run.evaluation(split, name)[-1] for name in names}
        elbo, entropy_sum, error, gap = (float(np.median(final[name])) for name in names)
        points = run.evaluation_points(split)
        lines.append((f"ELBO, {title}", f"{elbo:z.4f}", f"± {error:z.4f} nats, {points:,} points"))
        lines.append((f"entropy sum, {title}", f"{entropy_sum:z.4f}", f"gap {identities.in_words(gap, elbo)}"))
    truth = run.data.get("held_out_log_likelihood")
    if truth is not None:
        of = f" with seed {run.config['seed']}" if run.replicas > 1 else ""
        lines.append((f"true log-likelihood, held out{of}", f"{truth:z.4f}", "nats, of the generating density"))
    decoder_log_var = run.series("decoder_log_var")[-1]
    low = identities.is_at_floor(decoder_log_var)
    if low.any():
        of = f", {low.sum()} of {run.replicas} replicas" if run.replicas > 1 else ""
        lines.append(("decoder ln σ²", f"{decoder_log_var.min():z.4f}", f"held at its floor{of}"))
    split = "held_out" if "held_out" in run.splits else "train"
    drop = run.evaluation(split, "entropy_drop")[-1]
    active = np.median((drop >= identities.DROP_THRESHOLD).sum(-1))
    lines.append(("active latents", f"{active:g} of {run.latent_dim}", "by entropy drop"))

    left, middle = (max(len(line[column]) for line in lines) for column in (0, 1))
    console.print(f"\nMedians of {run.replicas} replicas:" if run.replicas > 1 else "")
    for name, value, remark in lines:
        console.print(f"{name:{left}}  {value:>{middle}}  {remark}", soft_wrap=True)
    found = certificates(run.documents, run.checkpoint_step)
    overfit = _overfit(run)
    if found or overfit:
        console.print("")
        if overfit:
            console.print(overfit, soft_wrap=True)
        for sentence in told(found, shlex.quote(str(run.path)), overfitted=bool(overfit)):
            console.print(sentence, soft_wrap=True)
    command = shlex.join(["elboverse", "analyze", "collapse", str(run.path)])
    console.print(f"\nSaved {run.path}. Next:\n  {command}", soft_wrap=True)


def _overfit(run: Run) -> str:
    """Return in one sentence that held-out points are fitted far worse than training points; empty if they are not."""
    if not {"train", "held_out"} <= set(run.splits):
        return ""
    train, held_out = (np.median(run.evaluation(split, "elbo")[-1]) for split in ("train", "held_out"))
    errors = [np.median(run.evaluation(split, "elbo_standard_error")[-1]) for split in ("train", "held_out")]
    short, error = float(train - held_out), float(np.hypot(*errors))
    if not short > max(OVERFIT_ERRORS * error, OVERFIT_SHARE * abs(float(train))):
        return ""
    return (
        f"Overfitted: the ELBO of held-out points is {short:.3g} ± {error:.2g} nats below that of training points; "
        "take fewer latents, a smaller network or the linear VAE (--set model=linear-vae), or train on more points."
    )


def _summarise_sweep(paths: Sequence[Path], console: Console) -> None:
    with Run.open(paths[0]) as run:
        analysis = "selection" if "stream" in run.data else "compare"
    folder = paths[0].parent.parent
    command = shlex.join(["elboverse", "analyze", analysis, str(folder)])
    console.print(f"\nSaved {len(paths)} runs in {folder}. Next:\n  {command}", soft_wrap=True)
