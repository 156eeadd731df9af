"""The checks of likelihoods, priors, posteriors, regularisers, optimisers and launchers find what breaks a contract."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
import pytest
import torch
from torch import Tensor, nn

import elboverse.testing as checks
from elboverse.components.hookspecs import Component
from elboverse.components.registry import discover
from elboverse.contracts import Outcome
from elboverse.errors import PluginError
from elboverse.theory.gaussian import DiagonalGaussian

OPTIONS = {"categorical": {"categories": 3}}
CHECKS: Mapping[str, Callable[..., object]] = {
    "likelihood": checks.check_likelihood,
    "prior": checks.check_prior,
    "posterior": checks.check_posterior,
    "regulariser": checks.check_regulariser,
    "optimiser": checks.check_optimiser,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_every_built_in_part_passes_the_check_of_its_kind(kind: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELBOVERSE_LOAD_PLUGINS", "")
        for name in discover().names(kind):
            CHECKS[kind](name, **OPTIONS.get(name, {}))


@attrs.frozen
class Options:
    pass


def part(kind: str, build: Callable[..., Any]) -> Component:
    return Component("tried", Options, build, f"a {kind} that is tried")


class Logistic(NamedTuple):
    """p(x) logistic, right in every part; what is broken is broken in a subclass."""

    location: Tensor

    @property
    def mean(self) -> Tensor:
        return self.location

    def log_prob(self, value: Tensor) -> Tensor:
        u = value - self.location
        return (-u - 2 * nn.functional.softplus(-u)).sum(-1)

    def entropy(self) -> Tensor:
        return torch.full(self.location.shape[:-1], 2.0 * self.location.shape[-1], dtype=self.location.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        return self.location + torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)


class Likelihood(nn.Module):
    outputs = 1
    support = "real"
    theorem = "the logistic density has no temperature that is learned"
    distribution: type[Any] = Logistic

    def forward(self, outputs: tuple[Tensor, ...]) -> Any:
        return self.distribution(outputs[0])


def likelihood(distribution: type[Any] = Logistic, **attributes: Any) -> Component:
    made = type("Made", (Likelihood,), {"distribution": distribution, **attributes})
    return part("likelihood", lambda options, data_shape: made())


class Shifted(Logistic):
    mean = property(lambda self: self.location + 1)


class Halved(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - math.log(2) * value.shape[-1]

    def entropy(self) -> Tensor:
        return super().entropy() + math.log(2) * self.location.shape[-1]


class Unsure(Logistic):
    def entropy(self) -> Tensor:
        return super().entropy() + 1


class Drawing(Logistic):
    def sample(self, noise: Tensor) -> Tensor:
        return self.location + torch.randn_like(noise)


class PerDimension(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        u = value - self.location
        return -u - 2 * nn.functional.softplus(-u)


@pytest.mark.parametrize(
    ("component", "sentence"),
    [
        (likelihood(Shifted), "the mean of its samples is"),
        (likelihood(Halved), "its density adds up to 0.5 over one number"),
        (likelihood(Unsure), "over its samples is"),
        (likelihood(Drawing), "draws random numbers of its own"),
        (likelihood(PerDimension), "summed over the dimensions of a point"),
        (likelihood(support="positive"), "gives values that are not a number above 0"),
        (likelihood(support="reals"), "support is 'reals'; expected one of"),
        (likelihood(outputs=0), "outputs is 0; expected a number of output layers"),
        (likelihood(theorem=None), "theorem is None; expected a sentence"),
        (part("likelihood", lambda options, data_shape: None), "got a NoneType, which has no outputs"),
    ],
)
def test_a_broken_likelihood_is_told(component: Component, sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_likelihood(component)
    assert sentence in str(told.value)


def test_a_whole_likelihood_passes() -> None:
    checks.check_likelihood(likelihood())


class Prior(nn.Module):
    theorem = "fixed"

    def __init__(self, latent_dim: int, distribution: type[Any], *, trained: bool = False) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim))
        if trained:
            self.idle = nn.Parameter(torch.zeros(latent_dim))
        self._distribution = distribution

    def forward(self, encode: Any) -> Any:
        return self._distribution(self.zeros)


class LogisticPrior(Logistic):
    def entropy(self) -> Tensor:
        return torch.full_like(self.location, 2.0)


class WrongCrossEntropy(LogisticPrior):
    def cross_entropy(self, encoder: Any, z: Tensor) -> Tensor:
        return torch.full_like(encoder.mean, 3.0)


class WrongEntropy(LogisticPrior):
    def entropy(self) -> Tensor:
        return torch.full_like(self.location, 1.0)


def prior(distribution: type[Any], **options: Any) -> Component:
    return part("prior", lambda _options, latent_dim, data_shape: Prior(latent_dim, distribution, **options))


@pytest.mark.parametrize(
    ("component", "sentence"),
    [
        (prior(WrongEntropy), "entropy() sums to 3, but −E ln p(z) over its samples is"),
        (prior(WrongCrossEntropy), "cross_entropy(encoder, z) is 9, but"),
        (prior(LogisticPrior, trained=True), "does not depend on its parameters idle"),
        (prior(Drawing), "draws random numbers of its own"),
        (part("prior", lambda *given: nn.Linear(1, 1)), "which has no theorem"),
    ],
)
def test_a_broken_prior_is_told(component: Component, sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_prior(component)
    assert sentence in str(told.value)


class Posterior(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.width = 2 * latent_dim

    def initial_bias(self, log_var: float) -> Tensor:
        return torch.zeros(self.width)

    def forward(self, outputs: Tensor) -> Any:
        return DiagonalGaussian(*outputs.chunk(2, -1))


class Mixing(Posterior):
    def forward(self, outputs: Tensor) -> Any:
        return DiagonalGaussian(*(outputs - outputs.mean(0)).chunk(2, -1))


class Short(Posterior):
    def initial_bias(self, log_var: float) -> Tensor:
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [(Mixing, "of a batch is not that of its points"), (Short, "initial_bias(log_var) must be a tensor of shape (6,)")],
)
def test_a_broken_posterior_is_told(made: type[Posterior], sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_posterior(part("posterior", lambda options, latent_dim: made(latent_dim)))
    assert sentence in str(told.value)


class Extra:
    def __init__(self, terms: Callable[[Tensor, Any, Tensor], Any]) -> None:
        self.extra = terms


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (lambda x, q, z: q.mean.sum(), "must return name → tensor of shape ()"),
        (lambda x, q, z: {"Term": q.mean.sum()}, "names a term 'Term'"),
        (lambda x, q, z: {"elbo": q.mean.sum()}, "names a term 'elbo'"),
        (lambda x, q, z: {"term": x.sum()}, "depends on q or z differentiably"),
        (lambda x, q, z: {"term": q.mean.sum() * torch.rand(())}, "draws random numbers"),
        (lambda x, q, z: {"term": (x.add_(1) * 0).sum() + q.mean.sum()}, "changes its arguments in place"),
        (lambda x, q, z: {"term": (q.mean * 0).log().sum()}, "is not finite"),
    ],
)
def test_a_broken_regulariser_is_told(terms: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_regulariser(part("regulariser", lambda options: Extra(terms)))
    assert sentence in str(told.value)


class Descent:
    def state(self, values: Tensor) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(values)}

    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        values.add_(state["momentum"].mul_(0.5).add_(gradients), alpha=-rate)


class Ascent(Descent):
    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        super().update(values, -gradients, state, rate)


class Remembering(Descent):
    def __init__(self) -> None:
        self.count = 0

    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        self.count += 1
        values.add_(gradients, alpha=-rate / self.count)


class Replacing(Descent):
    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        state["momentum"] = 0.5 * state["momentum"] + gradients
        values.add_(state["momentum"], alpha=-rate)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Ascent, "it must go against the gradient"),
        (Remembering, "it keeps something itself that no checkpoint holds"),
        (Replacing, "update puts new tensors into the state"),
        (dict, "must return an object with state(values)"),
    ],
)
def test_a_broken_optimiser_is_told(made: type[Any], sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_optimiser(part("optimiser", lambda options: made()))
    assert sentence in str(told.value)


def test_a_whole_optimiser_passes() -> None:
    checks.check_optimiser(part("optimiser", lambda options: Descent()))


class InPlace:
    """Calls perform in the process of the study; a job that dies is told as `dead`, without dying."""

    def __init__(self, dead: str = "failed") -> None:
        self._dead = dead
        self._stopped = False

    def check(self) -> None:
        pass

    def stop(self) -> None:
        self._stopped = True

    def launch(self, jobs: Any, perform: Any) -> Any:
        for job in jobs:
            if job.name == "dies":
                yield Outcome(name=job.name, status=self._dead)  # type: ignore[arg-type]
            elif job.name.startswith("waits"):
                return
            else:
                yield perform(job)


class Forgetful(InPlace):
    def launch(self, jobs: Any, perform: Any) -> Any:
        yield perform(jobs[0])


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (InPlace, "it calls perform in the process of the study"),
        (lambda: InPlace("finished"), "a job whose process was killed is told as 'finished'"),
        (Forgetful, "expected one Outcome for each of"),
        (lambda: "here", "got a str, which has no check and no launch and no stop"),
    ],
)
def test_a_broken_launcher_is_told(made: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(PluginError) as told:
        checks.check_launcher(part("launcher", lambda options: made()))
    assert sentence in str(told.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the launcher of this test forks")
def test_the_launcher_that_is_built_in_passes() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    checks.check_launcher("local", jobs=2)
    assert signal.getsignal(signal.SIGTERM) is handler
