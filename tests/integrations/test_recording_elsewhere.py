"""Recording of models that are compiled, spread over processes, in half precision, or on another device."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch import distributed as torch_distributed
from torch.distributions import Bernoulli, Normal, Poisson

import elboverse
from elboverse.errors import DataError
from elboverse.runfile import Run

D, H, B = 6, 2, 8


class Small(nn.Module):
    """A Gaussian VAE whose noise is given, so that runs can be compared."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(D, 2 * H), nn.Linear(H, D)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encoder(x).chunk(2, -1)
        return mean, log_var, self.decoder(mean + (0.5 * log_var).exp() * noise)


def batches(steps: int, points: int = B) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(points, D, generator=generator), torch.randn(points, H, generator=generator)) for _ in range(steps)
    ]


def train(run: Any, model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, noise in data:
        mean, log_var, decoded = model(x, noise)
        loss = run.loss(x, (mean, log_var), (decoded, torch.zeros(())))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The ELBO of 20 steps of the plain loop."""
    folder = tmp_path_factory.mktemp("plain")
    with elboverse.record(folder / "run") as run:
        train(run, Small(), batches(20))
    return Run.open(folder / "run").series("elbo")[:, 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_recorded_as_the_plain_one(tmp_path: Path, plain: np.ndarray) -> None:
    with elboverse.record(tmp_path / "run") as run:
        train(run, torch.compile(Small(), backend="aot_eager"), batches(20))  # type: ignore[arg-type]
    np.testing.assert_allclose(Run.open(tmp_path / "run").series("elbo")[:, 0], plain, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_is_compiled_as_a_whole_is_recorded_too(tmp_path: Path, plain: np.ndarray) -> None:
    model = Small()

    @torch.compile(backend="eager")
    def loss_of(x: Tensor, noise: Tensor) -> Tensor:
        mean, log_var, decoded = model(x, noise)
        return run.loss(x, (mean, log_var), (decoded, torch.zeros(())))

    with elboverse.record(tmp_path / "run") as run:
        for x, noise in batches(2):
            loss_of(x, noise).backward()
    recorded = Run.open(tmp_path / "run").series("elbo")[:, 0]
    assert recorded[0] == pytest.approx(plain[0], rel=1e-5)
    assert len(recorded) == 2


def _rank(rank: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch_distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Small())
    half = B // 2
    with elboverse.record(f"{folder}/run") as run:
        train(run, model, [(x[rank * half :][:half], n[rank * half :][:half]) for x, n in batches(20)])
    torch_distributed.destroy_process_group()


def test_two_processes_record_the_run_of_one_with_their_points_together(tmp_path: Path, plain: np.ndarray) -> None:
    # Forked, since each process that starts anew imports torch first.
    multiprocessing.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")  # type: ignore[no-untyped-call]
    recorded = Run.open(tmp_path / "run")
    assert recorded.status == "finished"
    np.testing.assert_allclose(recorded.series("elbo")[:, 0], plain, rtol=1e-5)


def test_half_precision_is_recorded_close_to_single_precision(tmp_path: Path, plain: np.ndarray) -> None:
    class Halved(Small):
        def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x, noise)

    with elboverse.record(tmp_path / "run") as run:
        train(run, Halved(), batches(20))
    recorded = Run.open(tmp_path / "run")
    assert recorded.dtype == "float32"
    np.testing.assert_allclose(recorded.series("elbo")[:, 0], plain, rtol=0.03)


def test_accumulated_gradients_are_the_run_of_the_whole_batches(tmp_path: Path, plain: np.ndarray) -> None:
    model, half = Small(), B // 2
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    with elboverse.record(tmp_path / "run", accumulate=2) as run:
        for x, noise in batches(20):
            optimiser.zero_grad()
            for part in (slice(0, half), slice(half, B)):
                mean, log_var, decoded = model(x[part], noise[part])
                run.loss(x[part], (mean, log_var), (decoded, torch.zeros(()))).backward()
            optimiser.step()
    np.testing.assert_allclose(Run.open(tmp_path / "run").series("elbo")[:, 0], plain, rtol=1e-5)


X, MEAN, LOG_VAR, OUT = torch.rand(B, D), torch.zeros(B, H), torch.zeros(B, H), torch.zeros(B, D)
NAN = torch.full((B, D), torch.nan)

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "x of other dimensions": ({"x": X[:, :4]}, r"p: got a distribution of the shape \(8, 6\) for x of the shape"),
    "q of other points": ({"q": (MEAN[:4], LOG_VAR[:4])}, r"q: got a distribution of the shape \(4, 2\) for 8 points"),
    "q without a variance": ({"q": MEAN}, r"q: got a tensor, which is a mean without a variance; .*pass"),
    "q of two shapes": ({"q": (MEAN, LOG_VAR[:, :1])}, r"q: got a mean of the shape .* and a log-variance of"),
    "q that is a list": ({"q": [1, 2]}, r"q: got a list; .*pass torch"),
    "p without a likelihood": ({"p": OUT}, r"p: got a tensor, which is a mean without a likelihood; .*Bernoulli"),
    "p with logits as probabilities": (
        {"p": Bernoulli(probs=4 * X - 1, validate_args=False)},
        r"they look like logits, so pass Bernoulli\(logits=…\)",
    ),
    "x on another device": ({"x": X.to("meta")}, r"x: is on meta while p is on cpu; .*pass x\.to\('cpu'\)"),
    "q on another device": (
        {"q": (MEAN.to("meta"), LOG_VAR.to("meta"))},
        r"q: is on meta while x is on cpu; .*pass .*to\('cpu'\)",
    ),
    "prior of other latents": ({"prior": (torch.zeros(3), torch.zeros(3))}, r"prior: got 3 latents; expected 2"),
    "prior that is a string": ({"prior": "normal"}, r"prior: got a str; .*pass a torch distribution"),
    "beta that is not finite": ({"beta": float("nan")}, r"beta: got nan; expected a finite number"),
    "a variance that is not positive": (
        {"q": Normal(MEAN, LOG_VAR - 1, validate_args=False)},
        r"q: got standard deviations down to -1; expected positive ones",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_told_by_argument_with_what_to_pass(tmp_path: Path, name: str) -> None:
    changes, message = BAD[name]
    arguments: dict[str, Any] = {"x": X, "q": (MEAN, LOG_VAR), "p": (OUT, torch.zeros(()))} | changes
    with elboverse.record(tmp_path / "run") as run:
        with pytest.raises(DataError, match=message):  # no loss can be returned
            run.loss(**arguments)
        with pytest.warns(RuntimeWarning, match=message):  # the user's own is there, so training continues
            run.step(**arguments)
    with elboverse.record(tmp_path / "strict", strict=True) as run, pytest.raises(DataError, match=message):
        run.step(**arguments)


UNLIKELY: dict[str, tuple[dict[str, Any], str]] = {
    "points": ({"x": 3 * X, "p": Bernoulli(logits=OUT, validate_args=False)}, r"x: got values from .* 0 … 1: rescale"),
    "probabilities": (
        {"x": X.repeat(4, 1), "q": (MEAN.repeat(4, 1),) * 2, "p": Bernoulli(logits=X.repeat(4, 1))},
        r"they look like probabilities: pass Bernoulli\(probs=…\), or leave the sigmoid out",
    ),
    "counts": ({"p": Poisson(OUT.exp(), validate_args=False)}, r"not all of them counts; a Poisson"),
}


@pytest.mark.parametrize("name", sorted(UNLIKELY))
def test_values_that_cannot_be_meant_are_told_and_a_loss_is_returned_unless_strict(tmp_path: Path, name: str) -> None:
    changes, message = UNLIKELY[name]
    arguments: dict[str, Any] = {"x": X, "q": (MEAN, LOG_VAR), "p": (OUT, torch.zeros(()))} | changes
    with elboverse.record(tmp_path / "run") as run, pytest.warns(RuntimeWarning, match=message):
        assert torch.isfinite(run.loss(**arguments))
    with elboverse.record(tmp_path / "strict", strict=True) as run, pytest.raises(DataError, match=message):
        run.loss(**arguments)


@pytest.mark.parametrize("term", ["x", "p", "q"])
def test_what_is_not_a_number_is_told_by_its_step_and_recorded(tmp_path: Path, term: str) -> None:
    good: dict[str, Any] = {"x": X, "q": (MEAN, LOG_VAR), "p": (OUT, torch.zeros(()))}
    bad = good | {"x": {"x": NAN}, "p": {"p": (NAN, torch.zeros(()))}, "q": {"q": (NAN[:, :H], LOG_VAR)}}[term]
    run = elboverse.record(tmp_path / "run")
    for arguments in (good, good, bad, good):
        run.loss(**arguments)
    name = "kl" if term == "q" else "log_likelihood"
    with pytest.warns(RuntimeWarning, match=f"{name} is not finite at step 2: look at"):
        run.close()
    assert len(Run.open(tmp_path / "run").steps) == 4
