"""The tape: the same numbers as automatic differentiation, and the readable way where it cannot stand for a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from elboverse.builtin.networks.activations import ACTIVATIONS
from elboverse.config import load
from elboverse.training.replicated import ReplicatedStep
from elboverse.training.step import SingleStep, StepSettings
from elboverse.training.tape import Tape, Untraceable, each


def build(name: str = "vae-1", dimension: int = 6, **options: object) -> nn.Module:
    table = {"model": {"name": name, "latent_dim": 2, **options}, "dataset": "pca"}
    if name == "vae-2":
        table["constraint"] = {"name": "rescale"}
    torch.manual_seed(0)
    return load(table).model.build((dimension,)).double()


def batch(
    samples: tuple[int, ...] = (), replicas: tuple[int, ...] = (), seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn((*replicas, 16, 6), dtype=torch.float64, generator=stream)
    noise = torch.randn((*replicas, *samples, 16, 2), dtype=torch.float64, generator=stream)
    return x, noise, torch.tensor(0.7, dtype=torch.float64)


def both(model: nn.Module, samples: tuple[int, ...] = (), **settings: object) -> tuple[SingleStep, SingleStep]:
    """Return a step from the tape and the readable one, both after five updates."""
    steps = tuple(SingleStep(copy.deepcopy(model), StepSettings(tape=tape, **settings)) for tape in (True, False))
    for number in range(5):
        columns = [step(*batch(samples, seed=number)).clone() for step in steps]
        torch.testing.assert_close(*columns, rtol=1e-10, atol=1e-12)
    return steps


def assert_same(one: SingleStep, other: SingleStep) -> None:
    assert one.obstacle == ""
    for path, value in one.tensors().items():
        torch.testing.assert_close(value, other.tensors()[path], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["vae-0", "vae-1", "vae-2", "vae-3", "linear-vae"])
def test_every_vae_type_trains_alike_with_and_without_the_tape(name: str) -> None:
    assert_same(*both(build(name)))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - {"identity"}))
def test_every_activation_trains_alike(activation: str) -> None:
    assert_same(*both(build(network={"name": "mlp", "hidden": [9, 5], "activation": activation})))


@pytest.mark.parametrize("name", ["vae-1", "vae-2", "vae-3"])
@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_samples_in_parts_are_a_loop_of_the_tape(name: str, at_once: int) -> None:
    assert_same(*both(build(name), (7,), samples_at_once=at_once))


@pytest.mark.parametrize("at_once", [2, 20])
def test_closed_form_variances_come_from_the_tape(at_once: int) -> None:
    assert_same(*both(build("vae-2"), (7,), samples_at_once=at_once, optimal=True))


def test_replicas_train_alike_with_and_without_the_tape() -> None:
    models = [build("vae-2") for _ in range(3)]
    steps = [ReplicatedStep(copy.deepcopy(models), StepSettings(tape=tape)) for tape in (True, False)]
    for number in range(4):
        columns = [step(*batch(replicas=(3,), seed=number)).clone() for step in steps]
        torch.testing.assert_close(*columns, rtol=1e-10, atol=1e-12)
    assert steps[0].obstacle == ""


class _Wrapped(nn.Module):
    """A VAE-1 whose encoder does something more."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build()

    def decode(self, z: Tensor) -> object:
        return self.inner.decode(z)

    def prior(self) -> object:
        return self.inner.prior()

    def variance_parameters(self) -> object:
        names = self.inner.variance_parameters()
        return type(names)(decoder=f"inner.{names.decoder}")


class Branching(_Wrapped):
    def encode(self, x: Tensor) -> object:
        return self.inner.encode(x if x.sum() > 0 else 2 * x)


class Counting(_Wrapped):
    calls = 0

    def encode(self, x: Tensor) -> object:
        self.calls += 1
        return self.inner.encode(x * (1.0 if self.calls < 3 else 0.5))


class FromNumPy(_Wrapped):
    def encode(self, x: Tensor) -> object:
        return self.inner.encode(x * float(x.detach().numpy()[0, 0]))


class Normalising(_Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(6).double()

    def encode(self, x: Tensor) -> object:
        return self.inner.encode(self.normalise(x))


@pytest.mark.parametrize("kind", [Branching, Counting, FromNumPy])
def test_a_model_that_no_recording_can_stand_for_trains_as_ever_and_says_why(kind: type[_Wrapped]) -> None:
    model = kind()
    steps = [SingleStep(copy.deepcopy(model), StepSettings(tape=tape)) for tape in (True, False)]
    for step in steps:
        step(*batch(seed=0))
    assert steps[0].obstacle
    assert not steps[1].obstacle


def test_running_statistics_of_batch_normalisation_are_kept_by_the_tape() -> None:
    assert_same(*both(Normalising()))


def test_memory_is_used_again_within_a_tape() -> None:
    x = torch.randn(1000)

    def long_chain() -> list[Tensor]:
        y = x
        for _ in range(20):
            y = (y * 2).roll(1) + 1
        return [y]

    tape = Tape.record(long_chain, lambda results: [torch.empty_like(one) for one in results])
    assert tape.nbytes <= 3 * 4096


def test_what_no_result_depends_on_is_not_computed() -> None:
    x = torch.randn(10)

    def wasteful() -> list[Tensor]:
        x.exp().sin().sum()
        return [x * 2]

    assert Tape.record(wasteful, lambda results: [torch.empty_like(one) for one in results]).kernels == 1


def test_an_operand_that_is_read_later_is_not_overwritten() -> None:
    x, target = torch.randn(10), torch.empty(10)

    def twice_used() -> list[Tensor]:
        doubled = x * 2
        return [doubled.exp() + doubled]

    tape = Tape.record(twice_used, lambda _results: [target])
    x.copy_(torch.linspace(0, 1, 10))
    tape()
    torch.testing.assert_close(target, (2 * x).exp() + 2 * x)


def test_a_transposed_view_of_the_same_memory_is_not_overwritten() -> None:
    x, target = torch.randn(4, 4), torch.empty(4, 4)

    def symmetric() -> list[Tensor]:
        y = x + 1
        return [y * y.t()]

    tape = Tape.record(symmetric, lambda _results: [target])
    x.copy_(torch.arange(16.0).view(4, 4))
    tape()
    torch.testing.assert_close(target, (x + 1) * (x + 1).t())


def test_a_loop_reads_each_part_and_keeps_its_sum() -> None:
    parts, target = torch.randn(5, 3), torch.empty(3)

    def summed() -> list[Tensor]:
        total = torch.zeros(3)
        for part in each(parts.unbind(0)):
            total += (part * 2).exp()
        return [total]

    tape = Tape.record(summed, lambda _results: [target])
    parts.copy_(torch.linspace(0, 1, 15).view(5, 3))
    tape()
    torch.testing.assert_close(target, (2 * parts).exp().sum(0))


def test_a_decision_by_a_number_is_no_recording() -> None:
    x = torch.randn(3)
    with pytest.raises(Untraceable):
        Tape.record(lambda: [x if x.sum() > 0 else -x], lambda results: [torch.empty_like(one) for one in results])
