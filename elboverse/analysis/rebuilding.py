"""What a trained model is rebuilt from: the documents of a run, its data read again, the arrays of its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elboverse.components import conformance
from elboverse.components.registry import Selection
from elboverse.config import ExperimentConfig
from elboverse.contracts import Data, Scaling
from elboverse.errors import AnalysisError
from elboverse.runfile import Run
from elboverse.training.evaluation import MOST_TRAINING_POINTS
from elboverse.training.streaming import Timetable

__all__ = [
    "at_the_checkpoint",
    "build_model",
    "checked_data",
    "load_parameters",
    "put_parameters",
    "scaling_of",
    "shape_of",
]

Array = npt.NDArray[Any]


def scaling_of(data: Mapping[str, Any], where: str) -> Scaling:
    """Return the scaling that a run keeps."""
    stored: Any = data.get("scaling")
    try:
        offset, scale = (torch.tensor(stored[key], dtype=torch.float64) for key in ("offset", "scale"))
        return Scaling(str(stored["kind"]), offset, scale)
    except (TypeError, KeyError, ValueError) as error:
        raise AnalysisError(f"{where}: the run keeps no scaling of its data") from error


def shape_of(data: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Return the shape of a point that a run keeps."""
    shape = data.get("shape")
    if not (isinstance(shape, list) and shape and all(isinstance(length, int) and length > 0 for length in shape)):
        raise AnalysisError(f"{where}: the run keeps no shape of its points")
    return tuple(shape)


def checked_data(run: Run, config: ExperimentConfig, replica: int) -> Data:
    """Return the data of a replica; the fingerprint that the run keeps is that of its first one."""
    expected = run.data.get("fingerprint")
    if not isinstance(expected, str):
        raise AnalysisError(f"{run.path}: the run keeps no fingerprint of its data, so they cannot be checked")
    who = f"dataset {config.dataset.name!r}"
    data = conformance.require_data(config.dataset.build(config.seed), who)
    if data.fingerprint != expected:
        raise AnalysisError(
            f"{run.path}: the {who} gives other data than when the run began (fingerprint {data.fingerprint}, not "
            f"{expected}), so the trained model cannot be analysed on them; give the first data with --data"
        )
    return data if replica == 0 else conformance.require_data(config.dataset.build(config.seed + replica), who)


def at_the_checkpoint(data: Data, run: Run, config: ExperimentConfig) -> Data:
    """Return data as they are; of a stream, what it shows around the checkpoint."""
    if data.stream is None:
        return data
    timetable = Timetable(data.stream, config.training.batch_size or min(1024, data.stream.points_per_pass))
    first, count = timetable.latest(run.checkpoint_step, MOST_TRAINING_POINTS)
    held_out = data.stream.held_out(timetable.reached(run.checkpoint_step))
    return attrs.evolve(data, train=data.stream.points(first, count), held_out=held_out)


def build_model(selection: Selection, shape: tuple[int, ...], conditions: int = 0) -> nn.Module:
    """Return a model with weights that are still to be replaced; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = selection.build_given(conditions, shape)
    look = torch.full((2, math.prod(shape) + conditions), 0.5, dtype=torch.get_default_dtype())
    conformance.require_model(model, look, f"model {selection.name!r}")
    return model


def load_parameters(model: nn.Module, run: Run, replica: int) -> None:
    """Put the parameters of a replica into a model, from the checkpoint of its run."""
    put_parameters(model, run.checkpoint("model"), run.replicas, replica, str(run.path))


def put_parameters(model: nn.Module, stored: Mapping[str, Array], replicas: int, replica: int, where: str) -> None:
    """Put the parameters of a replica into a model."""
    tensors = model.state_dict(keep_vars=True)
    expected = {name: (replicas, *tensor.shape) for name, tensor in tensors.items()}
    found = {name: values.shape for name, values in stored.items()}
    if found != expected:
        names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        raise AnalysisError(
            f"{where}: the checkpoint does not hold this model's parameters: {names[0]} has the shape "
            f"{found.get(names[0], 'of nothing')}; expected {expected.get(names[0], 'that it is not there')}"
        )
    for name, tensor in tensors.items():
        values = stored[name][replica]
        if not math.isfinite(float(np.abs(values).sum(dtype=np.float64))):
            raise AnalysisError(f"{where}: the parameter {name} of the checkpoint is not finite")
        with torch.no_grad():
            tensor.copy_(torch.tensor(values))
