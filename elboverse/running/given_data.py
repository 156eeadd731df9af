"""Data that are given beside a config: in memory, or at another place than the config says.

The config of a run in memory selects the dataset ``in-memory``, which holds its options alone; the points come with
the call, and whatever needs them later is given them again. That they are the same is shown by their fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
import torch

from elboverse.components.hookspecs import Component
from elboverse.components.registry import Registry, discover, normalised
from elboverse.config import PLACES, ExperimentConfig, from_table, load
from elboverse.contracts import Data
from elboverse.data import prepare
from elboverse.data.points import apart, is_points, points_of
from elboverse.errors import AnalysisError, DataError

__all__ = ["IN_MEMORY", "default_table", "resolved", "with_data"]

IN_MEMORY: Final = "in-memory"

_STEPS: Final = 3000
"""How many updates points without a config are trained for, about."""


def with_data(registry: Registry, table: Mapping[str, Any], data: Any) -> tuple[Registry, dict[str, Any]]:
    """Return the components and the config of a run with its data taken from elsewhere.

    Args:
        registry: the components.
        table: the config of a run.
        data: points in memory, a path, or None to leave all as it is.

    Raises:
        AnalysisError: the dataset is not one that is read from a place.
    """
    found = dict(table)
    if data is None:
        return registry, found
    dataset = found.get("dataset")
    options = dict(dataset) if isinstance(dataset, Mapping) else {"name": str(dataset)}
    if is_points(data):
        kept = {key: options[key] for key in ("held_out", "scaling", "seed", "conditions") if key in options}
        found["dataset"] = {"name": IN_MEMORY, **kept}
        return _holding(registry, data), found
    place = str(Path(data).expanduser().absolute())
    if normalised(str(options.get("name", ""))) == normalised(IN_MEMORY):
        found["dataset"] = {**options, "name": "array", "path": place}
        return registry, found
    key = next((key for key in PLACES if key in options), None)
    if key is None:
        raise AnalysisError(f"--data {data}: dataset {options.get('name')!r} is not read from a place; leave it out")
    found["dataset"] = {**options, key: place}
    return registry, found


def resolved(config: Any, registry: Registry | None = None) -> tuple[ExperimentConfig, Any]:
    """Return the config that a caller in Python means, and the points that were given in memory; None if none were.

    Args:
        config: a config, a table, a TOML file, a name, None, or points; a table's ``dataset`` may be points, or a table
            of the options of ``in-memory`` with the points as ``data``.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: the config cannot be used.
        DataError: the points are none.
    """
    if isinstance(config, ExperimentConfig):
        return config, None
    if is_points(config):
        points = points_of(config)
        return resolved(
            {**default_table(len(points), points.flat.shape[1]), "name": "data", "dataset": points}, registry
        )
    if not isinstance(config, Mapping):
        if config is not None and not isinstance(config, str | Path):
            raise DataError(
                f"got {type(config).__name__}; expected a config, a path, a name, or points such as an array or a table"
            )
        return load(config, registry=registry), None
    table = dict(config)
    dataset = table.get("dataset")
    options: dict[str, Any] = {}
    if isinstance(dataset, Mapping) and not is_points(dataset) and is_points(dataset.get("data")):
        options = {key: value for key, value in dataset.items() if key not in {"data", "name"}}
        dataset = dataset["data"]
    if not is_points(dataset):
        return load(table, registry=registry), None
    points, _ = apart(dataset, tuple(options.get("conditions", ())), "the data in memory")
    table["dataset"] = {"name": IN_MEMORY, **options}
    training = dict(table.get("training", {}))
    count = int(len(points) * (1 - options.get("held_out", 0.2)))
    training.setdefault("batch_size", max(1, min(1024, count)))
    table["training"] = training
    return from_table(table, _holding(discover() if registry is None else registry, dataset)), dataset


def default_table(points: int, dimension: int) -> dict[str, Any]:
    """Return a config, without its dataset, that is sensible for so many points of so many dimensions.

    A VAE-1 with as many latents as half the dimensions, 2 to 10; about 3,000 updates.

    Args:
        points: how many, held-out ones included.
        dimension: D.
    """
    batch = max(1, min(1024, points * 4 // 5))
    steps_per_epoch = max(1, points * 4 // 5 // batch)
    return {
        "model": {
            "name": "vae-1",
            "latent_dim": max(1, min(10, max(2, dimension // 2), dimension)),
            "network": {"name": "mlp", "hidden": [128, 64]},
        },
        "training": {"epochs": max(10, -(-_STEPS // steps_per_epoch)), "batch_size": batch, "evaluate_every": 50},
    }


def _holding(registry: Registry, data: Any) -> Registry:
    """Return the registry with points in what the dataset ``in-memory`` builds."""

    def build(options: Any, seed: int) -> Data:
        points, beside = apart(data, options.conditions, "the data in memory")
        flat = points.flat
        if flat.dtype.kind != "f" or flat.dtype.itemsize not in {4, 8}:
            flat = flat.astype("float64")
        return prepare(
            torch.from_numpy(flat.astype(flat.dtype.newbyteorder("="), copy=True)),
            seed=seed if options.seed is None else options.seed,
            held_out=options.held_out,
            scaling=options.scaling,
            shape=points.values.shape[1:] or (1,),
            names=points.names,
            conditions=beside or None,
            what="the data in memory",
        )

    name = normalised(IN_MEMORY)
    registered = registry.components["dataset"][name]
    component = Component(
        name=IN_MEMORY, config=registered.component.config, build=build, summary=registered.component.summary
    )
    datasets = {**registry.components["dataset"], name: attrs.evolve(registered, component=component)}
    components = {**registry.components, "dataset": MappingProxyType(datasets)}
    return attrs.evolve(registry, components=MappingProxyType(components))
