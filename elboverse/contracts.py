"""What a model, network, dataset, weight constraint, annealing schedule and analysis must be.

The engine uses components through these protocols alone: built-in components have no other door. A class
need not inherit from them; having the methods is enough. `elboverse.testing` checks a component against its
contract. Axes: N data, B batch, K samples, D observed, H latent, R replicas, T recorded steps; a point is a
vector of D numbers, also where it is an image. Tensors appear in annotations only, so that this module
imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.animation import Animation
    from matplotlib.figure import Figure
    from torch import Generator, Tensor, nn

    from elboverse.gaussian import DiagonalGaussian

__all__ = [
    "AnnealingSchedule",
    "Constrainable",
    "Data",
    "Fetchable",
    "FromFiles",
    "Model",
    "Network",
    "Penalty",
    "Projection",
    "Regime",
    "Result",
    "SamplingFree",
    "Scaling",
    "Stream",
    "Table",
    "VarianceParameters",
    "is_image",
]


@runtime_checkable
class Model(Protocol):
    """A Gaussian VAE: a `torch.nn.Module` that gives three Gaussians, and knows nothing about training.

    `build(options, data_shape)` of a model component returns one. The engine calls `encode` and `decode` in every
    step, under automatic differentiation and, for replicas, under `torch.func.vmap`; they must therefore be pure
    functions of parameters, buffers and arguments: no random numbers, no in-place change of their arguments, no
    branching on tensor values.

    The model is in training mode during steps and in evaluation mode during evaluations. In training mode alone may
    buffers be updated and points be treated together, as batch normalisation does.
    """

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return q(z|x) for points x of shape (*B, D): mean ν and log-variance ln τ² of shape (*B, H)."""
        ...

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents z of shape (*B, H): mean of shape (*B, D), log-variance that broadcasts to it.

        A log-variance of shape () or (D,) says that Σ does not depend on z, which is cheaper.
        """
        ...

    def prior(self) -> DiagonalGaussian:
        """Return p(z): mean and log-variance of shape (H,).

        Its mean must be zero. Its log-variance must be fixed, or be the very parameter that `variance_parameters`
        names as prior: a step reads it once, when training starts.
        """
        ...

    def variance_parameters(self) -> VarianceParameters:
        """Return which parameters are variances; see `VarianceParameters`."""
        ...

    def get_parameter(self, target: str) -> nn.Parameter:
        """As of `torch.nn.Module`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of `torch.nn.Module`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """As of `torch.nn.Module`."""
        ...

    def eval(self) -> Any:
        """As of `torch.nn.Module`."""
        ...

    def state_dict(self, *, keep_vars: bool = False) -> dict[str, Tensor]:
        """As of `torch.nn.Module`."""
        ...


@attrs.frozen
class VarianceParameters:
    """The names of a model's parameters that are log-variances themselves.

    They train with their own learning rate. Where `training.variances` is ``"optimal"``, they are not trained
    but set to the maximiser of the ELBO given the rest, σ² = s² and α²_h = m_h (docs/theory.md, "Closed-form
    variances").

    Args:
        decoder: name of the parameter that is ln σ², shape () or (D,), or None where Σ is fixed or depends on z.
        prior: name of the parameter that is ln α², shape (H,), or None where the prior is fixed.
        heads: names of further parameters that shape a variance (a head for Σ(z), say) and so take the
            variances' learning rate; they have no closed form.
    """

    decoder: str | None = None
    prior: str | None = None
    heads: tuple[str, ...] = ()

    @property
    def closed_form(self) -> tuple[str, ...]:
        """The parameters that have a closed-form optimum."""
        return tuple(name for name in (self.decoder, self.prior) if name is not None)


@runtime_checkable
class SamplingFree(Protocol):
    """A model whose expected reconstruction error is known exactly, so that its ELBO needs no samples.

    The linear VAE is one. Its Σ must not depend on z.
    """

    def expected_squared_error(self, x: Tensor, encoder: DiagonalGaussian) -> Tensor:
        """Return E_q (x_d − μ_d(z))² for points x of shape (*B, D) and q(z|x) = `encoder`, shape (*B, D)."""
        ...

    def decoder_log_variance(self) -> Tensor:
        """Return ln σ², shape () or (D,)."""
        ...


@runtime_checkable
class Constrainable(Protocol):
    """A model with a weight that a constraint can act on."""

    def constrained_weight(self) -> str:
        """Return the name of the parameter W of shape (F, H): the first linear layer of the decoder, columns W_h."""
        ...


