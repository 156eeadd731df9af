"""Whether a recorded run is of a linear VAE, so that the closed forms of `theory.linear_optimum` apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elboverse.analysis.reading import at
from elboverse.components.registry import normalised

__all__ = ["is_linear"]


def is_linear(config: Mapping[str, Any]) -> bool:
    """Return whether a run's model is linear with one decoder variance and no constraint moves its optimum."""
    model, network = at(config, "model", "name"), at(config, "model", "network")
    constraint = at(config, "constraint", "name")
    name = normalised(model) if isinstance(model, str) else ""
    if name == "linearvae":
        return constraint is None
    is_affine = at(network, "name") == "affine" and at(network, "output_activation") in (None, "identity")
    return is_affine and (
        (name in {"vae0", "vae1"} and constraint is None) or (name == "vae2" and constraint == "rescale")
    )
