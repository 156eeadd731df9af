"""What `elboverse.record` costs a step of somebody's own loop: bare and recorded steps in turns, in one process.

    OMP_NUM_THREADS=1 python tests/benchmarks/recording.py

The bare loss is written as one writes it by hand, with the tensors of the model; the recorded one is `run.loss` of the
same tensors. Turns alternate, so that both see the same machine; the median of the ratios of neighbours is told.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from bare import BareVAE, elbo
from torch import Tensor

import elboverse

D, H, HIDDEN, B = 100, 20, 128, 1024
STEPS, TURNS = 64, 24


def stepper(points: Tensor, loss_of: Callable[[BareVAE, Tensor], Tensor]) -> Callable[[], None]:
    """Return a function that makes some steps of a fresh model."""
    torch.manual_seed(0)
    model = BareVAE(D, H, HIDDEN)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def steps() -> None:
        for step in range(STEPS):
            x = points[step % 8 * B : (step % 8 + 1) * B]
            loss = loss_of(model, x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return steps


def main() -> None:
    """Print the time of a bare step and what recording adds."""
    torch.set_num_threads(1)
    points = torch.randn(8 * B, D)
    with tempfile.TemporaryDirectory() as folder, elboverse.record(folder, save_every_seconds=10.0) as run:

        def recorded(model: BareVAE, x: Tensor) -> Tensor:
            mean, log_var = model.encoder(x).chunk(2, dim=-1)
            z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
            return run.loss(x, (mean, log_var), (model.decoder(z), model.log_var))

        bare, ours = stepper(points, lambda model, x: -elbo(model, x)), stepper(points, recorded)
        bare(), ours()
        times: list[tuple[float, float]] = []
        for turn in range(TURNS):
            pair = {}
            for one in (bare, ours) if turn % 2 else (ours, bare):
                started = time.process_time()
                one()
                pair[one] = (time.process_time() - started) / STEPS
            times.append((pair[bare], pair[ours]))
    ratio = statistics.median(one / other for other, one in times)
    least = min(ours for _, ours in times) / min(bare for bare, _ in times)
    sys.stdout.write(
        f"bare step {1e3 * statistics.median(bare for bare, _ in times):.3f} ms; recorded: median of pairs "
        f"{100 * (ratio - 1):+.1f} %, least of each {100 * (least - 1):+.1f} %\n"
    )


if __name__ == "__main__":
    main()