@runtime_checkable
class Network(Protocol):
    """The trainable function between data and latents, without its heads; any VAE type takes any network.

    `build(options, data_shape, latent_dim)` of a network component returns one. The VAE type adds what belongs
    to it: a linear head that turns encoder features into ν and ln τ², and, for Σ(z), a second output layer.
    """

    encoder: nn.Module
    """Maps points (*B, D) to features (*B, encoder_features)."""

    encoder_features: int

    decoder: nn.Module
    """Maps latents (*B, H) to features (*B, decoder_features); its first linear layer is the one constrained.

    An `nn.Identity` where the decoder has no hidden layer: then the output layer is the first linear one.
    """

    decoder_features: int

    def build_output(self) -> nn.Module:
        """Return a new layer from decoder features (*B, decoder_features) to points (*B, D), linear."""
        ...

    def output_activation(self, pre_activation: Tensor) -> Tensor:
        """Return the decoder mean μ for the output layer's values, both of shape (*B, D)."""
        ...


@attrs.frozen(eq=False)
class Scaling:
    """The affine map that was fitted on the training data alone: scaled = (raw − offset) / scale.

    Args:
        kind: ``"min-max"``, ``"standard"`` or ``"none"``.
        offset: in data units, shape (D,).
        scale: in data units, shape (D,), positive.
    """

    kind: str
    offset: Tensor
    scale: Tensor

    def apply(self, raw: Tensor) -> Tensor:
        """Return raw points, shape (*B, D), in the units that the model is trained in."""
        return (raw - self.offset).div_(self.scale)

    def undo(self, scaled: Tensor) -> Tensor:
        """Return scaled points, shape (*B, D), in data units."""
        return scaled * self.scale + self.offset

    def log_volume(self) -> float:
        """Return Σ_d ln scale_d in nats: add it to a log-density of raw points to get that of scaled points."""
        return float(self.scale.double().log().sum())


@attrs.frozen(kw_only=True)
class Regime:
    """A stretch of a stream whose points follow one distribution.

    Args:
        name: what a table and a figure call it.
        first_point: where in a pass it begins; it ends where the next one begins, the last one with the pass.
        latents: how many latents generate it, where that is known.
        log_likelihood: its expected log-likelihood under the generating density in nats per scaled point, where that
            is known.
        covariance_eigenvalues: of the generating density, for scaled points, where known: D positive numbers,
            descending.
    """

    name: str
    first_point: int
    latents: int | None = None
    log_likelihood: float | None = None
    covariance_eigenvalues: tuple[float, ...] | None = None


@runtime_checkable
class Stream(Protocol):
    """Points that come in an order, without end, each seen once: what a dataset of a stream adds to its `Data`.

    Training takes batch after batch in order. A pass is what an epoch is for other data: the stretch after which the
    regimes repeat, with points of its own. Everything is a function of the position alone, so that a run can be
    resumed anywhere. A step belongs to the regime of its batch's first point, also where the batch reaches into the
    next one; an evaluation looks at that regime alone.
    """

    points_per_pass: int

    regimes: Sequence[Regime]
    """Of one pass, in order; the first one begins at point 0."""

    def points(self, first: int, count: int) -> Tensor:
        """Return the points first … first + count − 1, scaled and in floating point, shape (count, D).

        Args:
            first: position in the stream, from 0; there is no end to it.
            count: how many, at least 1.
        """
        ...

    def held_out(self, position: int) -> Tensor:
        """Return points that the stream never shows, of the regime that the point at `position` is of.

        Their number, M, is the same everywhere; shape (M, D), scaled and in floating point.
        """
        ...


def is_image(shape: Sequence[int]) -> bool:
    """Return whether points of that shape are images: (height, width), or (1 or 3 channels, height, width)."""
    return (len(shape) == 2 and min(shape) > 1) or (len(shape) == 3 and shape[0] in {1, 3})


