"""The check of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elboverse.components.hookspecs import Component
from elboverse.testing.component import selection
from elboverse.testing.model import ModelReport, check_model

__all__ = ["check_network"]


def check_network(
    network: str | Component, *, data_shape: Sequence[int], latent_dim: int = 2, **options: Any
) -> ModelReport:
    """Check a network through ``vae-1``, which takes any, and return what `check_model` found.

    Args:
        network: its name, or its `Component`.
        data_shape: shape of one point, such as ``(5,)`` or ``(28, 28)``.
        latent_dim: H.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a network of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("network", network, options)
    return check_model("vae-1", data_shape=data_shape, latent_dim=latent_dim, network=chosen)
