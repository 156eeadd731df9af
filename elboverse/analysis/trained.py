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
from elboverse.theory import identities
from elboverse.theory.elbo import batch_terms
from elboverse.training.evaluation import MOST_TRAINING_POINTS, point_statistics
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
    """

    log_likelihood: Array
    decoder_entropy: Array
    decoder_log_var: Array
    kl: Array
    encoder_entropy: Array
    prior_entropy: Array

    @property
    def elbo(self) -> Array:
        """The ELBO of each point, shape (M,)."""
        return np.asarray(identities.elbo(self.log_likelihood, self.kl))

    @property
    def entropy_sum(self) -> Array:
        """The entropy sum of each point, shape (M,)."""
        return np.asarray(identities.entropy_sum(self.decoder_entropy, self.encoder_entropy, self.prior_entropy))


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
        return len(self.model.prior().log_var)

    @property
    def prior_variance(self) -> Array:
        """α²_h, shape (H,)."""
        return _numpy(self.model.prior().variance)

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
                encoder = self.model.encode(x)
                means.append(encoder.mean)
                variances.append(encoder.variance.expand_as(encoder.mean))
        return _numpy(torch.cat(means)), _numpy(torch.cat(variances))

    def decode(self, latents: Array) -> tuple[Array, Array]:
        """Return mean μ and variance σ² of p(x|z) for latents (M, H), both of shape (M, D), in scaled units."""
        means, variances = [], []
        with torch.no_grad():
            for z in self._batches(latents):
                decoder = self.model.decode(z)
                means.append(decoder.mean)
                variances.append(decoder.variance.expand_as(decoder.mean))
        return _numpy(torch.cat(means)), _numpy(torch.cat(variances))

    def statistics(self, points: Array, *labels: str | int) -> PointStatistics:
        """Return the terms of each point, with as many Monte-Carlo samples per point as the run trained with.

        Args:
            points: scaled, shape (M, D).
            labels: they name the Monte-Carlo samples.
        """
        parts = []
        with torch.no_grad():
            for number, x in enumerate(self._batches(points)):
                parts.append(point_statistics(self.model, x, self._monte_carlo(len(x), *labels, number)))
        table = _numpy(torch.cat(parts))
        kl, encoder_entropy, prior_log_var, _ = np.split(table[:, 4:], 4, axis=1)
        prior_entropy = np.asarray(identities.gaussian_entropy(prior_log_var))
        return PointStatistics(table[:, 0], table[:, 1], table[:, 2], kl, encoder_entropy, prior_entropy)

    def gradients(self, points: Array, batches: int, *labels: str | int) -> dict[str, Array]:
        """Return ∂ELBO/∂θ of every parameter θ, averaged over each of some equal batches, shape (batches, size of θ).

        Args:
            points: scaled, shape (M, D), at least as many as batches; those that are left over are not used.
            batches: how many.
            labels: they name the Monte-Carlo samples.
        """
        parameters = dict(self.model.named_parameters())
        size = len(points) // batches
        rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
        for number in range(batches):
            x = torch.from_numpy(points[number * size : (number + 1) * size]).to(self.dtype)
            elbo = batch_terms(self.model, x, self._monte_carlo(size, *labels, number)).elbo
            found = torch.autograd.grad(elbo, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
                rows[name].append(torch.zeros_like(parameter) if gradient is None else gradient)
        return {name: _numpy(torch.stack([gradient.flatten() for gradient in each])) for name, each in rows.items()}

    def _stored(self, split: str) -> Tensor:
        return self.data.train if split == "train" else self.data.held_out

    def _monte_carlo(self, count: int, *labels: str | int) -> Tensor | None:
        if self.is_sampling_free:
            return None
        samples = self.config.training.samples
        shape = (*((samples,) if samples > 1 else ()), count, self.latent_dim)
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
