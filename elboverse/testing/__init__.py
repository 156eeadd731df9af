"""Checks for plugin authors: each is one line of a plugin's test and raises `PluginError` where a contract breaks.

They are the checks that are made before every run (`elboverse.components.conformance`) and what would take too long
there. A component is given by its registered name, as the `Component` record itself, or built; options follow as
keywords, with values as a config has them. A network is checked by checking a model that uses it.

Example:
    >>> check_model("vae-1", data_shape=(5,), latent_dim=3).latent_dim
    3
    >>> check_schedule("linear", fraction=0.5)
"""

from elboverse.testing.constraint import check_constraint
from elboverse.testing.dataset import check_dataset
from elboverse.testing.model import ModelReport, check_model
from elboverse.testing.schedule import check_schedule

__all__ = ["ModelReport", "check_constraint", "check_dataset", "check_model", "check_schedule"]
