"""The configuration of a run: a typed tree, read from TOML with overrides, and written back."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli_w

from elboverse.components.hookspecs import selects
from elboverse.components.local import REFUSED_VARIABLE, file_digest, files_of_config
from elboverse.components.registry import Registry, Selection, discover
from elboverse.config.fitting import component_conflicts, scaling_misfits, with_scaling
from elboverse.config.places import anchored
from elboverse.config.structuring import build_converter, in_range, structure, unstructure
from elboverse.config.tables import (
    SWEEP,
    advising,
    apply_override,
    find_config,
    read_table,
)
from elboverse.errors import ConfigError, Fault, UnknownKey
from elboverse.renamed import RENAMED

__all__ = [
    "ExperimentConfig",
    "TrainingConfig",
    "from_table",
    "load",
    "to_table",
    "to_toml",
    "with_plugins_of",
]


MOST_EPOCHS = 10_000_000
MOST_SAMPLES = 100_000
MOST_REPLICAS = 10_000
MOST_FRAMES = 10_000
MOST_THREADS = 1024
"""Far beyond any experiment: a number above was a slip, and would take all memory."""


def _is_count_or_auto(_instance: Any, _attribute: Any, value: int | str) -> None:
    if not isinstance(value, str) and not 1 <= value <= MOST_THREADS:
        raise ValueError(f'got {value}; expected "auto" or 1 to {MOST_THREADS}')


@attrs.frozen(kw_only=True)
class TrainingConfig:
    """How a model is trained, whatever it is.

    Args:
        epochs: passes over the training points.
        batch_size: B, points per step, min(1024, N) by default; those left over at the end of an epoch are skipped.
        learning_rate: the optimiser's, for all parameters but the variances.
        variance_learning_rate: the optimiser's, for the variance parameters.
        clip_norm: the norm that a replica's gradient is scaled down to where it is larger; by default it is not.
        variances: ``"learned"`` by gradient, or ``"optimal"``: set to their closed form in each step.
        objective: ``"elbo"``, or ``"importance-weighted"``, the bound ln mean_k p(x, z_k)/q(z_k|x) of K samples.
        free_bits: nats that each latent's KL counts as at least; 0 for none.
        samples: K, Monte-Carlo samples per point; ignored by a model whose ELBO needs none.
        samples_at_once: how many of the K samples go through the decoder together; by default as many as fit the cache.
        replicas: R, copies trained side by side with seeds s … s+R−1.
        replica_group: how many replicas share one vectorised step; by default measured before the first step.
        evaluate_every: epochs between two evaluations, rounded to whole steps; there is one before and after all steps.
        until: ``"epochs"``, or ``"stationary"``: until the training certificate holds (see `training.stopping`).
        max_epochs: epochs that ``until = "stationary"`` may take at most; by default ten times `epochs`.
        tolerance: the relative mismatch of a variance that counts as stationary.
        polish_steps: iterations of the polish at most.
        record_every: steps between two recorded rows.
        frames: frames of an animation that are recorded, for `elboverse analyze animate`.
        save_every_seconds: time between two saves at least; longer where they would take over 2 % of the time.
        compile: ``"off"``, or the mode in which `torch.compile` compiles encoder and decoder: ``"default"``, or
            ``"reduce-overhead"``, which replays CUDA graphs. On two processor cores it was slower than ``"off"``.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        dtype: ``"float32"`` or ``"float64"``.
        threads: processor threads; ``"auto"`` is one, unless more are found to pay, and is kept when resumed.
    """

    epochs: int = attrs.field(default=150, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    batch_size: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    learning_rate: float = attrs.field(default=1e-3, validator=in_range(above=0))
    variance_learning_rate: float = attrs.field(default=1e-3, validator=in_range(above=0))
    clip_norm: float | None = attrs.field(default=None, validator=in_range(above=0))
    variances: Literal["learned", "optimal"] = "learned"
    objective: Literal["elbo", "importance-weighted"] = "elbo"
    free_bits: float = attrs.field(default=0.0, validator=in_range(minimum=0))
    samples: int = attrs.field(default=1, validator=in_range(minimum=1, maximum=MOST_SAMPLES))
    samples_at_once: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    replicas: int = attrs.field(default=1, validator=in_range(minimum=1, maximum=MOST_REPLICAS))
    replica_group: int | None = attrs.field(default=None, validator=in_range(minimum=1))
    evaluate_every: float = attrs.field(default=10.0, validator=in_range(above=0))
    until: Literal["epochs", "stationary"] = "epochs"
    max_epochs: int | None = attrs.field(default=None, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    tolerance: float = attrs.field(default=0.02, validator=in_range(above=0, maximum=1))
    polish_steps: int = attrs.field(default=1000, validator=in_range(minimum=1, maximum=MOST_EPOCHS))
    record_every: int = attrs.field(default=1, validator=in_range(minimum=1))
    frames: int = attrs.field(default=0, validator=in_range(minimum=0, maximum=MOST_FRAMES))
    save_every_seconds: float = attrs.field(default=10.0, validator=in_range(minimum=0))
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: int | Literal["auto"] = attrs.field(default="auto", validator=_is_count_or_auto)


def _is_folder_name(_instance: Any, _attribute: Any, value: str) -> None:
    if not re.fullmatch(r"\w[\w .-]{0,99}", value):
        raise ValueError(
            f"got {value!r}; expected at most 100 letters, digits, spaces and ._-, the first a letter or digit"
        )


@attrs.frozen(kw_only=True)
class ExperimentConfig:
    """One run: which components, with which options, trained how.

    Args:
        name: what the run is called; its folder is named after it, so it may hold letters, digits, spaces and ``._-``.
        seed: data, split, initial weights, batch order and noise all derive from it.
        model: the VAE type.
        dataset: the data.
        constraint: a constraint on the decoder's first linear weight, for models that have one.
        regulariser: terms that are added to the loss and recorded, of a component, or of several in a list; None for
            none.
        annealing: the schedule of the KL weight β.
        optimiser: how parameters follow from gradients.
        learning_rate_schedule: what learning rates are multiplied by.
        sinks: what follows the run while it is trained, beside the run file; an empty list for nothing.
        training: optimisation and recording.
        plugins: Python files in the config's own folder that are plugins without packaging.
    """

    name: str = attrs.field(default="run", validator=_is_folder_name)
    seed: int = attrs.field(default=0, validator=in_range(minimum=0))
    model: Selection = selects("model", default="vae-1")
    dataset: Selection = selects("dataset")
    constraint: Selection | None = selects("constraint")
    regulariser: Selection | tuple[Selection, ...] | None = selects("regulariser", several=True)
    annealing: Selection = selects("annealing", default="constant")
    optimiser: Selection = selects("optimiser", default="adam")
    learning_rate_schedule: Selection = selects("annealing", default="constant")
    sinks: tuple[Selection, ...] = selects("sink", default="tensorboard", several=True)
    training: TrainingConfig = attrs.field(factory=TrainingConfig)
    plugins: tuple[str, ...] = ()

    @property
    def regularisers(self) -> tuple[Selection, ...]:
        """The regularisers, however many."""
        chosen = self.regulariser
        return () if chosen is None else (chosen,) if isinstance(chosen, Selection) else chosen


def load(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    registry: Registry | None = None,
) -> ExperimentConfig:
    """Return the config that `source` names, with `overrides` applied and every component resolved.

    Args:
        source: a TOML file, the name of a shipped config (``"circle"``), a table, or None for the default one.
        overrides: ``"key.path=value"`` strings, the value in TOML; what is not TOML value is taken as a string.
        registry: the components; those of all installed plugins by default.

    Raises:
        ConfigError: with every fault found.
    """
    given = dict(source) if isinstance(source, Mapping) else read_table(source)
    table = dict(given)
    for override in overrides:
        apply_override(table, override)
    if table.get("plugins"):
        folder = None if source is None or isinstance(source, Mapping) else find_config(source).parent
        if folder is not None or registry is None:
            registry = with_plugins_of(table, folder, registry)
    table = anchored(table, Path.cwd())
    with advising(given, table):
        return from_table(table, registry)


def with_plugins_of(table: Mapping[str, Any], folder: Path | None, registry: Registry | None = None) -> Registry:
    """Return the components with those of the files that a config names, each announced before it is loaded.

    Args:
        table: the raw config.
        folder: of the config; its ``plugins`` are taken from there alone.
        registry: the components otherwise; those of all installed plugins by default.

    Raises:
        ConfigError: a file is not in that folder, or ``ELBOVERSE_NO_LOCAL_PLUGINS`` is set.
        PluginError: a file cannot be loaded.
    """
    registry = discover() if registry is None else registry
    files = files_of_config(table.get("plugins", []), folder)
    if files and os.environ.get(REFUSED_VARIABLE, "").strip() not in {"", "0", "false"}:
        raise ConfigError(f"plugins: got {table['plugins']!r}; local plugins are refused ({REFUSED_VARIABLE} is set)")
    for file in files:
        sys.stderr.write(f"Loading plugin {file} (sha256 {file_digest(file)})\n")
    return registry.joined(files)


def from_table(table: Mapping[str, Any], registry: Registry | None = None) -> ExperimentConfig:
    """Return a raw table as a config with every component resolved.

    Raises:
        ConfigError: with every fault found, those of components that do not fit together included.
    """
    if SWEEP in table:
        raise ConfigError(
            f"{SWEEP}: the config describes several runs, where one is expected; train them with `elboverse train` or "
            "elboverse.train_sweep"
        )
    registry = discover() if registry is None else registry
    table = with_scaling(table, registry)
    try:
        config: ExperimentConfig = structure(build_converter(registry), table, ExperimentConfig)
    except ConfigError as error:
        raise ConfigError(map(_with_present_name, error.faults)) from None
    faults = [*component_conflicts(config), *scaling_misfits(config.model.options, config.dataset.options)]
    if faults:
        raise ConfigError(faults)
    return config


def _with_present_name(fault: Fault) -> Fault:
    """Return a fault as it is, unless the key that nothing reads is one that has another name now."""
    *place, key = fault.path or ("",)
    present = RENAMED.get(".".join(place), {}).get(key) if isinstance(fault, UnknownKey) else None
    if present is None:
        return fault
    return Fault(fault.path, given="the former name of this key", expected=".".join((*place, present)))


def to_table(config: ExperimentConfig) -> dict[str, Any]:
    """Return the resolved config as plain dicts, lists and scalars; `from_table` reads it back."""
    table: dict[str, Any] = unstructure(config)
    return table


def to_toml(config: ExperimentConfig) -> str:
    """Return the resolved config as TOML."""
    return tomli_w.dumps(to_table(config))
