"""How much training costs, as ratios to bare loops in paired runs: the step, replicas, many samples,
verification, evaluation, start-up; `--sweep` shows how a step grows.

`nox -s bench` runs it. Ours is the program's loop with everything recorded to `run.h5` and TensorBoard, and an
evaluation before and after; the bare loop records nothing. The two take turns, and the median of the ratios of
neighbours is what counts: single times drift with the machine. Nothing here gates a test.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import click
import numpy as np
import torch
from bare import bare_loop
from limits import Limits, Machine, seconds
from rich.console import Console
from rich.table import Table
from sweep import swept

from elboverse.config import load
from elboverse.runfile import RunWriter
from elboverse.running.assembly import Experiment, build_experiment, default_samples_at_once
from elboverse.running.sinks.chosen import chosen_sinks
from elboverse.running.sinks.run_file import RunFileSink
from elboverse.theory.elbo import batch_terms
from elboverse.training.memory import keep_freed_memory
from elboverse.training.step import SingleStep, StepSettings

SHAPES = ((100, 20, 128, 1024), (18, 12, 128, 1024), (2, 2, 32, 128), (784, 10, 64, 256))
REPLICAS = ((2, 2, (32,), 128, 64), (10, 2, (50, 50), 2000, 16))
SECONDS = 4.0
"""About how long one turn takes."""


def experiment(folder: Path, points: torch.Tensor, **settings: object) -> Experiment:
    """Return an experiment on an array of points, with the settings of a model and of training given."""
    np.save(folder / "points.npy", points.numpy())
    model = {"name": "vae-1", "latent_dim": settings.pop("latent_dim"), "network": settings.pop("network")}
    training = {"evaluate_every": 10**6, **settings}
    dataset = {"name": "array", "path": str(folder / "points.npy"), "held_out": 0.0, "scaling": "none"}
    return build_experiment(load({"name": "bench", "model": model, "dataset": dataset, "training": training}))


def our_loop(points: torch.Tensor, steps: int, batch_size: int, **settings: object) -> float:
    """Train for some steps through the program, recording everything, and return the seconds that they took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        epochs = max(1, steps // (len(points) // batch_size))
        built = experiment(folder, points, batch_size=batch_size, epochs=epochs, **settings)
        writer = RunWriter(
            folder / "run.h5",
            documents=built.documents,
            replicas=built.config.training.replicas,
            latent_dim=built.latent_dim,
        )
        run_file = RunFileSink(writer)
        total_steps = built.loop.plan.total_steps
        followers = chosen_sinks(built.config.sinks)
        followers.begin(built.described(folder))
        sinks = (run_file, followers)
        started = time.perf_counter()
        for records in built.loop.rounds():
            for record in records:
                for sink in sinks:
                    sink.receive(record)
            if run_file.due:
                run_file.save_on_the_way(built.loop.state(), built.loop.done)
        elapsed = time.perf_counter() - started
        followers.end("finished")
        run_file.close()
        return elapsed / total_steps * steps


def steps_for(points: torch.Tensor, batch_size: int, latent_dim: int, hidden: int) -> int:
    """Return how many steps take about `SECONDS`, a whole number of epochs."""
    per_epoch = len(points) // batch_size
    bare_loop(points, batch_size, latent_dim, hidden, per_epoch)
    per_step = bare_loop(points, batch_size, latent_dim, hidden, per_epoch) / per_epoch
    return max(1, round(SECONDS / per_step / per_epoch)) * per_epoch


def measured(rounds: int, machine: Machine) -> list[dict[str, object]]:
    """Return one row per shape and per number of replicas, and the others."""
    # First, before the program has the C library keep freed memory, which speeds up what it is compared with too.
    rows: list[dict[str, object]] = [many_samples(rounds, machine)]
    for dimension, latent_dim, hidden, batch_size in SHAPES:
        points = torch.rand(20 * batch_size, dimension)
        steps = steps_for(points, batch_size, latent_dim, hidden)
        network = {"name": "mlp", "hidden": [hidden]}
        pairs = [
            (
                bare_loop(points, batch_size, latent_dim, hidden, steps),
                our_loop(points, steps, batch_size, latent_dim=latent_dim, network=network),
            )
            for _ in range(rounds)
        ]
        limits = Limits.of(dimension, latent_dim, (hidden,), batch_size)
        name = f"step, D={dimension} H={latent_dim} hidden {hidden} B={batch_size}"
        rows.append(row(name, pairs, steps, limits.milliseconds(machine)))
    for dimension, latent_dim, widths, batch_size, replicas in REPLICAS:
        points = torch.rand(20 * batch_size, dimension)
        network = {"name": "mlp", "hidden": list(widths)}
        settings = {"latent_dim": latent_dim, "network": network}
        steps = 400 if batch_size < 1000 else 100
        pairs = [
            (
                our_loop(points, steps, batch_size, **dict(settings)),
                our_loop(points, steps, batch_size, replicas=replicas, **dict(settings)) / replicas,
            )
            for _ in range(rounds)
        ]
        limits = Limits.of(dimension, latent_dim, widths, batch_size)
        name = f"per replica, R={replicas}, D={dimension} H={latent_dim} hidden {widths} B={batch_size}, to single"
        rows.append(row(name, pairs, steps, limits.milliseconds(machine)))
    return [*rows, verification(), evaluation(rounds), start_up(rounds)]


def many_samples(rounds: int, machine: Machine) -> dict[str, object]:
    """Return a step of the paper's VAE-3 verification with K = 100 against one that decodes all samples at once."""
    batch_size, samples = 2000, 100
    table = {
        "model": {"name": "vae-3", "network": {"name": "mlp", "hidden": [50, 50], "activation": "relu"}},
        "dataset": "pca",
        "training": {"batch_size": batch_size, "samples": samples},
    }
    config = load(table)
    model = config.model.build((10,))
    plain = copy.deepcopy(model)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=True)
    settings = StepSettings(samples_at_once=default_samples_at_once(batch_size))
    step = SingleStep(model, settings)
    x, noise, beta = torch.randn(batch_size, 10), torch.randn(samples, batch_size, 2), torch.ones(())

    def straightforward() -> None:
        loss = -batch_terms(plain, x, noise).elbo
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    pairs = [(seconds(straightforward), seconds(lambda: step(x, noise, beta))) for _ in range(rounds + 1)][1:]
    limits = Limits.of(10, 2, (50, 50), batch_size, samples)
    return row("step, vae-3, D=10 H=2 hidden (50, 50) B=2000 K=100", pairs, 1, limits.milliseconds(machine))


