"""What other families cost: a Gaussian step against an earlier commit's, and a Bernoulli step against its bare loop.

`python tests/benchmarks/families.py [--baseline FOLDER]`, FOLDER a checkout of the earlier commit. The two of a pair
take turns, each measured by processor time, and the median of the ratios of neighbours is what counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPES = ((100, 20, 128, 1024), (18, 12, 128, 1024), (2, 2, 32, 128), (784, 10, 64, 256))
"""D, H, width of the hidden layer, B."""

WORKER = """
import sys, json, time, pathlib, tempfile
import numpy as np, torch
torch.set_num_threads(1)
try:
    from elboverse.running.assembly import build_experiment
except ImportError:  # before the wings
    from elboverse.experiment import build_experiment
from elboverse.config import load

settings = json.loads(sys.argv[1])
folder = pathlib.Path(tempfile.mkdtemp())
points = np.random.default_rng(0).random((20 * settings["batch"], settings["dimension"]))
np.save(folder / "points.npy", points.astype(np.float32))
built = build_experiment(load({
    "name": "bench",
    "model": {"name": "vae-1", "latent_dim": settings["latents"],
              "network": {"name": "mlp", "hidden": [settings["hidden"]]}},
    "dataset": {"name": "array", "path": str(folder / "points.npy"), "held_out": 0.0, "scaling": "none"},
    "training": {"evaluate_every": 10**6, "epochs": settings["epochs"], "batch_size": settings["batch"],
                 "device": "cpu"},
}))
rounds = built.loop.rounds()
for line in sys.stdin:  # a turn at a time
    started, first = time.process_time(), built.loop.done
    while built.loop.done < first + settings["steps"]:
        next(rounds)
    print((time.process_time() - started) / (built.loop.done - first), flush=True)
"""


class Worker:
    """A process that trains a Gaussian VAE with one checkout of the program, so many steps at a time."""

    def __init__(self, checkout: Path, settings: dict[str, Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "ELBOVERSE_LOAD_PLUGINS": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tempfile.mkdtemp(),
        )

    def turn(self) -> float:
        """Return the processor seconds of a step over the next turn."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def against(baseline: Path, shape: tuple[int, int, int, int], rounds: int) -> list[tuple[float, float]]:
    """Return processor seconds of a Gaussian step, of the baseline and of this checkout, turn by turn."""
    dimension, latents, hidden, batch = shape
    steps = max(256, round(0.8 / (2e-6 * batch) / 256) * 256) if batch > 200 else 2560
    settings = {"dimension": dimension, "latents": latents, "hidden": hidden, "batch": batch, "steps": steps}
    settings["epochs"] = (rounds + 3) * steps // 20 + 20
    here = Path(__file__).resolve().parents[2]
    workers = [Worker(checkout, settings) for checkout in (baseline, here)]
    for worker in workers:
        worker.turn()  # imports, the first evaluation, the tape
    pairs = []
    for number in range(rounds):
        turns = [worker.turn() for worker in (workers if number % 2 == 0 else workers[::-1])]
        pairs.append((turns[0], turns[1]) if number % 2 == 0 else (turns[1], turns[0]))
    for worker in workers:
        worker.end()
    return pairs


class BareBernoulli(nn.Module):
    """A Bernoulli VAE as one writes it by hand."""

    def __init__(self, dimension: int, latents: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dimension, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2 * latents))
        self.decoder = nn.Sequential(nn.Linear(latents, hidden), nn.LeakyReLU(), nn.Linear(hidden, dimension))

    def loss(self, x: Tensor) -> Tensor:
        """Return −ELBO of a batch (B, D) with one sample per point."""
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        entropy = functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (entropy + 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()) / len(x)


def bare_turn(model: BareBernoulli, optimiser: torch.optim.Optimizer, points: Tensor, batch: int, steps: int) -> float:
    """Return the processor seconds of a step of the bare loop."""
    per_epoch = len(points) // batch
    started = time.process_time()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(points))
        first = step % per_epoch * batch
        optimiser.zero_grad()
        model.loss(points[order[first : first + batch]]).backward()
        optimiser.step()
    return (time.process_time() - started) / steps


def bernoulli(shape: tuple[int, int, int, int], rounds: int) -> list[tuple[float, float]]:
    """Return processor seconds of a Bernoulli step, of the bare loop and of ours with everything recorded."""
    from elboverse.config import load
    from elboverse.running.assembly import build_experiment

    dimension, latents, hidden, batch = shape
    points = (torch.rand(20 * batch, dimension) < 0.3).float()
    steps = 512 if batch > 200 else 2560
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "points.npy", points.numpy())
    network = {"name": "mlp", "hidden": [hidden]}
    settings = {
        "name": "bench",
        "model": {"name": "vae", "likelihood": "bernoulli", "latent_dim": latents, "network": network},
        "dataset": {"name": "array", "path": str(folder / "points.npy"), "held_out": 0.0},
        "training": {
            "evaluate_every": 10**6,
            "epochs": (rounds + 3) * steps // 20,
            "batch_size": batch,
            "device": "cpu",
        },
    }
    loop = build_experiment(load(settings)).loop
    ours = loop.rounds()
    model = BareBernoulli(dimension, latents, hidden)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def our_turn() -> float:
        started, first = time.process_time(), loop.done
        while loop.done < first + steps:
            next(ours)
        return (time.process_time() - started) / (loop.done - first)

    our_turn()
    bare_turn(model, optimiser, points, batch, steps)
    pairs = []
    for number in range(rounds):
        if number % 2:
            mine, theirs = our_turn(), bare_turn(model, optimiser, points, batch, steps)
        else:
            theirs, mine = bare_turn(model, optimiser, points, batch, steps), our_turn()
        pairs.append((theirs, mine))
    return pairs


def told(what: str, shape: tuple[int, int, int, int], pairs: list[tuple[float, float]]) -> str:
    """Return a line of the table: the least times in ms, and the ratios."""
    ratios = [ours / theirs for theirs, ours in pairs]
    name = "{}, D={} H={} hidden {} B={}".format(what, *shape)
    least = [min(times) * 1e3 for times in zip(*pairs, strict=True)]
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {name} | {least[0]:.3f} | {least[1]:.3f} | {statistics.median(ratios):.3f} | {each} |"


@click.command()
@click.option("--baseline", type=click.Path(path_type=Path, exists=True), help="Checkout of an earlier commit.")
@click.option("--rounds", default=5, show_default=True, help="Number of turns of each.")
def main(baseline: Path | None, rounds: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    click.echo("| what | theirs (ms, least) | ours (ms, least) | median ratio | each round |\n|---|---|---|---|---|")
    for shape in SHAPES:
        if baseline is not None:
            click.echo(told("Gaussian step against the baseline", shape, against(baseline.resolve(), shape, rounds)))
        click.echo(told("Bernoulli step against its bare loop", shape, bernoulli(shape, rounds)))


if __name__ == "__main__":
    main()
