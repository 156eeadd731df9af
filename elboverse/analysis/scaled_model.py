"""A trained model as analyses look at it: points in scaled units, seeded noise, terms and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.analysis.point_statistics import PointStatistics
from elboverse.analysis.sobol import shared_noise
from elboverse.config import ExperimentConfig
from elboverse.contracts import Condition, Data, Model, SamplingFree, Scaling, is_image
from elboverse.data.conditions import with_conditions
from elboverse.errors import AnalysisError
from elboverse.seeding import generator
from elboverse.theory import families
from elboverse.theory.distributions import DecoderDistribution
from elboverse.theory.distributions.latent import second_moments
from elboverse.theory.elbo import batch_terms
from elboverse.theory.families import Family
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.evaluation import point_statistics
from elboverse.training.family_evaluation import FamilyStatistics

__all__ = ["POINTS_AT_ONCE", "ScaledModel", "to_numpy"]

Array = npt.NDArray[Any]

POINTS_AT_ONCE = 4096

SCORE_SAMPLES = 64
"""How many Monte-Carlo samples a score takes at least."""


@attrs.define(eq=False, kw_only=True)
class ScaledModel:
    """The part of `TrainedModel` that computes in the units that the model is trained in.

    Args:
        config: the run's config.
        model: with the checkpoint's parameters, in evaluation mode.
        scaling: the map from data units to those that the model sees, fitted on the training points.
        shape: of one point.
        names: of the dimensions, length D, or empty.
        unit: of the data; empty if they have none.
        seed: of this replica.
        dtype: in which the run computes.
        load_data: reads the data that it was trained on.
        conditions: what a conditional model is given beside each point.
        device: where it computes.
    """

    config: ExperimentConfig
    model: Model
    scaling: Scaling
    shape: tuple[int, ...]
    names: tuple[str, ...]
    unit: str
    seed: int
    dtype: torch.dtype
    load_data: Callable[[], Data]
    conditions: tuple[Condition, ...] = ()
    device: torch.device = torch.device("cpu")

    @cached_property
    def data(self) -> Data:
        """As the dataset gives it with this replica's seed; its fingerprint is that of the run.

        Of a stream it has the latest points trained on, and held-out ones of their regime.

        Raises:
            AnalysisError: the dataset cannot be read, or gives other data than when the run began.
        """
        return self.load_data()

    @cached_property
    def _joined(self) -> Data:
        """The data with the conditions behind the points, as batches hold them."""
        return with_conditions(self.data)

    @property
    def condition_dimension(self) -> int:
        """C."""
        return sum(condition.width for condition in self.conditions)

    @property
    def latent_dim(self) -> int:
        """H."""
        return families.latent_dim(self.model)

    @property
    def family(self) -> Family:
        """What kind of VAE it is."""
        return families.described(self.model, self._look())

    def _look(self) -> Tensor:
        """Return two points of the model's shape, which any likelihood takes."""
        width = math.prod(self.shape) + self.condition_dimension
        return torch.full((2, width), 0.5, dtype=self.dtype, device=self.device)

    @property
    def prior_variance(self) -> Array:
        """α²_h, shape (H,); of a prior that is not a diagonal Gaussian, from 10,000 samples of it."""
        prior = self.model.prior()
        if type(prior) is DiagonalGaussian:
            return to_numpy(prior.variance)
        shape = (10_000, self.latent_dim)
        noise = torch.randn(shape, generator=generator(self.seed, "analysis", "prior"), dtype=self.dtype)
        with torch.no_grad():
            return to_numpy(prior.sample(noise).var(0))

    def prior_samples(self, noise: Array) -> Array:
        """Return draws from the prior, shape (M, H), for noise ε ~ N(0, I) of that shape."""
        prior = self.model.prior()
        if type(prior) is DiagonalGaussian:
            return np.asarray(np.sqrt(self.prior_variance) * noise)
        with torch.no_grad():
            return to_numpy(prior.sample(torch.from_numpy(noise).to(self.dtype)))

    @property
    def is_sampling_free(self) -> bool:
        """Whether the model's ELBO is exact, so that no noise enters it."""
        return isinstance(self.model, SamplingFree)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of a point that is an image, (height, width) or (channels, height, width); None if it is none."""
        return self.shape if is_image(self.shape) else None

    def count(self, split: str) -> int:
        """Return how many points ``"train"`` or ``"held_out"`` has."""
        return len(self._stored(split))

    def points(self, split: str, rows: slice | Array = slice(None)) -> Array:
        """Return points of a split as batches hold them, scaled and in the run's type, shape (M, D + C).

        Args:
            split: ``"train"`` or ``"held_out"``.
            rows: which; all of them by default.
        """
        chosen = self._stored(split)[rows if isinstance(rows, slice) else torch.from_numpy(rows)]
        return self._joined.scaled(chosen).to(self.dtype).numpy()

    def observed(self, points: Array) -> Array:
        """Return points without the conditions behind them, shape (M, D)."""
        return points[:, : math.prod(self.shape)]

    def unscaled(self, points: Array) -> Array:
        """Return scaled points in data units, float64, shape (M, D)."""
        return to_numpy(self.scaling.undo(torch.from_numpy(points).double()))

    def noise(self, shape: tuple[int, ...], *labels: str | int) -> Array:
        """Return draws from N(0, 1), the same for the same labels.

        Args:
            shape: of the draws.
            labels: what they are for.
        """
        return to_numpy(torch.randn(shape, generator=generator(self.seed, "analysis", *labels), dtype=torch.float64))

    def choose(self, available: int, count: int, *labels: str | int) -> Array:
        """Return indices in 0 … available − 1, drawn with replacement, shape (count,), the same for the same labels."""
        drawn: Array = torch.randint(available, (count,), generator=generator(self.seed, "analysis", *labels)).numpy()
        return drawn

    def posterior_moments(self, points: Array) -> tuple[Array, Array]:
        """Return mean ν and variance τ² of q(z|x) for scaled points (M, D), both of shape (M, H)."""
        means, variances = [], []
        with torch.no_grad():
            for x in self._batches(points):
                mean, variance = second_moments(families.encode(self.model, x))
                means.append(mean)
                variances.append(variance)
        return to_numpy(torch.cat(means)), to_numpy(torch.cat(variances))

    def decoder_moments(self, latents: Array, points: Array | None = None) -> tuple[Array, Array]:
        """Return mean μ and variance σ² of p(x|z) for latents (M, H), both of shape (M, D), in scaled units.

        The variance of a decoder that is not a Gaussian is not a number: its distribution is in its samples.

        Args:
            latents: z.
            points: what the model is given of the points beside z, their conditions and total counts, (M, D + C); by
                default those of random training points, where the model is given any.
        """
        means, variances = [], []
        with torch.no_grad():
            for z, x in self._with_given(latents, points):
                decoder = self._decoded(z, x)
                means.append(decoder.mean)
                is_gaussian = type(decoder) is DiagonalGaussian
                nowhere = torch.full_like(decoder.mean, torch.nan)
                variances.append(decoder.variance.expand_as(decoder.mean) if is_gaussian else nowhere)
        return to_numpy(torch.cat(means)), to_numpy(torch.cat(variances))

    def draw(self, latents: Array, *labels: str | int, points: Array | None = None) -> Array:
        """Return a draw from p(x|z) for each of some latents (M, H), shape (M, D), in scaled units.

        Args:
            latents: z.
            labels: they name the draws.
            points: as for `decoder_moments`.
        """
        drawn = []
        with torch.no_grad():
            for number, (z, x) in enumerate(self._with_given(latents, points)):
                decoder = self._decoded(z, x)
                stream = generator(self.seed, "analysis", *labels, number)
                drawn.append(
                    decoder.sample(torch.randn(decoder.mean.shape, generator=stream, dtype=self.dtype).to(z.device))
                )
        return to_numpy(torch.cat(drawn))

    def beside(self, count: int, *labels: str | int) -> Array | None:
        """Return random training points whose conditions and total counts a model is given, (count, D + C).

        None where it is given nothing of them, or where the data cannot be read and it has no conditions.
        """
        takes = hasattr(self._decoded(torch.zeros(1, self.latent_dim, dtype=self.dtype).to(self.device), None), "given")
        if not takes and not self.conditions:
            return None
        try:
            return self.points("train", self.choose(self.count("train"), count, "given", *labels))
        except AnalysisError:
            if self.conditions:
                raise
            return None

    def _with_given(self, latents: Array, points: Array | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield batches of latents with what the model is given beside them."""
        points = self.beside(len(latents)) if points is None else points
        if points is None:
            yield from ((z, None) for z in self._batches(latents))
        else:
            yield from zip(self._batches(latents), self._batches(points), strict=True)

    def _decoded(self, z: Tensor, x: Tensor | None) -> Any:
        """Return p(x|z), given what of the points is not modelled."""
        if x is None:
            c = z.new_full((len(z), self.condition_dimension), 0.5)
            return self.model.decode(z) if not self.conditions else families.decoded(self.model, z, c)
        decoder = families.decoded(self.model, z, x)
        given = getattr(decoder, "given", None)
        return decoder if given is None else given(families.observed(self.model, x))

    def statistics(self, points: Array, *labels: str | int) -> PointStatistics:
        """Return the terms of each point, with as many Monte-Carlo samples per point as the run trained with.

        Args:
            points: scaled, shape (M, D).
            labels: they name the Monte-Carlo samples.
        """
        family = self.family
        if not family.gaussian:
            return self._family_statistics(family, points, *labels)
        parts = []
        with torch.no_grad():
            for number, x in enumerate(self._batches(points)):
                parts.append(point_statistics(self.model, x, self._monte_carlo(len(x), *labels, number)))
        return PointStatistics.of(to_numpy(torch.cat(parts)))

    def _family_statistics(self, family: Family, points: Array, *labels: str | int) -> PointStatistics:
        terms = FamilyStatistics(family, self.latent_dim, math.prod(self.shape))
        parts = []
        with torch.no_grad():
            for number, x in enumerate(self._batches(points)):
                noise = self._monte_carlo(len(x), *labels, number, width=terms.noise_width)
                parts.append(terms(self.model, x, noise))
        return PointStatistics.of_family(to_numpy(torch.cat(parts)))

    def scored(self, points: Array, seed: int) -> PointStatistics:
        """Return the terms of each point with Monte-Carlo samples that all points share.

        So what a point scores does not depend on the points beside it. The samples are a scrambled Sobol sequence,
        mapped to N(0, I), which errs less than as many independent ones.

        Args:
            points: scaled, shape (M, D).
            seed: of the samples.
        """
        if self.is_sampling_free:
            return self.statistics(points)
        family, count = self.family, max(SCORE_SAMPLES, self.config.training.samples)
        terms = None if family.gaussian else FamilyStatistics(family, self.latent_dim, math.prod(self.shape))
        width = self.latent_dim if terms is None else terms.noise_width or self.latent_dim
        noise = shared_noise(count, width, seed).to(self.device, self.dtype)
        at_once = max(1, POINTS_AT_ONCE * 16 // count)
        compute = point_statistics if terms is None else terms
        with torch.no_grad():
            parts = [
                compute(self.model, x, noise[:, None].expand(count, len(x), width))
                for x in torch.from_numpy(points).to(self.device, self.dtype).split(at_once)
            ]
        table = to_numpy(torch.cat(parts))
        return PointStatistics.of(table) if terms is None else PointStatistics.of_family(table)

    def decoder_residuals(self, points: Array, *labels: str | int) -> tuple[Array, Array]:
        """Return residual and varentropy of the decoder, r_d and V_d of each point, averaged over its samples.

        Args:
            points: scaled, shape (M, D).
            labels: they name the Monte-Carlo samples.

        Returns:
            Two arrays of shape (M, Q), one number per dimension, or per group of dimensions.

        Raises:
            AnalysisError: the decoder gives no residual per dimension.
        """
        residuals, spreads = [], []
        with torch.no_grad():
            for number, x in enumerate(self._batches(points)):
                noise = self._monte_carlo(len(x), *labels, number)
                encoder = families.encode(self.model, x)
                z = encoder.mean if noise is None else encoder.sample(noise)
                decoder = families.decode(self.model, z, x)
                if not isinstance(decoder, DecoderDistribution):
                    raise AnalysisError(f"{type(decoder).__name__} gives no residual per dimension")
                found = decoder.residual_terms(families.observed(self.model, x))
                residuals.append(found.reshape(-1, *found.shape[-2:]).mean(0))
                spread = decoder.varentropy_terms().expand_as(found)
                spreads.append(spread.reshape(-1, *found.shape[-2:]).mean(0))
        return to_numpy(torch.cat(residuals)), to_numpy(torch.cat(spreads))

    def gradients(self, points: Array, batches: int, *labels: str | int) -> dict[str, Array]:
        """Return ∂ELBO/∂θ of every parameter θ, averaged over each of some equal batches, shape (batches, size of θ).

        Args:
            points: scaled, shape (M, D), at least as many as batches; those that are left over are not used.
            batches: how many.
            labels: they name the Monte-Carlo samples.
        """
        parameters = dict(self.model.named_parameters())
        size = len(points) // batches
        gaussian = self.family.gaussian
        rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
        for number in range(batches):
            x = torch.from_numpy(points[number * size : (number + 1) * size]).to(self.device, self.dtype)
            noise = self._monte_carlo(size, *labels, number)
            if noise is None or gaussian:
                elbo = batch_terms(self.model, x, noise).elbo
            else:
                elbo = families.family_terms(self.model, x, noise).elbo
            found = torch.autograd.grad(elbo, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
                rows[name].append(torch.zeros_like(parameter) if gradient is None else gradient)
        return {name: to_numpy(torch.stack([gradient.flatten() for gradient in each])) for name, each in rows.items()}

    def _stored(self, split: str) -> Tensor:
        return self._joined.train if split == "train" else self._joined.held_out

    def _monte_carlo(self, count: int, *labels: str | int, width: int | None = None) -> Tensor | None:
        if self.is_sampling_free:
            return None
        samples = self.config.training.samples
        shape = (*((samples,) if samples > 1 else ()), count, width or self.latent_dim)
        draws = generator(self.seed, "analysis", *labels)
        return torch.randn(shape, generator=draws, dtype=self.dtype).to(self.device)

    def _batches(self, points: Array) -> Iterator[Tensor]:
        samples = 1 if self.is_sampling_free else self.config.training.samples
        yield from torch.from_numpy(points).to(self.device, self.dtype).split(max(64, POINTS_AT_ONCE // samples))


def to_numpy(tensor: Tensor) -> Array:
    """Return a tensor as an array in float64, on the host."""
    return tensor.detach().cpu().double().numpy()
