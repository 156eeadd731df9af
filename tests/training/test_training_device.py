"""Steps wait for nothing: what would make the host wait for a device, shown on the CPU, and counted on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import VARIANTS, configure
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from elboverse.running.assembly import build_experiment

WAITING = {"_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero", "unique_dim", "_unique2"}
"""Operations whose result's value or shape the host must know, by their names in `torch.ops.aten`."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Operations(TorchDispatchMode):
    """Collects the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations_of(function: Any) -> list[str]:
    with Operations() as seen:
        function()
    return seen.names


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("name", "constraint", "variances"), VARIANTS)
def test_no_operation_of_a_chunk_asks_for_a_value(
    name: str, constraint: str | None, variances: str, replicas: int
) -> None:
    config = configure(name, constraint, variances=variances, replicas=replicas, replica_group=2, samples=3)
    loop = build_experiment(config).loop
    loop._advance(1, interruptible=False)  # the tape is recorded, and held against automatic differentiation, first
    names = operations_of(lambda: loop._advance(24, interruptible=False))  # two epochs of 12 steps
    assert names.count("_fused_adam_") >= 24
    assert WAITING.isdisjoint(names)


@pytest.mark.parametrize(
    "asks",
    [Tensor.item, bool, float, Tensor.nonzero, lambda value: value[value > 0]],
)
def test_asking_for_a_value_is_noticed(asks: Any) -> None:
    assert not WAITING.isdisjoint(operations_of(lambda: asks(torch.ones(()))))


@needs_gpu
@pytest.mark.parametrize("replicas", [1, 4])
def test_nothing_waits_for_the_gpu_within_a_chunk(replicas: int) -> None:
    settings: dict[str, Any] = {"device": "cuda", "dtype": "float32", "replicas": replicas, "replica_group": replicas}
    loop = build_experiment(configure("vae-1", **settings)).loop
    loop._advance(8)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        loop._advance(16, interruptible=False)
    # The profiler waits for the whole device once, at its end.
    waits = [event.name for event in seen.events() if "Synchronize" in event.name or event.name == "cudaMemcpy"]
    assert [name for name in waits if name != "cudaDeviceSynchronize"] == []
    assert len(waits) <= 1


@needs_gpu
@pytest.mark.parametrize(("name", "samples"), [("vae-1", 1), ("vae-3", 5), ("linear-vae", 1)])
@pytest.mark.parametrize("replicas", [1, 4])
def test_cuda_graphs_give_the_same_numbers(name: str, samples: int, replicas: int) -> None:
    states = []
    for compiled in ("off", "reduce-overhead"):
        settings: dict[str, Any] = {"device": "cuda", "samples": samples, "compile": compiled, "replicas": replicas}
        loop = build_experiment(configure(name, replica_group=replicas, **settings)).loop
        for _ in loop.rounds():
            pass
        states.append(loop.state())
    for path, tensor in states[0].items():
        np.testing.assert_allclose(states[1][path], tensor, rtol=1e-6, atol=1e-9, err_msg=path)
