"""Checks for plugin authors: each is one line of a plugin's test and raises `PluginError` where a contract breaks.

They are the checks that are made before every run (`elboverse.components`) and what would take too long there. A
component is given by its registered name, as the `Component` record itself, or built; options follow as keywords,
with values as a config has them.

Example:
    >>> from elboverse.testing import check_model, check_schedule
    >>> check_model("vae-1", data_shape=(5,), latent_dim=3).latent_dim
    3
    >>> check_schedule("linear", fraction=0.5)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elboverse.faces import found_in

if TYPE_CHECKING:
    from elboverse.testing.analysis import check_analysis
    from elboverse.testing.constraint import check_constraint
    from elboverse.testing.dataset import check_dataset
    from elboverse.testing.latent import check_posterior, check_prior
    from elboverse.testing.launcher import check_launcher
    from elboverse.testing.likelihood import check_likelihood
    from elboverse.testing.model import ModelReport, check_model
    from elboverse.testing.network import check_network
    from elboverse.testing.optimiser import check_optimiser
    from elboverse.testing.regulariser import check_regulariser
    from elboverse.testing.round_trip import Checked, check_plugin
    from elboverse.testing.schedule import check_schedule
    from elboverse.testing.sink import check_sink

__all__ = [
    "Checked",
    "ModelReport",
    "check_analysis",
    "check_constraint",
    "check_dataset",
    "check_launcher",
    "check_likelihood",
    "check_model",
    "check_network",
    "check_optimiser",
    "check_plugin",
    "check_posterior",
    "check_prior",
    "check_regulariser",
    "check_schedule",
    "check_sink",
]

# At first use, so that the process of a launcher's job, which does nothing but wait, need not import torch.
_HOMES = {
    "Checked": "elboverse.testing.round_trip",
    "ModelReport": "elboverse.testing.model",
    "check_analysis": "elboverse.testing.analysis",
    "check_constraint": "elboverse.testing.constraint",
    "check_dataset": "elboverse.testing.dataset",
    "check_launcher": "elboverse.testing.launcher",
    "check_likelihood": "elboverse.testing.likelihood",
    "check_model": "elboverse.testing.model",
    "check_network": "elboverse.testing.network",
    "check_optimiser": "elboverse.testing.optimiser",
    "check_plugin": "elboverse.testing.round_trip",
    "check_posterior": "elboverse.testing.latent",
    "check_prior": "elboverse.testing.latent",
    "check_regulariser": "elboverse.testing.regulariser",
    "check_schedule": "elboverse.testing.schedule",
    "check_sink": "elboverse.testing.sink",
}


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
