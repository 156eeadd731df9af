"""What makes replicas cheap, checked without a clock: memory layout, memory that is kept, nothing read in a chunk."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from support.builders import build_model, normal
from torch import Tensor, nn

from elboverse.training.features_first import features_first
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import StepSettings

POINTS, DIMENSION = 20, 4


def gradients(module: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return a module's output for some points and the gradients of its squares."""
    output = module(x)
    return output.detach(), list(torch.autograd.grad(output.square().sum(), list(module.parameters())))


def layers() -> nn.Sequential:
    """Return every way in which a linear layer is or is not followed by a rectifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(DIMENSION, 7),
        nn.ReLU(),
        nn.Linear(7, 6, bias=False),
        nn.LeakyReLU(0.3),
        nn.Linear(6, 5),
        nn.LeakyReLU(-0.3),
        nn.Linear(5, 4),
        nn.Tanh(),
        nn.ReLU(),
        nn.Linear(4, 3),
    ).double()


@pytest.mark.parametrize("shape", [(DIMENSION,), (POINTS, DIMENSION), (3, POINTS, DIMENSION)])
def test_features_first_computes_what_the_model_computes(shape: tuple[int, ...]) -> None:
    model: Any = layers()
    x = normal(1, *shape)
    expected, expected_gradients = gradients(model, x)
    output, found = gradients(features_first(model), x)
    torch.testing.assert_close(output, expected)
    for one, other in zip(found, expected_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_features_first_leaves_the_model_and_the_names_of_its_parameters_alone() -> None:
    model: Any = layers()
    copied: Any = features_first(model)
    assert [type(layer) for layer in model] == [type(layer) for layer in layers()]
    assert [name for name, _ in copied.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert copied[0].weight is not model[0].weight


def test_features_first_leaves_layers_of_a_derived_class_alone() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
            return 2.0 * super().forward(input)

    copied: Any = features_first(nn.Sequential(Doubled(DIMENSION, 2)))  # type: ignore[arg-type]
    assert type(copied[0]) is Doubled


def test_replicas_keep_points_side_by_side_in_memory() -> None:
    step = ReplicatedStep([build_model("vae-1", DIMENSION, seed=seed) for seed in range(2)], StepSettings())
    mean = step.map_models(lambda model, x, _: model.encode(x).mean, normal(0, POINTS, DIMENSION), None)
    assert mean.shape == (2, POINTS, 2)
    assert mean.stride()[1:] == (1, POINTS)


FAULTS = """
import resource
from elboverse.training.memory import keep_freed_memory
keep_freed_memory()
for _ in range(20):
    blocks = [bytearray(8 << 20) for _ in range(5)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


TUNABLES = {"MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}
"""Where the environment may say what glibc keeps."""


def faults(**environment: str) -> int:
    """Return how many pages are mapped by a program that asks for 5 times 8 MiB and frees them, 20 times over."""
    inherited = {name: value for name, value in os.environ.items() if name not in TUNABLES}
    command = [sys.executable, "-c", FAULTS]
    return int(subprocess.run(command, env=inherited | environment, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_memory_that_is_freed_is_kept_unless_the_environment_says_otherwise() -> None:
    pages = 5 * (8 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults() < 3 * pages
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 15 * pages
