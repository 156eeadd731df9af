"""The typed config tree, raw TOML and overrides, sweeps, and strict structuring."""

from __future__ import annotations

from elboverse.config.places import PLACES, anchored
from elboverse.config.structuring import (
    Faults,
    build_converter,
    in_range,
    one_of,
    structure,
    structure_selection,
    unstructure,
)
from elboverse.config.tables import (
    DEFAULT,
    EXPECTED_SUFFIX,
    SWEEP,
    advising,
    apply_override,
    apply_sweep,
    apply_sweeps,
    config_folder,
    find_config,
    flattened,
    named_configs,
    read_table,
    replace_value,
)
from elboverse.config.tree import (
    ExperimentConfig,
    TrainingConfig,
    from_table,
    load,
    to_table,
    to_toml,
    with_plugins_of,
)

__all__ = [
    "DEFAULT",
    "EXPECTED_SUFFIX",
    "PLACES",
    "SWEEP",
    "ExperimentConfig",
    "Faults",
    "TrainingConfig",
    "advising",
    "anchored",
    "apply_override",
    "apply_sweep",
    "apply_sweeps",
    "build_converter",
    "config_folder",
    "find_config",
    "flattened",
    "from_table",
    "in_range",
    "load",
    "named_configs",
    "one_of",
    "read_table",
    "replace_value",
    "structure",
    "structure_selection",
    "to_table",
    "to_toml",
    "unstructure",
    "with_plugins_of",
]
