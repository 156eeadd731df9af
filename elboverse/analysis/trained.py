"""The trained model of a run, rebuilt from its run file: its parameters, the data that it was trained on, seeded noise.

For analyses that need more than what was recorded. Arrays are NumPy's on either side, so that an analysis need not
know torch; importing this module imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self, cast

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elboverse.components import conformance
from elboverse.components.registry import Registry, Selection, discover
from elboverse.config import ExperimentConfig, from_table
from elboverse.contracts import Data, Model, SamplingFree, is_image
from elboverse.errors import AnalysisError, ElboverseError
from elboverse.runfile import Run
from elboverse.seeding import generator
from elboverse.theory import families, identities
from elboverse.theory.distributions import DecoderDistribution
from elboverse.theory.distributions.latent import second_moments
from elboverse.theory.elbo import batch_terms
from elboverse.theory.families import Family
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.evaluation import MOST_TRAINING_POINTS, point_statistics
from elboverse.training.family_evaluation import FamilyStatistics
from elboverse.training.streaming import Timetable

__all__ = ["PointStatistics", "TrainedModel"]

Array = npt.NDArray[Any]

POINTS_AT_ONCE = 4096


@attrs.frozen(eq=False)
class PointStatistics:
    """The terms of each point by itself, in nats, float64; M points.

    Args:
        log_likelihood: E_q ln p(x|z), shape (M,).
        decoder_entropy: E_q Σ_d ½ ln(2πe σ²_d(z)), shape (M,).
        decoder_log_var: ln σ², averaged over dimensions and samples, shape (M,).
        kl: KL_h, shape (M, H).
        encoder_entropy: ½ ln(2πe τ²_h), shape (M, H).
        prior_entropy: ½ ln(2πe α²_h), shape (M, H).
        log_reference: E_q ln h(x) of the measure that the decoder entropy is relative to, shape (M,); 0 for a Gaussian.
    """

    log_likelihood: Array
    decoder_entropy: Array
    decoder_log_var: Array
    kl: Array
    encoder_entropy: Array
    prior_entropy: Array
    log_reference: Array | float = 0.0

    @property
    def elbo(self) -> Array:
        """The ELBO of each point, shape (M,)."""
        return np.asarray(identities.elbo(self.log_likelihood, self.kl))

    @property
    def entropy_sum(self) -> Array:
        """The entropy sum of each point, shape (M,)."""
        return np.asarray(
            identities.entropy_sum(self.decoder_entropy, self.encoder_entropy, self.prior_entropy) + self.log_reference
        )


@attrs.frozen(eq=False, kw_only=True)
class TrainedModel:
    """One replica of a run as its checkpoint holds it, on the CPU, with the data that it was trained on.

    Args:
        config: the run's config.
        model: with the checkpoint's parameters.
        data: as the dataset gives it with this replica's seed; its fingerprint is that of the run. Of a stream it has
            the latest points trained on, and held-out ones of their regime.
        seed: of this replica.
        dtype: in which the run computes.
    """

    config: ExperimentConfig
    model: Model
    data: Data
    seed: int
    dtype: torch.dtype

    @classmethod
    def of(cls, run: Run, replica: int = 0, registry: Registry | None = None) -> Self:
        """Return a replica of a run as it was when the run file was saved last.

        Args:
            run: the run.
            replica: its number, counted from 0.
            registry: the components; those of all installed plugins by default.

        Raises:
            AnalysisError: there is no such replica, a plugin that the run needs is missing, the dataset gives other
                data than when the run began, or the checkpoint does not fit the model.
        """
        if not 0 <= replica < run.replicas:
            raise AnalysisError(f"{run.path}: replica {replica} given, allowed is 0 … {run.replicas - 1}")
        try:
            config = from_table(run.config, (discover() if registry is None else registry).as_recorded(run.components))
            data = _at_the_checkpoint(_checked_data(run, config, replica), run, config)
            model = _build_model(config.model, data)
        except AnalysisError:
            raise
        except ElboverseError as error:
            raise AnalysisError(f"{run.path}: the trained model cannot be rebuilt from its config: {error}") from error
        dtype = {"float32": torch.float32, "float64": torch.float64}[config.training.dtype]
        model.to(dtype)
        _load(model, run, replica)
        model.eval()
        return cls(config=config, model=cast(Model, model), data=data, seed=config.seed + replica, dtype=dtype)

    @property
    def latent_dim(self) -> int:
        """H."""
        return families.latent_dim(self.model)

    @property
    def family(self) -> Family:
        """What kind of VAE it is."""
        return families.described(self.model, self._look())

    def _look(self) -> Tensor:
        """Return two points as the model sees them."""
        return self.data.scaled(self.data.train[:2]).to(self.dtype)

    @property
    def prior_variance(self) -> Array:
        """α²_h, shape (H,); of a prior that is no diagonal Gaussian, from 10,000 samples of it."""
        prior = self.model.prior()
        if type(prior) is DiagonalGaussian:
            return _numpy(prior.variance)
        shape = (10_000, self.latent_dim)
        noise = torch.randn(shape, generator=generator(self.seed, "analysis", "prior"), dtype=self.dtype)
        with torch.no_grad():
            return _numpy(prior.sample(noise).var(0))

    def prior_samples(self, noise: Array) -> Array:
        """Return draws from the prior, shape (M, H), for noise ε ~ N(0, I) of that shape."""
        prior = self.model.prior()
        if type(prior) is DiagonalGaussian:
            return np.asarray(np.sqrt(self.prior_variance) * noise)
        with torch.no_grad():
            return _numpy(prior.sample(torch.from_numpy(noise).to(self.dtype)))

    @property
    def is_sampling_free(self) -> bool:
        """Whether the model's ELBO is exact, so that no noise enters it."""
        return isinstance(self.model, SamplingFree)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of a point that is an image, (height, width) or (channels, height, width); None if it is none."""
        return self.data.shape if is_image(self.data.shape) else None

    def count(self, split: str) -> int:
        """Return how many points ``"train"`` or ``"held_out"`` has."""
        return len(self._stored(split))

    def points(self, split: str, rows: slice | Array = slice(None)) -> Array:
        """Return points of a split as the model sees them, scaled and in the run's type, shape (M, D).

        Args:
            split: ``"train"`` or ``"held_out"``.
            rows: which; all of them by default.
        """
        chosen = self._stored(split)[rows if isinstance(rows, slice) else torch.from_numpy(rows)]
        return self.data.scaled(chosen).to(self.dtype).numpy()

    def unscaled(self, points: Array) -> Array:
        """Return scaled points in data units, float64, shape (M, D)."""
        return _numpy(self.data.scaling.undo(torch.from_numpy(points).double()))

    def noise(self, shape: tuple[int, ...], *labels: str | int) -> Array:
        """Return draws from N(0, 1), the same for the same labels.

        Args:
            shape: of the draws.
            labels: what they are for.
        """
        return _numpy(torch.randn(shape, generator=generator(self.seed, "analysis", *labels), dtype=torch.float64))

    def choose(self, available: int, count: int, *labels: str | int) -> Array:
        """Return indices in 0 … available − 1, drawn with replacement, shape (count,), the same for the same labels."""
        drawn: Array = torch.randint(available, (count,), generator=generator(self.seed, "analysis", *labels)).numpy()
        return drawn

    def encode(self, points: Array) -> tuple[Array, Array]:
        """Return mean ν and variance τ² of q(z|x) for scaled points (M, D), both of shape (M, H)."""
        means, variances = [], []
        with torch.no_grad():
            for x in self._batches(points):
                mean, variance = second_moments(families.encode(self.model, x))
                means.append(mean)
                variances.append(variance)
        return _numpy(torch.cat(means)), _numpy(torch.cat(variances))

    def decode(self, latents: Array) -> tuple[Array, Array]:
        """Return mean μ and variance σ² of p(x|z) for latents (M, H), both of shape (M, D), in scaled units.

        The variance of a decoder that is no Gaussian is not a number: its distribution is in its samples.
        """
        means, variances = [], []
        with torch.no_grad():
            for z in self._batches(latents):
                decoder = self.model.decode(z)
                means.append(decoder.mean)
                is_gaussian = type(decoder) is DiagonalGaussian
                nowhere = torch.full_like(decoder.mean, torch.nan)
                variances.append(decoder.variance.expand_as(decoder.mean) if is_gaussian else nowhere)
        return _numpy(torch.cat(means)), _numpy(torch.cat(variances))

    def sample(self, latents: Array, *labels: str | int) -> Array:
        """Return a draw from p(x|z) for each of some latents (M, H), shape (M, D), in scaled units.

        Args:
            latents: z.
            labels: they name the draws.
        """
        drawn = []
        with torch.no_grad():
            for number, z in enumerate(self._batches(latents)):
                decoder = self.model.decode(z)
                stream = generator(self.seed, "analysis", *labels, number)
                drawn.append(decoder.sample(torch.randn(decoder.mean.shape, generator=stream, dtype=self.dtype)))
        return _numpy(torch.cat(drawn))

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
        table = _numpy(torch.cat(parts))
        kl, encoder_entropy, prior_log_var, _ = np.split(table[:, 4:], 4, axis=1)
        prior_entropy = np.asarray(identities.gaussian_entropy(prior_log_var))
        return PointStatistics(table[:, 0], table[:, 1], table[:, 2], kl, encoder_entropy, prior_entropy)

    def _family_statistics(self, family: Family, points: Array, *labels: str | int) -> PointStatistics:
        terms = FamilyStatistics(family, self.latent_dim, self.data.dimension)
        parts = []
        with torch.no_grad():
            for number, x in enumerate(self._batches(points)):
                noise = self._monte_carlo(len(x), *labels, number, width=terms.noise_width)
                parts.append(terms(self.model, x, noise))
        table = _numpy(torch.cat(parts))
        kl, encoder_entropy, prior_entropy, _ = np.split(table[:, 4:], 4, axis=1)
        nowhere = np.full(len(table), np.nan)
        return PointStatistics(table[:, 0], table[:, 2], nowhere, kl, encoder_entropy, prior_entropy, table[:, 1])

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
        return _numpy(torch.cat(residuals)), _numpy(torch.cat(spreads))

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
            x = torch.from_numpy(points[number * size : (number + 1) * size]).to(self.dtype)
            noise = self._monte_carlo(size, *labels, number)
            if noise is None or gaussian:
                elbo = batch_terms(self.model, x, noise).elbo
            else:
                elbo = families.family_terms(self.model, x, noise).elbo
            found = torch.autograd.grad(elbo, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
                rows[name].append(torch.zeros_like(parameter) if gradient is None else gradient)
        return {name: _numpy(torch.stack([gradient.flatten() for gradient in each])) for name, each in rows.items()}

    def _stored(self, split: str) -> Tensor:
        return self.data.train if split == "train" else self.data.held_out

    def _monte_carlo(self, count: int, *labels: str | int, width: int | None = None) -> Tensor | None:
        if self.is_sampling_free:
            return None
        samples = self.config.training.samples
        shape = (*((samples,) if samples > 1 else ()), count, width or self.latent_dim)
        return torch.randn(shape, generator=generator(self.seed, "analysis", *labels), dtype=self.dtype)

    def _batches(self, points: Array) -> Iterator[Tensor]:
        samples = 1 if self.is_sampling_free else self.config.training.samples
        yield from torch.from_numpy(points).to(self.dtype).split(max(64, POINTS_AT_ONCE // samples))


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def _checked_data(run: Run, config: ExperimentConfig, replica: int) -> Data:
    """Return the data of a replica; the fingerprint that the run keeps is that of its first one."""
    expected = run.data.get("fingerprint")
    if not isinstance(expected, str):
        raise AnalysisError(f"{run.path}: the run keeps no fingerprint of its data, so they cannot be checked")
    who = f"dataset {config.dataset.name!r}"
    data = conformance.require_data(config.dataset.build(config.seed), who)
    if data.fingerprint != expected:
        raise AnalysisError(
            f"{run.path}: the {who} gives other data than when the run began (fingerprint {data.fingerprint}, not "
            f"{expected}), so the trained model cannot be analysed on them; bring the first data back"
        )
    return data if replica == 0 else conformance.require_data(config.dataset.build(config.seed + replica), who)


def _at_the_checkpoint(data: Data, run: Run, config: ExperimentConfig) -> Data:
    """Return data as they are; of a stream, what it shows around the checkpoint."""
    if data.stream is None:
        return data
    timetable = Timetable(data.stream, config.training.batch_size)
    first, count = timetable.latest(run.checkpoint_step, MOST_TRAINING_POINTS)
    held_out = data.stream.held_out(timetable.reached(run.checkpoint_step))
    return attrs.evolve(data, train=data.stream.points(first, count), held_out=held_out)


def _build_model(selection: Selection, data: Data) -> nn.Module:
    """Return a model with weights that are still to be replaced; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = selection.build(data.shape)
    conformance.require_model(
        model, data.scaled(data.train[:2]).to(torch.get_default_dtype()), f"model {selection.name!r}"
    )
    return model


def _load(model: nn.Module, run: Run, replica: int) -> None:
    stored = run.checkpoint("model")
    tensors = model.state_dict(keep_vars=True)
    expected = {name: (run.replicas, *tensor.shape) for name, tensor in tensors.items()}
    found = {name: values.shape for name, values in stored.items()}
    if found != expected:
        names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        raise AnalysisError(
            f"{run.path}: the checkpoint does not hold this model's parameters: {names[0]} has the shape "
            f"{found.get(names[0], 'of nothing')}, expected is {expected.get(names[0], 'that it is not there')}"
        )
    for name, tensor in tensors.items():
        values = stored[name][replica]
        if not math.isfinite(float(np.abs(values).sum(dtype=np.float64))):
            raise AnalysisError(f"{run.path}: the parameter {name} of the checkpoint is not finite")
        with torch.no_grad():
            tensor.copy_(torch.tensor(values))
