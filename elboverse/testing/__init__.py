"""Checks for plugin authors: each is one line of a plugin's test and raises `PluginError` where a contract breaks.

They are the checks that are made before every run (`elboverse.components`) and what would take too long there. A
component is given by its registered name, as the `Component` record itself, or built; options follow as keywords,
with values as a config has them.

Example:
    >>> check_model("vae-1", data_shape=(5,), latent_dim=3).latent_dim
    3
    >>> check_schedule("linear", fraction=0.5)
"""

from elboverse.testing.analysis import check_analysis
from elboverse.testing.constraint import check_constraint
from elboverse.testing.dataset import check_dataset
from elboverse.testing.model import ModelReport, check_model
from elboverse.testing.network import check_network
from elboverse.testing.round_trip import Checked, check_plugin
from elboverse.testing.schedule import check_schedule

__all__ = [
    "Checked",
    "ModelReport",
    "check_analysis",
    "check_constraint",
    "check_dataset",
    "check_model",
    "check_network",
    "check_plugin",
    "check_schedule",
]