@attrs.frozen(eq=False, kw_only=True)
class Data:
    """What a dataset's `build(options, seed)` returns: points, ready to train on.

    `elboverse.data.prepare` splits and scales raw points into one; most datasets end with it. Points are either scaled
    ones in floating point, which are held on the device, or raw ones in bytes (`torch.uint8`), such as a map of a
    file, which stay where they are: each batch is converted and scaled on the device.

    Args:
        train: training points, scaled, floating point and finite, or raw bytes; shape (N, D).
        held_out: points that training never sees, of the same type, shape (M, D); M may be 0.
        shape: shape of one point, such as (2,) or (28, 28); its product is D.
        names: what each dimension is, length D, or empty.
        unit: unit of the raw values, such as ``"px"``; empty if they have none.
        scaling: the map from raw to scaled points.
        fingerprint: hexadecimal digest of the points as they are used.
        train_log_likelihood: where the generating density is known, its mean log-likelihood of the scaled
            training points in nats per point.
        held_out_log_likelihood: the same for the held-out points.
        augment: returns a training batch, scaled and of shape (B, D), with each point replaced by a random variant of
            it, such as its mirror image; all randomness from the generator. None for no augmentation, and beside a
            stream, whose points are new ones anyway.
        stream: where the points come in an order and without end; training then goes along it, and `train` and
            `held_out` are samples of it to look at. None for points that epochs go through in a random order.
    """

    train: Tensor
    held_out: Tensor
    shape: tuple[int, ...]
    scaling: Scaling
    fingerprint: str
    names: tuple[str, ...] = ()
    unit: str = ""
    train_log_likelihood: float | None = None
    held_out_log_likelihood: float | None = None
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    stream: Stream | None = None

    @property
    def dimension(self) -> int:
        """D, the number of observed dimensions."""
        return math.prod(self.shape)

    def value_range(self) -> tuple[float, float]:
        """Return the least and the greatest training value in data units; it goes once through all of them."""
        low, high = (self.scaling.undo(self.scaled(bound)) for bound in (self.train.amin(0), self.train.amax(0)))
        return float(low.min()), float(high.max())

    def scaled(self, points: Tensor) -> Tensor:
        """Return some of `train` or `held_out`, shape (*B, D), as the model sees them: bytes are scaled."""
        return points if points.is_floating_point() else self.scaling.apply(points)


@runtime_checkable
class FromFiles(Protocol):
    """Options of a dataset that is read from files; `elboverse data list` asks where."""

    def places(self) -> Sequence[Path]:
        """Return the files or folders that are looked for, in order; the first that is there is used."""
        ...


@runtime_checkable
class Fetchable(Protocol):
    """Options of a dataset whose files `elboverse data fetch` can get."""

    def fetch(self) -> Path:
        """Get the files, unless they are there, and return where they are."""
        ...


@runtime_checkable
class Projection(Protocol):
    """A weight constraint that maps the weight onto the allowed set after every step."""

    def project(self, weight: Tensor) -> Tensor:
        """Return the nearest allowed weight, shape (F, H) as given; the engine writes it back in place."""
        ...


@runtime_checkable
class Penalty(Protocol):
    """A weight constraint that adds a penalty to the loss."""

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the penalty in nats for a weight of shape (F, H), shape ()."""
        ...


@runtime_checkable
class AnnealingSchedule(Protocol):
    """The weight β of the KL term through training."""

    def weight(self, step: int, total_steps: int) -> float:
        """Return β ≥ 0 for a step in 0 … total_steps − 1."""
        ...


@attrs.frozen(eq=False, kw_only=True)
class Table:
    """A table of a result.

    Args:
        title: one line above it.
        columns: the column heads.
        rows: one sequence of cells per row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bool | None]]


@attrs.frozen(eq=False, kw_only=True)
class Result:
    """What an analysis' `build(options, run)` returns: a table, sentences, numbers and a way to draw a figure.

    An analysis of several runs says so by the class variable ``several_runs = True`` of its options; it is then given a
    tuple of one or more runs: `build(options, runs)`. One that can be animated says so by ``animated = True`` there.

    Args:
        title: one line above the table.
        columns: the table's column heads.
        rows: the table, one sequence of cells per row: str, int, float, bool or None.
        further: more tables below it.
        notes: sentences below the tables, the verdict first.
        data: the same in full precision, for ``--json``: dicts, lists, str, int, float, bool, None.
        draw: returns the figure; called only if a figure is asked for. None if the analysis has none.
        animate: returns an animation of matplotlib's and its frames per second; called only if a GIF or an MP4 is asked
            for. None if the analysis has none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bool | None]]
    further: Sequence[Table] = ()
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = attrs.field(factory=dict)
    draw: Callable[[], Figure] | None = None
    animate: Callable[[], tuple[Animation, int]] | None = None