def verification() -> dict[str, object]:
    """Return the seconds of the paper's linear verification: 1,500 epochs of 5 steps, an evaluation after each."""
    training = {"epochs": 1500, "batch_size": 2000, "evaluate_every": 1}
    built = build_experiment(load({"model": "linear-vae", "dataset": "pca", "training": training}))
    whole = seconds(lambda: list(built.loop.rounds()))
    return {"what": "linear verification, whole", "ours_ms": round(1e3 * whole, 1)}


def evaluation(rounds: int) -> dict[str, object]:
    """Return ten epochs of circle with the one evaluation that belongs to them, against the same without it."""
    pairs = []
    for _ in range(rounds):
        built = build_experiment(load({"dataset": "circle", "training": {"epochs": 10, "evaluate_every": 10}}))
        records = built.loop.rounds()
        one = seconds(lambda records=records: next(records))  # the evaluation before the first step
        whole = seconds(lambda records=records: list(records))
        pairs.append((whole - one, whole))
    return row("circle, evaluations at the default cadence, to none", pairs, built.loop.plan.total_steps, None)


def start_up(rounds: int) -> dict[str, object]:
    """Return the time from `elboverse train circle` until one epoch is done and saved, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "elboverse", "train", "circle", "--set", "training.epochs=1", "--out"]
        took = [
            seconds(lambda turn=turn: subprocess.run([*command, f"{folder}/{turn}"], check=True, capture_output=True))
            for turn in range(rounds)
        ]
    return {"what": "elboverse train circle, one epoch", "ours_ms": round(1e3 * statistics.median(took), 1)}


def row(
    name: str, pairs: list[tuple[float, float]], steps: int, least: tuple[float, float] | None
) -> dict[str, object]:
    """Return the figures of one comparison, times in milliseconds per step.

    Args:
        name: what was compared.
        pairs: seconds of the bare one and of ours, one pair per turn.
        steps: how many steps they took.
        least: what a step takes at least, by operations and by bytes.
    """
    return {
        "what": name,
        "bare_ms": round(1e3 * statistics.median(bare for bare, _ in pairs) / steps, 4),
        "ours_ms": round(1e3 * statistics.median(ours for _, ours in pairs) / steps, 4),
        "ratio": round(statistics.median(ours / bare for bare, ours in pairs), 3),
        "ratios": [round(ours / bare, 3) for bare, ours in pairs],
        "least_ms": least and [round(limit, 4) for limit in least],
    }


def shown(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> Table:
    """Return the table of the rows, with those of an earlier commit beside them if there are any."""
    columns = ["what", "bare (ms)", "ours (ms)", "ours / bare", "least by operations", "least by bytes"]
    then = {key_of(row): row for row in earlier}
    table = Table(*columns, *(["then (ms)", "then: ours / bare", "ours / then"] if earlier else []))
    for figures in rows:
        least = figures.get("least_ms") or (None, None)
        cells = [figures.get("bare_ms"), figures["ours_ms"], figures.get("ratio"), *least]
        if earlier:
            before = then.get(key_of(figures), {})
            time = before.get("ours_ms")
            cells += [time, before.get("ratio"), time and figures["ours_ms"] / time]
        table.add_row(key_of(figures), *("" if cell is None else f"{cell:.4g}" for cell in cells))
    return table


def key_of(figures: dict[str, Any]) -> str:
    """Return what a row is about."""
    return str(figures["what"]) if "what" in figures else f"{figures['axis']} = {figures['value']}"


@click.command()
@click.option("--rounds", default=7, help="Turns of each pair.")
@click.option("--sweep", is_flag=True, help="How a step grows with D, H, batch size, K and R, in place of the pairs.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path("bench.json"), help="Where figures go.")
@click.option("--compare", type=click.Path(path_type=Path, exists=True), help="Figures of an earlier commit.")
def main(rounds: int, sweep: bool, path: Path, compare: Path | None) -> None:
    """Measure, print the table and write the figures."""
    earlier = [] if compare is None else json.loads(compare.read_text(encoding="utf-8"))["rows"]
    keep_freed_memory()
    machine = Machine.measured()
    rows = swept(machine) if sweep else measured(rounds, machine)
    Console(width=150).print(shown(rows, earlier))
    figures = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": attrs.asdict(machine)}
    path.write_text(json.dumps({**figures, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
