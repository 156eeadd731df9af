"""Points drawn from any likelihood with a known decoder, whose true log-likelihood is an integral over few latents.

    z ~ N(0, I),    x ~ p(x | W z + b),    ln p(x) = ln ∫ p(x | W z + b) N(z; 0, I) dz

With one or two latents the integral is a sum over a grid of them, z = c + s sinh(t), fine where the posterior of the
point is and wide enough for all of the prior. The trapezoidal rule in t converges faster than any power of the grid's
width for smooth integrands (Takahasi and Mori 1974; Trefethen and Weideman 2014); the same sum over every other node
shows what it misses.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import attrs
import torch
from torch import Tensor

from elboverse.builtin.datasets.generated import normal, require_size
from elboverse.components.hookspecs import selects
from elboverse.components.registry import Selection
from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.data import prepare
from elboverse.seeding import derived_seed, generator
from elboverse.theory import families

__all__ = ["FamilyOptions", "Truth", "build_family", "truth_of"]

_WIDEST: Final = 7.0
"""How far the first grid of latents reaches, in standard deviations of the prior."""

_NODES: Final = {1: (71, 161), 2: (21, 49)}
"""Nodes per latent by the number of latents: of the grids that look for the posterior, and of the last one."""

_VALUES_AT_ONCE: Final = 1 << 22

_EDGE: Final = 1e-6
"""How near to 0 and 1 a share may come, so that it stays inside (0, 1) in float32 too."""

_OUTPUTS: Final = {
    "real": (0.0, 1.0, 1.0),
    "binary": (0.0, 0.7, 2.0),
    "one-hot": (0.0, 0.7, 2.0),
    "unit": (0.0, 1.0, 2.0),
    "open-unit": (0.0, 0.3, 0.5),
    "positive": (0.0, 0.3, 0.6),
    "counts": (1.2, 0.4, 0.5),
}
"""Centre and spread of the biases b_d, and the spread of the weights W_d, by what the likelihood is defined on."""


@attrs.frozen(kw_only=True)
class FamilyOptions:
    """Options of the points that are drawn from a likelihood.

    Args:
        likelihood: the likelihood component that they are drawn from. Its own parameters, such as a scale, are drawn
            around what its options start them at.
        points: N, points in all, those held out included.
        dimension: D; for ``categorical`` a multiple of its categories.
        latent: H, the number of generating latents, 1 or 2.
        signal: factor of the generating weights; 0 for points without structure.
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        scaling: ``"none"``, since scaled counts are no counts; ``"min-max"`` or ``"standard"`` where the likelihood
            is one of real numbers.
    """

    likelihood: Selection = selects("likelihood", default="gaussian")
    points: int = attrs.field(default=4000, validator=in_range(minimum=2, maximum=100_000_000))
    dimension: int = attrs.field(default=6, validator=in_range(minimum=1))
    latent: Literal[1, 2] = 1
    signal: float = attrs.field(default=1.0, validator=in_range(minimum=0, maximum=100))
    held_out: float = attrs.field(default=0.5, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "standard", "none"] = "none"

    def __attrs_post_init__(self) -> None:
        require_size(self.points, self.dimension)


@attrs.frozen(eq=False)
class Truth:
    """What generates the points: p(x|z) of outputs that are linear in z.

    Args:
        likelihood: a module with its true parameters, float64.
        weights: W of each output layer, shape (O, D, H).
        biases: b, shape (O, D).
    """

    likelihood: Any
    weights: Tensor
    biases: Tensor

    @property
    def latent_dim(self) -> int:
        """H."""
        return self.weights.shape[-1]

    @property
    def is_normalised(self) -> bool:
        """Whether p(x|z) sums to 1 over x given what the likelihood takes from a point, such as its total count.

        Of Poisson counts it does, as these are multinomial given their total; of negative binomial ones it does not.
        """
        given = getattr(self._distribution(self.biases.new_zeros(1, self.latent_dim)), "given", None)
        sums = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        takes_total = given is not None and not _same(given(sums), given(2 * sums))
        return not takes_total or type(self.likelihood).__name__.startswith("Poisson")

    def decode(self, z: Tensor) -> Any:
        """Return p(x|z) for latents of shape (*B, H), as of a model."""
        return self._distribution(z)

    def draw(self, count: int, stream: torch.Generator) -> Tensor:
        """Return points, shape (count, D), float64."""
        with torch.no_grad():
            distribution = self._distribution(normal(stream, count, self.latent_dim))
            drawn: Tensor = distribution.sample(normal(stream, count, self.weights.shape[1]))
        return _inside(drawn, self.likelihood.support)

    def log_density(self, x: Tensor, every: int = 1) -> Tensor:
        """Return ln p(x) in nats, shape (N,), for points of shape (N, D) in data units.

        Args:
            x: the points.
            every: take each so many nodes of the grid alone.
        """
        at_once = max(1, _VALUES_AT_ONCE // (_NODES[self.latent_dim][1] ** self.latent_dim * x.shape[-1]))
        with torch.no_grad():
            return torch.cat([self._integral(some, every) for some in x.double().split(at_once)])

    def _integral(self, x: Tensor, every: int) -> Tensor:
        looking, last = _NODES[self.latent_dim]
        centre = x.new_zeros(len(x), self.latent_dim)
        width = torch.full_like(centre, _WIDEST)
        for _ in range(4):  # each time on what the one before found, at least as wide as it could tell
            grid = torch.linspace(-1, 1, looking, dtype=x.dtype)
            nodes = centre + width * _product(grid, self.latent_dim).unsqueeze(1)
            weights = self._log_joint(nodes, x).softmax(0).unsqueeze(-1)
            centre = (weights * nodes).sum(0)
            deviation = (weights * (nodes - centre).square()).sum(0).sqrt()
            width = torch.maximum(6 * deviation, 8 * width / looking)
        scale = width / 6
        farthest = torch.asinh(2 * _WIDEST / scale)
        t = farthest * _product(torch.linspace(-1, 1, last, dtype=x.dtype)[::every], self.latent_dim).unsqueeze(1)
        step = (2 * farthest * every / (last - 1)).log().sum(-1)
        volume = (scale.log() + t.cosh().log()).sum(-1) + step
        return torch.logsumexp(self._log_joint(centre + scale * t.sinh(), x) + volume, dim=0)

    def _log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        found: Tensor = families.decode(self, z, x).log_prob(x) + prior
        return found

    def _distribution(self, z: Tensor) -> Any:
        outputs = torch.einsum("...h,odh->o...d", z, self.weights) + self.biases.reshape(
            len(self.biases), *[1] * (z.ndim - 1), -1
        )
        first, *others = outputs.unbind(0)
        if getattr(self.likelihood, "takes_library", False):
            first = first.log_softmax(-1)  # rates per total count that sum to it, as real ones do
        return self.likelihood((first, *others))


def truth_of(options: FamilyOptions, seed: int) -> Truth:
    """Return what generates the points; it depends on the seed, the likelihood, D and H alone."""
    stream = generator(seed, "data", "family", "parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "data", "family", "likelihood"))
        likelihood = options.likelihood.build((options.dimension,)).double()
    centre, spread, weight = _OUTPUTS[likelihood.support]
    shape = (likelihood.outputs, options.dimension)
    biases = centre + spread * normal(stream, *shape)
    weights = options.signal * weight * normal(stream, *shape, options.latent) / math.sqrt(options.latent)
    biases[1:] = 0.3 * biases[1:]  # further outputs, such as a log-variance, are added to what they start at
    weights[1:] = 0.3 * weights[1:]
    with torch.no_grad():
        for _, parameter in sorted(likelihood.named_parameters()):
            parameter.add_(0.3 * normal(stream, parameter.numel()).reshape(parameter.shape))
    return Truth(likelihood, weights, biases)


def build_family(options: FamilyOptions, seed: int) -> Data:
    """Return points of a likelihood with a known decoder, and their true log-likelihood where p(x|z) is normalised."""
    truth = truth_of(options, seed)
    points = truth.draw(options.points, generator(seed, "data", "family"))
    notes = ["drawn from the likelihood with a decoder that is linear in z, z ~ N(0, I)"]
    known = truth.is_normalised
    if known:
        some = points[:200]
        error = float((truth.log_density(some) - truth.log_density(some, every=2)).mean().abs())
        notes.append(
            "the true log-likelihood is an integral over z, by a sum over a grid; half as many nodes change it by "
            f"{max(error, 1e-12):.0e} nats"
        )
    else:
        notes.append(
            "the true log-likelihood does not exist: given the total count, p(x|z) of this likelihood does not sum to 1"
        )
    data = prepare(
        points,
        seed=seed,
        held_out=options.held_out,
        scaling=options.scaling,
        log_density=truth.log_density if known else None,
        what="family",
    )
    return attrs.evolve(data, notes=tuple(notes))


def _product(grid: Tensor, axes: int) -> Tensor:
    """Return the nodes of a product grid, shape (G^axes, axes)."""
    return torch.cartesian_prod(*[grid] * axes).reshape(-1, axes)


def _inside(points: Tensor, support: str) -> Tensor:
    """Return draws as any number type can hold them inside the open ends of a support."""
    if support == "open-unit":
        return points.clamp(_EDGE, 1 - _EDGE)
    return points.clamp_min(1e-30) if support == "positive" else points


def _same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
