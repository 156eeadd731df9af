"""The trained model of a run, rebuilt from its run file: to encode, decode, reconstruct, sample and score with.

What it needs for points that are new to it (parameters, scaling, names of columns) is in the run file; the data that
it was trained on are read again when they are asked for. Arrays or DataFrames go in and come out, in data units.
Analyses look at it in scaled units: `points`, `posterior_moments`, `decoder_moments`, `statistics`, `gradients`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elboverse.analysis.point_statistics import PointStatistics
from elboverse.analysis.rebuilding import (
    at_the_checkpoint,
    build_model,
    checked_data,
    load_parameters,
    put_parameters,
    scaling_of,
    shape_of,
)
from elboverse.analysis.scaled_model import POINTS_AT_ONCE, ScaledModel, to_numpy
from elboverse.analysis.scores import anomalies, importance_weighted
from elboverse.components.registry import Registry, discover
from elboverse.config import from_table
from elboverse.contracts import Condition, Data, Model, Scaling
from elboverse.data.conditions import columns_of, conditions_of, encoded
from elboverse.data.points import Points, apart, is_points, points_of
from elboverse.errors import AnalysisError, DataError, ElboverseError, RunFileError
from elboverse.runfile import Run
from elboverse.running.given_data import with_data
from elboverse.seeding import generator

__all__ = ["PointStatistics", "TrainedModel", "load"]

Array = npt.NDArray[Any]


def load(run: Any, replica: int = 0, *, data: Any = None, device: str = "cpu") -> TrainedModel:
    """Return the trained model of a run: to encode, reconstruct, sample and score with.

    Args:
        run: a run, or the path of its folder or ``run.h5``.
        replica: which replica.
        data: the data that it was trained on, where they were given in memory or have moved.
        device: where it computes.

    Raises:
        RunFileError: no such run exists.
        AnalysisError: the model cannot be rebuilt.

    Example:
        >>> import elboverse
        >>> config = {"dataset": {"name": "circle", "points": 200}, "training": {"epochs": 2, "batch_size": 50}}
        >>> elboverse.train(config, out="runs/loaded").close()
        >>> model = elboverse.load("runs/loaded")
        >>> model.encode([[0.0, 1.0], [1.0, 0.0]]).shape, model.sample(100, seed=0).shape
        ((2, 2), (100, 2))
    """
    if isinstance(run, Run):
        return TrainedModel.of(run, replica, data=data, device=device)
    if isinstance(run, str | os.PathLike) and os.fspath(run).endswith(".toml"):
        raise RunFileError(f"{run}: a config, not a run; elboverse.load_config reads configs")
    with Run.open(run) as opened:
        return TrainedModel.of(opened, replica, data=data, device=device)


@attrs.define(eq=False, kw_only=True)
class TrainedModel(ScaledModel):
    """One replica of a run as its checkpoint holds it.

    Made by `elboverse.load(RUN)`, `Run.model()` or `TrainedModel.of`.

    Args:
        given: the data that it was trained on as they were given in memory; None if they were not.
    """

    given: Points | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        replica: int = 0,
        registry: Registry | None = None,
        *,
        data: Any = None,
        device: str = "cpu",
    ) -> Self:
        """Return a replica of a run as it was when the run file was saved last.

        Args:
            run: the run.
            replica: its number, counted from 0.
            registry: the components; those of all installed plugins by default.
            data: the data that it was trained on, in memory or where they are now; only needed if they were given in
                memory or have moved, and only by what looks at them. Their fingerprint is checked.
            device: where it computes, such as ``"cuda"``.

        Raises:
            AnalysisError: no such replica exists, a plugin that the run needs is missing, or the checkpoint does not
                fit the model.
        """
        if not 0 <= replica < run.replicas:
            raise AnalysisError(f"{run.path}: got replica {replica}; expected 0 … {run.replicas - 1}")
        registry = (discover() if registry is None else registry).as_recorded(run.components)
        source = run.data_source if data is None else data
        registry, table = with_data(registry, run.config, source)
        try:
            config = from_table({**table, "sinks": []}, registry)
            scaling, shape = scaling_of(run.data, str(run.path)), shape_of(run.data, str(run.path))
            conditions = conditions_of(run.data.get("conditions"))
            model = build_model(config.model, shape, sum(condition.width for condition in conditions))
        except AnalysisError:
            raise
        except ElboverseError as error:
            raise AnalysisError(f"{run.path}: the trained model cannot be rebuilt from its config: {error}") from error
        dtype = {"float32": torch.float32, "float64": torch.float64}[config.training.dtype]
        model.to(dtype)
        load_parameters(model, run, replica)
        model.eval()
        model.to(device)

        def load_data() -> Data:
            try:
                return at_the_checkpoint(checked_data(run, config, replica), run, config)
            except AnalysisError:
                raise
            except ElboverseError as error:
                raise AnalysisError(f"{run.path}: the data that it was trained on cannot be read: {error}") from error

        return cls(
            config=config,
            model=cast(Model, model),
            scaling=scaling,
            shape=shape,
            names=tuple(str(name) for name in run.data.get("names") or ()),
            unit=str(run.data.get("unit") or ""),
            seed=config.seed + replica,
            dtype=dtype,
            load_data=load_data,
            conditions=conditions,
            device=torch.device(device),
            given=_given_points(source, conditions) if is_points(source) else None,
        )

    @classmethod
    def from_state(cls, table: Mapping[str, Any], data: Mapping[str, Any], state: Mapping[str, Array]) -> Self:
        """Return the model of a config with given parameters, without its data.

        Args:
            table: the config.
            data: what a run file says of the data; see `Run.data`.
            state: the parameters, name → array.

        Raises:
            AnalysisError: the parameters do not fit the model.
        """
        config = from_table({**table, "sinks": []})
        shape = shape_of(data, "the model")
        conditions = conditions_of(data.get("conditions"))
        model = build_model(config.model, shape, sum(condition.width for condition in conditions))
        dtype = torch.float64  # whatever it was trained in, so that rows do not depend on those beside them
        model.to(dtype)
        put_parameters(model, {name: values[None] for name, values in state.items()}, 1, 0, "the model")
        model.eval()

        def no_data() -> Data:
            raise AnalysisError("the model was trained in memory and keeps no data; give the points")

        return cls(
            config=config,
            model=cast(Model, model),
            scaling=scaling_of(data, "the model"),
            shape=shape,
            names=tuple(str(name) for name in data.get("names") or ()),
            unit=str(data.get("unit") or ""),
            seed=config.seed,
            dtype=dtype,
            load_data=no_data,
            conditions=conditions,
        )

    @property
    def latent_names(self) -> tuple[str, ...]:
        """What a table calls the latents, ``z0`` and so on."""
        return tuple(f"z{latent}" for latent in range(self.latent_dim))

    @property
    def column_names(self) -> tuple[str, ...]:
        """What a table calls the dimensions: their names, or ``x0`` and so on."""
        return self.names or tuple(f"x{column}" for column in range(math.prod(self.shape)))

    def encode(self, points: Any = None, *, conditions: Any = None, variances: bool = False) -> Any:
        """Return the mean ν(x) of q(z|x) of each point, shape (N, H).

        Args:
            points: in data units, (N, D) or (N, *shape), or a table that has the columns of the training data; the
                run's own data in their original order by default.
            conditions: of a conditional model: a table or a dict with a value, or one value, for each of its columns;
                by default the columns of `points`.
            variances: return (mean, variance τ²(x)).

        Returns:
            In the container of `points`, the rows in their order and with their index.

        Raises:
            DataError: the points do not fit the model.
        """
        given = self.own_points() if points is None else self.fitting(points, conditions=conditions)
        mean, variance = self.posterior_moments(self.scaled(given))
        labelled = given.labelled(mean, self.latent_names)
        return (labelled, given.labelled(variance, self.latent_names)) if variances else labelled

    def decode(self, latents: Any, *, conditions: Any = None) -> Any:
        """Return the decoder's mean E[x|z] for latents of shape (N, H), in data units, shape (N, *shape).

        Args:
            latents: an array, or a table of H columns.
            conditions: as for `encode`; by default those of random training points.

        Raises:
            DataError: there are not H columns, or they are not finite.
        """
        given = points_of(latents, "the latents")
        if given.flat.shape[1] != self.latent_dim:
            raise DataError(f"the latents: got {given.flat.shape[1]} columns; expected {self.latent_dim}")
        _require_finite(given, "the latents")
        beside = None if conditions is None else self._given(conditions, len(given), "the conditions")
        return self._in_data_units(given, self.decoder_moments(given.flat.astype(np.float64), beside)[0])

    def reconstruct(self, points: Any = None, *, conditions: Any = None) -> Any:
        """Return the decoder's mean at the encoder's mean, E[x|z = ν(x)], of each point, in data units.

        Args:
            points: as for `encode`.
            conditions: as for `encode`.
        """
        given = self.own_points() if points is None else self.fitting(points, conditions=conditions)
        scaled = self.scaled(given)
        mean, _ = self.posterior_moments(scaled)
        return self._in_data_units(given, self.decoder_moments(mean, scaled)[0])

    def sample(self, count: int, *, seed: int = 0, means: bool = False, conditions: Any = None) -> Array:
        """Return points from the model, x ~ p(x|z) with z ~ p(z), in data units, shape (count, *shape).

        Args:
            count: how many.
            seed: the same points for the same seed.
            means: return E[x|z], without the decoder's noise.
            conditions: as for `encode`; by default those of random training points, as are the total counts of a
                likelihood that is given these.

        Raises:
            DataError: the count is negative.
        """
        if not (isinstance(count, int | np.integer) and count >= 0):
            raise DataError(f"count: got {count!r}; expected an integer ≥ 0")
        draws = generator(int(seed), "sample", device=self.device)
        parts, left = [], int(count)
        if conditions is None:
            beside = self.beside(int(count), "sample", int(seed))
        else:
            beside = self._given(conditions, int(count), "the conditions")
        given = None if beside is None else torch.from_numpy(beside).to(self.device, self.dtype)
        with torch.no_grad():
            while left > 0:
                size = min(left, POINTS_AT_ONCE)
                z = self._draw_latents(size, draws)
                first = int(count) - left
                decoder: Any = self._decoded(z, None if given is None else given[first : first + size])
                noise = torch.randn(
                    (size, math.prod(self.shape)), generator=draws, dtype=self.dtype, device=self.device
                )
                parts.append(to_numpy(decoder.mean.expand_as(noise) if means else decoder.sample(noise)))
                left -= size
        scaled = np.concatenate(parts) if parts else np.zeros((0, math.prod(self.shape)))
        return self.unscaled(scaled).reshape(-1, *self.shape)

    def score(
        self,
        points: Any = None,
        *,
        conditions: Any = None,
        importance_samples: int = 0,
        scaled_units: bool = False,
        seed: int = 0,
    ) -> Any:
        """Return the ELBO and its terms of each point in nats.

        The columns: ``elbo``; ``log_likelihood``, E_q ln p(x|z); ``kl``, KL(q(z|x) ‖ p(z)); ``entropy_sum``; and, with
        importance samples, ``importance_weighted``, L_k = ln 1/k Σ p(x|z_i) p(z_i)/q(z_i|x) (Burda et al. 2016), and
        ``effective_samples``, 1/Σ w̃². In data units, the densities are those of the points as given: ln|scale| of all
        dimensions is subtracted from those of the points as the model sees them.

        Args:
            points: as for `encode`.
            conditions: as for `encode`.
            importance_samples: k; 0 for none.
            scaled_units: give the densities of the scaled points, which are those that training reports.
            seed: of the Monte-Carlo samples.

        Returns:
            A dict of arrays, shape (N,), or a table with the index of `points`.
        """
        given = self.own_points() if points is None else self.fitting(points, conditions=conditions)
        scaled = self.scaled(given)
        terms = self.scored(scaled, int(seed))
        shift = 0.0 if scaled_units else self.scaling.log_volume()
        columns = {
            "elbo": terms.elbo - shift,
            "log_likelihood": terms.log_likelihood - shift,
            "kl": np.asarray(terms.kl.sum(1)),
            "entropy_sum": terms.entropy_sum - shift,
        }
        if importance_samples:
            bound, effective = importance_weighted(self, scaled, importance_samples, seed)
            columns |= {"importance_weighted": bound - shift, "effective_samples": effective}
        if given.container == "array":
            return columns
        return given.labelled(np.stack(list(columns.values()), axis=1), tuple(columns))

    def anomalies(self, points: Any = None, count: int = 20) -> Any:
        """Return the points that the model finds least likely, the most surprising first.

        The columns: ``row`` (counted from 0), ``elbo`` in data units, ``deviations`` of the ELBO below the median, in
        units of the robust standard deviation (1.4826 times the median absolute deviation), and the ``column`` that
        carries most of it, with its ``value`` and what the model ``expected``, in data units.

        Args:
            points: as for `encode`.
            count: how many at most.

        Returns:
            A dict of arrays, or a table with the index of `points`.
        """
        given = self.own_points() if points is None else self.fitting(points)
        return anomalies(self, given, self.scaled(given), self.column_names, count)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters by name, as of `torch.nn.Module`."""
        return self.model.state_dict()

    @property
    def module(self) -> nn.Module:
        """The model as a plain `torch.nn.Module`, in scaled units, to go on training with."""
        return cast(nn.Module, self.model)

    def fitting(self, points: Any, what: str = "the points", *, conditions: Any = None) -> Points:
        """Return points that fit the model, in data units: with its columns, as many as it has, finite.

        Args:
            points: as for `encode`.
            what: how messages call them.
            conditions: as for `encode`.

        Raises:
            DataError: they do not fit.
        """
        given = points_of(points, what, self.names if _has_all(points, self.names) else ())
        given = given.select(self.names, what)
        dimension = math.prod(self.shape)
        if len(given) == 0 or given.flat.shape[1] != dimension:
            raise DataError(f"{what}: got {given.values.shape} values; expected points of {dimension:,} dimensions")
        _require_finite(given, what)
        if self.conditions and given.conditions is None:
            found = points if conditions is None else conditions
            given = attrs.evolve(given, conditions=self._encoded_conditions(found, len(given), what))
        return given

    def _encoded_conditions(self, given: Any, count: int, what: str) -> Array:
        """Return the conditions of some points as numbers, shape (count, C)."""
        return encoded(columns_of(given, count, what), self.conditions, what, count)

    def _given(self, conditions: Any, count: int, what: str) -> Array:
        """Return conditions behind points that say nothing else, shape (count, D + C)."""
        if not self.conditions:
            raise DataError(f"{what}: got some; expected none, since the model is not conditional")
        behind = self._encoded_conditions(conditions, count, what)
        return np.concatenate((np.zeros((count, math.prod(self.shape))), behind), axis=1)

    def own_points(self) -> Points:
        """Return the data that the run was trained on, in data units and in their original order where that is known.

        Held-out points come after those of training where it is not known.

        Raises:
            AnalysisError: they cannot be read; see `data`.
        """
        data = self.data
        if self.given is not None:
            return self.given
        parts = [to_numpy(self.scaling.undo(data.scaled(part).double())) for part in (data.train, data.held_out)]
        values = np.concatenate(parts)
        beside = None if data.conditions is None else to_numpy(data.conditions)
        if data.order is not None:
            placed = np.argsort(data.order, kind="stable")
            values, beside = values[placed], None if beside is None else beside[placed]
        return Points(values=values.reshape(-1, *self.shape), names=self.names, conditions=beside)

    def own_splits(self) -> Array:
        """Return of which split each of `own_points` is, ``"train"`` or ``"held_out"``, shape (N,)."""
        splits = np.array(["train"] * self.count("train") + ["held_out"] * self.count("held_out"))
        return splits if self.data.order is None else splits[np.argsort(self.data.order, kind="stable")]

    def scaled(self, points: Points) -> Array:
        """Return points in data units as batches hold them, scaled, conditions behind them, shape (N, D + C)."""
        flat = points.flat
        wide = flat if flat.dtype.kind == "f" else flat.astype(np.float64)
        raw = torch.from_numpy(np.array(wide, dtype=wide.dtype.newbyteorder("="), order="C"))
        scaling = Scaling(self.scaling.kind, self.scaling.offset.to(raw.dtype), self.scaling.scale.to(raw.dtype))
        found = np.asarray(scaling.apply(raw).to(self.dtype).numpy())
        if points.conditions is None:
            return found
        return np.concatenate((found, points.conditions.astype(found.dtype)), axis=1)

    def _in_data_units(self, given: Points, scaled: Array) -> Any:
        values = self.unscaled(scaled)
        if given.container == "array":
            return values.reshape(-1, *self.shape)
        return given.labelled(values, self.column_names)

    def _draw_latents(self, count: int, draws: torch.Generator) -> Tensor:
        noise = torch.randn((count, self.latent_dim), generator=draws, dtype=self.dtype, device=self.device)
        return self.model.prior().sample(noise)


def _given_points(source: Any, conditions: Sequence[Condition]) -> Points:
    """Return the data that a run was trained on as they were given in memory."""
    points, beside = apart(source, [condition.name for condition in conditions])
    return attrs.evolve(points, conditions=encoded(beside, conditions, "the data", len(points)) if conditions else None)


def _has_all(points: Any, names: tuple[str, ...]) -> bool:
    """Return whether a table has all of some columns, and maybe others that hold no numbers."""
    columns = getattr(points, "columns", None)
    return columns is not None and bool(names) and set(names) <= {str(column) for column in columns}


def _require_finite(points: Points, what: str) -> None:
    bad = ~np.isfinite(points.flat)
    if bad.any():
        row, column = (int(part) for part in np.argwhere(bad)[0])
        name = repr(points.names[column]) if points.names else column
        raise DataError(
            f"{what}: {int(bad.sum()):,} values are not finite, the first in row {row} (counted from 0), "
            f"column {name}: {points.flat[row, column]}"
        )
