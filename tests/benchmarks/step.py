"""How much training costs, as ratios to bare loops in paired runs: the step, replicas, many samples, verification.

`nox -s bench` runs it. Ours is the program's loop with everything recorded to `run.h5` and TensorBoard, and an
evaluation before and after; the bare loop records nothing. The two take turns, and the median of the ratios of
neighbours is what counts: single times drift with the machine. Nothing here gates a test.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from bare import bare_loop
from rich.console import Console
from rich.table import Table

from elboverse.config import load
from elboverse.elbo import batch_terms
from elboverse.experiment import Experiment, build_experiment, default_samples_at_once
from elboverse.runfile import RunWriter
from elboverse.sinks.run_file import RunFileSink
from elboverse.sinks.tensorboard import TensorBoardSink
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
        sinks = (run_file, TensorBoardSink(folder / "tensorboard", total_steps, built.latent_dim))
        started = time.perf_counter()
        for records in built.loop.rounds():
            for record in records:
                for sink in sinks:
                    sink.receive(record)
            if run_file.due:
                run_file.save_on_the_way(built.loop.state(), built.loop.done)
        elapsed = time.perf_counter() - started
        for sink in sinks:
            sink.close()
        return elapsed / total_steps * steps


def steps_for(points: torch.Tensor, batch_size: int, latent_dim: int, hidden: int) -> int:
    """Return how many steps take about `SECONDS`, a whole number of epochs."""
    per_epoch = len(points) // batch_size
    bare_loop(points, batch_size, latent_dim, hidden, per_epoch)
    per_step = bare_loop(points, batch_size, latent_dim, hidden, per_epoch) / per_epoch
    return max(1, round(SECONDS / per_step / per_epoch)) * per_epoch


def limits(dimension: int, latent_dim: int, hidden: int, batch_size: int) -> tuple[float, float]:
    """Return the least multiplications (in GFLOP) and bytes moved (in MB) of a step.

    Three matrix products per layer (forward, and backward for weights and inputs), two operations per
    multiplication and addition; bytes for reading and writing each layer's activations and gradients once, and
    for Adam's four tensors.
    """
    layers = ((dimension, hidden), (hidden, 2 * latent_dim), (latent_dim, hidden), (hidden, dimension))
    flop = sum(2 * 3 * batch_size * fan_in * fan_out for fan_in, fan_out in layers)
    activations = sum(4 * 4 * batch_size * fan_out for _, fan_out in layers)
    parameters = sum(4 * 8 * fan_in * fan_out for fan_in, fan_out in layers)
    return flop / 1e9, (activations + parameters) / 1e6


def measured(rounds: int) -> list[dict[str, object]]:
    """Return one row per shape and per number of replicas."""
    rows: list[dict[str, object]] = []
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
        flop, moved = limits(dimension, latent_dim, hidden, batch_size)
        rows.append(
            row(f"step, D={dimension} H={latent_dim} hidden {hidden} B={batch_size}", pairs, steps, flop, moved)
        )
    for dimension, latent_dim, widths, batch_size, replicas in REPLICAS:
        points = torch.rand(20 * batch_size, dimension)
        network = {"name": "mlp", "hidden": list(widths)}
        settings = {"latent_dim": latent_dim, "network": network}
        steps = 200 if batch_size < 1000 else 40
        pairs = [
            (
                our_loop(points, steps, batch_size, **dict(settings)),
                our_loop(points, steps, batch_size, replicas=replicas, **dict(settings)) / replicas,
            )
            for _ in range(rounds)
        ]
        name = f"per replica, R={replicas}, D={dimension} H={latent_dim} hidden {widths} B={batch_size}"
        rows.append(row(name, pairs, steps, None, None))
    return [*rows, many_samples(rounds), verification()]


def many_samples(rounds: int) -> dict[str, object]:
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

    pairs = [(timed(straightforward), timed(lambda: step(x, noise, beta))) for _ in range(rounds + 1)][1:]
    return row("step, vae-3, D=10 H=2 hidden (50, 50) B=2000 K=100", pairs, 1, None, None)


def verification() -> dict[str, object]:
    """Return the seconds of the paper's linear verification: 1,500 epochs of 5 steps, an evaluation after each."""
    training = {"epochs": 1500, "batch_size": 2000, "evaluate_every": 1}
    built = build_experiment(load({"model": "linear-vae", "dataset": "pca", "training": training}))
    seconds = timed(lambda: [None for _ in built.loop.rounds()])
    return {"what": "linear verification, whole (s)", "ours_ms": round(seconds, 2)}


def timed(function: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def row(
    name: str, pairs: list[tuple[float, float]], steps: int, flop: float | None, moved: float | None
) -> dict[str, object]:
    """Return the figures of one comparison, times in milliseconds per step."""
    return {
        "what": name,
        "bare_ms": round(1e3 * statistics.median(bare for bare, _ in pairs) / steps, 4),
        "ours_ms": round(1e3 * statistics.median(ours for _, ours in pairs) / steps, 4),
        "ratio": round(statistics.median(ours / bare for bare, ours in pairs), 3),
        "ratios": [round(ours / bare, 3) for bare, ours in pairs],
        "gflop": flop,
        "megabytes": moved,
    }


@click.command()
@click.option("--rounds", default=7, help="Turns of each pair.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=Path("bench.json"), help="Where figures go.")
def main(rounds: int, path: Path) -> None:
    """Measure, print the table and write the figures."""
    rows = measured(rounds)
    table = Table("what", "bare (ms)", "ours (ms)", "ratio", "GFLOP", "MB moved")
    for figures in rows:
        cells = [figures.get(key) for key in ("what", "bare_ms", "ours_ms", "ratio", "gflop", "megabytes")]
        table.add_row(
            *("" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        )
    Console(width=130).print(table)
    path.write_text(
        json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
