"""Models of other distributions than the Gaussian that break the contract, refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from elboverse.cli import main

PLUGIN = """
import attrs, numpy, torch
from torch import nn
from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import VarianceParameters
from elboverse.theory.distributions import Laplace

@attrs.frozen
class Options:
    pass

class Good(nn.Module):
    latent_dim = 2

    def __init__(self, options, data_shape):
        super().__init__()
        self.head, self.output = nn.Linear(2, 4), nn.Linear(2, 2)
        self.log_scale = nn.Parameter(torch.full((), -1.0))
        self.register_buffer("zeros", torch.zeros(2))
        self.register_buffer("count", torch.zeros(()))
        self.seen = None

    def encode(self, x): return DiagonalGaussian(*self.head(x).chunk(2, -1))
    def decode(self, z): return Laplace(self.output(z), self.log_scale)
    def prior(self): return DiagonalGaussian(self.zeros, self.zeros)
    def variance_parameters(self): return VarianceParameters(heads=("log_scale",))
"""

BROKEN = {
    "dropout in evaluation mode": (
        "def decode(self, z): return Laplace(nn.functional.dropout(self.output(z), 0.5), self.log_scale)",
        "it draws random numbers from torch in evaluation mode",
    ),
    "NumPy's random numbers": (
        "def decode(self, z): return Laplace(self.output(z) + numpy.random.normal() * self.training, self.log_scale)",
        "it draws random numbers from Python or NumPy",
    ),
    "a change of the points": (
        "def encode(self, x): return DiagonalGaussian(*self.head(x.mul_(0.5)).chunk(2, -1))",
        "encode or decode changes its argument in place",
    ),
    "memory between encode and decode": (
        """def encode(self, x): self.seen = x.mean(); return super().encode(x)
    def decode(self, z): return Laplace(self.output(z) + self.seen, self.log_scale)""",
        "so it uses what encode(x) left behind",
    ),
    "a buffer in evaluation mode": (
        "def decode(self, z): self.count += 1; return super().decode(z)",
        "changes the buffer 'count', in evaluation mode",
    ),
    "the points together": (
        "def encode(self, x): return DiagonalGaussian(*self.head(x - x.mean(0)).chunk(2, -1))",
        "of a batch is not that of its points, one by one",
    ),
    "not a number": (
        "def decode(self, z): return Laplace(self.output(z), self.log_scale * float('nan'))",
        "its log_likelihood is nan for the first training points",
    ),
    "a parameter that is not trained": (
        "def decode(self, z): return Laplace(self.output(z).detach() + z, self.log_scale)",
        "the ELBO does not depend on parameter 'output.weight'",
    ),
    "an objective of another shape": (
        "def objective(self, x, noise, beta): return self.head(x).sum(-1)",
        "objective(x, noise, beta) returns a tensor of shape (2,)",
    ),
    "an objective that trains nothing": (
        "def objective(self, x, noise, beta): return x.mean()",
        "it has no parameter that its objective depends on",
    ),
    "an objective by another name": ("def loss(self, x): return x.mean()", "its method 'loss' is never called"),
    "a prior without latent_dim": (
        "latent_dim = None\n    def prior(self): return Laplace(self.zeros, self.zeros)",
        "expected an attribute latent_dim, the number of latents H",
    ),
}


@pytest.mark.parametrize(("body", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_model_of_any_family_is_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, sentence: str
) -> None:
    offer = "@hookimpl\ndef elboverse_models(): return [Component('tried', Options, Tried, 'tried')]\n"
    plugin = tmp_path / "tried.py"
    plugin.write_text(f"{PLUGIN}\nclass Tried(Good):\n    {body}\n\n{offer}", encoding="utf-8")
    settings = (
        "training.epochs=1",
        "dataset.points=60",
        "training.batch_size=20",
        "training.device=cpu",
        "model=tried",
    )
    overrides = [part for setting in settings for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--quiet", "circle", "--plugin", str(plugin), "--out", str(tmp_path / "run"), *overrides])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "model 'tried' of plugin tried (tried.py sha256:" in told
    assert sentence in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()
