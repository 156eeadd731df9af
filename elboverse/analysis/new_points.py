"""Points in a file that a trained model is to be used on: read as the file of its run was, all in their order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elboverse.analysis.trained import TrainedModel
from elboverse.components.registry import discover
from elboverse.config import from_table, to_table
from elboverse.data.conditions import encoded, recoded
from elboverse.data.points import Points
from elboverse.running.given_data import with_data

__all__ = ["read_points"]


def read_points(model: TrainedModel, path: Path) -> tuple[Points, dict[str, npt.NDArray[Any]]]:
    """Return the points of a file, checked against the model, and what else goes into a table of them.

    The dataset of the run reads it, with its own options, from the other place; nothing is held out and nothing scaled.

    Raises:
        AnalysisError: the dataset of the run is not read from a place.
        DataError: the file cannot be read, or does not fit the model.
    """
    table = to_table(model.config)
    registry, found = with_data(discover(), table, path)
    options = {**found["dataset"]}
    options |= {key: value for key, value in (("held_out", 0.0), ("scaling", "none")) if key in options}
    data = from_table({**found, "dataset": options, "sinks": []}, registry).dataset.build(model.config.seed)
    values = np.concatenate(
        [data.scaling.undo(data.scaled(part).double()).numpy() for part in (data.train, data.held_out)]
    )
    beside = None
    if model.conditions:
        written = {} if data.conditions is None else recoded(data.conditions.numpy(), data.condition_columns)
        beside = encoded(written, model.conditions, str(path), len(values))
    if data.order is not None:
        placed = np.argsort(data.order, kind="stable")
        values, beside = values[placed], None if beside is None else beside[placed]
    shape = data.shape if math.prod(data.shape) == values.shape[1] else (values.shape[1],)
    points = Points(values=values.reshape(-1, *shape), names=data.names, conditions=beside)
    return model.fitting(points, str(path)), {}
