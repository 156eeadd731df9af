"""Models that break the contract, each refused before the first step with the sentence that its author needs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from elboverse.cli import main
from elboverse.runfile import Run

PLUGIN = """
import random, attrs, numpy, torch
from torch import nn
from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import VarianceParameters

@attrs.frozen
class Options:
    latent_dim: int = 2

class Good(nn.Module):
    def __init__(self, options, data_shape):
        super().__init__()
        self.head = nn.Linear(2, 4)
        self.output = nn.Linear(2, 2)
        self.log_var = nn.Parameter(torch.full((), -1.0))
        self.register_buffer("zeros", torch.zeros(2))

    def encode(self, x):
        return DiagonalGaussian(*self.head(x).chunk(2, -1))

    def decode(self, z):
        return DiagonalGaussian(self.output(z), self.log_var)

    def prior(self):
        return DiagonalGaussian(self.zeros, self.zeros)

    def variance_parameters(self):
        return VarianceParameters(decoder="log_var")

{model}

@hookimpl
def elboverse_models():
    return [Component("tried", Options, {build}, "a model that is tried")]
"""

# What the class does beside `Good`, and a part of the sentence that is told.
BROKEN: dict[str, tuple[str, str]] = {
    "a plain tuple": (
        "def encode(self, x): return self.head(x).chunk(2, -1)",
        "encode(x) returns a tuple without mean, sample, entropy; expected an elboverse.DiagonalGaussian",
    ),
    "a torch distribution": (
        "def decode(self, z): return torch.distributions.Normal(self.output(z), 1.0)",
        "decode(z).log_prob(x) has shape (2, 2, 2); expected (2, 2)",
    ),
    "a subclass with a density of its own": (
        """
        def decode(self, z):
            class Robust(DiagonalGaussian):
                def log_prob(self, value):
                    return -(value - self.mean).abs().sum(-1)
            return Robust(self.output(z), self.log_var)
        """,
        "decode(z) returns a Robust, a subclass of DiagonalGaussian whose own methods would be ignored",
    ),
    "a number for a log-variance": (
        "def decode(self, z): return DiagonalGaussian(self.output(z), -1.0)",
        "decode(z) has a log_var that is a float; expected a torch.Tensor",
    ),
    "latents of another number": (
        "def encode(self, x): return DiagonalGaussian(self.head(x), self.head(x))",
        "the mean of encode(x) has shape (2, 4); expected (2, 2)",
    ),
    "points of another number": (
        "def decode(self, z): return DiagonalGaussian(self.output(z)[..., :1], self.log_var)",
        "the mean of decode(z) has shape (2, 1); expected (2, 2)",
    ),
    "a prior that is not centred": (
        "def prior(self): return DiagonalGaussian(self.zeros + 1, self.zeros)",
        "prior() has a mean that is not zero",
    ),
    "a prior that is computed": (
        "def prior(self): return DiagonalGaussian(self.zeros, self.head.bias[:2] * 1)",
        "the log_var of prior() is computed from parameters",
    ),
    "no module": (
        "__call__ = None\ndef __new__(cls, options, data_shape): return object()",
        "build must return a torch.nn.Module with encode, decode, prior and variance_parameters, not object",
    ),
    "a method that is missing": ("variance_parameters = None", "which has no variance_parameters"),
    "a sample in place of a mean": (
        """
        def encode(self, x):
            mean, log_var = self.head(x).chunk(2, -1)
            return DiagonalGaussian(mean + torch.randn_like(mean) * (0.5 * log_var).exp(), log_var)
        """,
        "encode(x) draws random numbers from torch in evaluation mode",
    ),
    "dropout in evaluation mode": (
        "def decode(self, z): return DiagonalGaussian(nn.functional.dropout(self.output(z), 0.5), self.log_var)",
        "decode(z) draws random numbers from torch in evaluation mode",
    ),
    "NumPy's random numbers": (
        """
        def decode(self, z):
            return DiagonalGaussian(self.output(z) + numpy.random.normal() * self.training, self.log_var)
        """,
        "decode(z) draws random numbers from Python or NumPy",
    ),
    "Python's random numbers": (
        """
        def encode(self, x):
            return DiagonalGaussian(*self.head(x * random.uniform(0.9, 1.1)).chunk(2, -1))
        """,
        "encode(x) draws random numbers from Python or NumPy",
    ),
    "a generator of its own": (
        """
        def encode(self, x):
            if not hasattr(self, "own"):
                self.own = torch.Generator().manual_seed(0)
            return DiagonalGaussian(*self.head(x + 0.1 * torch.randn(x.shape, generator=self.own)).chunk(2, -1))
        """,
        "encode(x) differs from call to call in evaluation mode",
    ),
    "points changed in place": (
        "def encode(self, x): return DiagonalGaussian(*self.head(x.mul_(2)).chunk(2, -1))",
        "encode(x) changes its argument in place; work on a copy of it",
    ),
    "latents changed in place": (
        """
        def decode(self, z):
            z[..., 0] = 0
            return DiagonalGaussian(self.output(z), self.log_var)
        """,
        "decode(z) changes its argument in place; work on a copy of it",
    ),
    "a mean that is nan": (
        "def decode(self, z): return DiagonalGaussian((-self.output(z).square() - 1).log(), self.log_var)",
        "the mean of decode(z) is nan before the first step",
    ),
    "a log-variance that is infinite": (
        "def encode(self, x): return DiagonalGaussian(self.head(x)[..., :2], torch.full_like(x, float('inf')))",
        "the log_var of encode(x) is infinite before the first step",
    ),
    "a connection from encode to decode": (
        """
        def encode(self, x):
            self.__dict__["seen"] = self.__dict__.get("seen") or [None]
            self.seen[0] = x
            return super().encode(x)
        def decode(self, z):
            return DiagonalGaussian(self.output(z) + self.seen[0].mean(), self.log_var)
        """,
        "decode(z) gives something else after other points have been encoded",
    ),
    "a counter": (
        """
        def encode(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return DiagonalGaussian(*self.head(x * min(1.0, self.calls / 1000)).chunk(2, -1))
        """,
        "encode(x) changes the attribute 'calls', which no checkpoint holds",
    ),
    "a buffer that no checkpoint holds": (
        """
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.register_buffer("moving", torch.zeros(2), persistent=False)
        def encode(self, x):
            if self.training:
                self.moving.mul_(0.9).add_(x.detach().mean(0) + 1)
            return super().encode(x)
        """,
        "encode(x) changes the buffer 'moving', which is not persistent",
    ),
    "statistics of the batch in evaluation mode": (
        "def encode(self, x): return super().encode(x - x.mean(0))",
        "encode(x) of a batch of shape (2, 2) is not that of its points, one by one",
    ),
    "a decoder of one batch axis": (
        "def decode(self, z): return DiagonalGaussian(self.output(z.reshape(len(z), 2)), self.log_var)",
        "its argument may have any number of leading dimensions",
    ),
    "a layer that is never used": (
        """
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.unused = nn.Linear(2, 2)
        """,
        "the ELBO does not depend on parameter 'unused.weight', so it never trains",
    ),
    "layers in a list": (
        """
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.layers = [nn.Linear(2, 2)]
        def decode(self, z):
            return DiagonalGaussian(self.layers[0](self.output(z)), self.log_var)
        """,
        "'layers' is a list with parameters in it, which torch does not see",
    ),
    "an encoder that is cut off": (
        "def encode(self, x): return DiagonalGaussian(*self.head(x).detach().chunk(2, -1))",
        "the ELBO does not depend on parameter 'head.weight', so it never trains",
    ),
    "latents that are cut off": (
        "def decode(self, z): return DiagonalGaussian(self.output(z.detach()), self.log_var)",
        "decode(z) does not depend on z differentiably",
    ),
    "nothing to train": (
        """
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.requires_grad_(False)
        """,
        "it has no trainable parameter",
    ),
    "a log-standard deviation as log-variance": (
        "def decode(self, z): return DiagonalGaussian(self.output(z), 2 * self.log_var)",
        "variance_parameters() says that 'log_var' is ln σ² of the decoder, but the ELBO's gradient says not",
    ),
    "a parameter that does not exist": (
        "def variance_parameters(self): return VarianceParameters(decoder='log_variance')",
        "variance_parameters() names log_variance, which is not a parameter of it",
    ),
    "names in a tuple": (
        "def variance_parameters(self): return ('log_var',)",
        "variance_parameters() returns a tuple; expected an elboverse.contracts.VarianceParameters",
    ),
    "a loss of its own": (
        "def loss(self, x): return (self.decode(self.encode(x).mean).mean - x).abs().sum()",
        "its method 'loss' is never called",
    ),
    "a training step of its own": (
        "def training_step(self, batch, index): return batch.sum()",
        "its method 'training_step' is never called",
    ),
    "a method that is misspelt": (
        "def constrained_weights(self): return 'output.weight'",
        "its method 'constrained_weights' is never called; did you mean 'constrained_weight'?",
    ),
    "double precision within": (
        "def decode(self, z): return DiagonalGaussian(self.output(z).double(), self.log_var)",
        "decode(z) returns torch.float32, torch.float64 for torch.float32",
    ),
    "weights from NumPy": (
        """
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.head.bias.data += float(numpy.random.normal())
        """,
        "build gives other values of 'head.bias' the second time",
    ),
    "a layer that all models share": (
        """
        shared = nn.Linear(2, 2)
        def __init__(self, options, data_shape):
            super().__init__(options, data_shape)
            self.output = self.shared
        """,
        "two models that were built share the parameter 'output.weight'",
    ),
}


def source(body: str, build: str = "Tried") -> str:
    model = "class Tried(Good):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return PLUGIN.format(model=model, build=build)


def table(**training: object) -> dict[str, object]:
    settings = {"epochs": 4, "batch_size": 20, "evaluate_every": 2, "device": "cpu"} | training
    return {"model": "tried", "dataset": {"name": "circle", "points": 50}, "training": settings}


@pytest.fixture
def train(tmp_path: Path, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that trains a model and returns the run's folder."""

    def trained(body: str, folder: str = "run", **training: object) -> Path:
        if not (tmp_path / "config.toml").exists():
            install("tried", source(body))
        monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
        (tmp_path / "config.toml").write_text(tomli_w.dumps(table(**training)), encoding="utf-8")
        main(["train", "--quiet", str(tmp_path / "config.toml"), "--out", str(tmp_path / folder)])
        return tmp_path / folder

    return trained


def test_there_are_thirty_and_more() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize(("body", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_model_is_refused_before_the_first_step(
    request: pytest.FixtureRequest,
    train: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        train(body, samples=2 if "one batch axis" in request.node.name else 1)
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert "model 'tried' of plugin tried (tried-dist 1.2.3)" in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_a_good_model_trains(train: Callable[..., Path]) -> None:
    with Run.open(train("pass") / "run.h5") as run:
        assert run.status == "finished"


def test_a_method_that_is_kept_for_another_framework_is_no_fault(train: Callable[..., Path]) -> None:
    train("elboverse_ignores = ('loss',)\ndef loss(self, x): return x.sum()")


@pytest.mark.filterwarnings("default")
def test_a_forward_that_is_never_called_is_pointed_out(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    train("def forward(self, x): return self.decode(self.encode(x).mean)")
    assert "its method 'forward' is never called" in capsys.readouterr().err


DROPOUT = """
def __init__(self, options, data_shape):
    super().__init__(options, data_shape)
    self.dropout = nn.Dropout(0.3)
def decode(self, z):
    return DiagonalGaussian(self.output(self.dropout(z)), self.log_var)
"""


def test_dropout_resumes_bitwise(train: Callable[..., Path], tmp_path: Path) -> None:
    import torch
    from support.reliable import assert_same_run

    whole = train(DROPOUT, "whole", epochs=6)
    part = train(DROPOUT, "part", epochs=3)
    torch.manual_seed(1234)  # torch's own random state must not matter
    main(["train", "--quiet", "--resume", str(part), "--set", "training.epochs=6"])
    assert_same_run(part / "run.h5", whole / "run.h5")


def test_a_replica_with_dropout_is_the_single_run_with_its_seed(train: Callable[..., Path]) -> None:
    both = train(DROPOUT, "both", replicas=2)
    single = train(DROPOUT, "single", replicas=1)
    with Run.open(both / "run.h5") as two, Run.open(single / "run.h5") as one:
        assert two.series("log_likelihood")[:, 0].tolist() == one.series("log_likelihood")[:, 0].tolist()
        assert (two.series("log_likelihood")[:, 0] != two.series("log_likelihood")[:, 1]).all()
