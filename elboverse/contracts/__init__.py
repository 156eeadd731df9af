"""What components give and get: a model, network, dataset, weight constraint, annealing schedule and analysis.

The engine uses components through these protocols alone: built-in components have no other door. A class need not
inherit from them; having the methods is enough. `elboverse.testing` checks a component against its contract.
Axes: N data, B batch, K samples, D observed, H latent, R replicas, T recorded steps; a point is a vector of D numbers,
also where it is an image. Tensors appear in annotations only, so that nothing here imports torch.
"""

from __future__ import annotations

from elboverse.contracts.analysis import Result, Table
from elboverse.contracts.annealing import AnnealingSchedule
from elboverse.contracts.constraint import Penalty, Projection
from elboverse.contracts.data import Condition, Data, Fetchable, FromFiles, Regime, Scaling, Stream, is_image
from elboverse.contracts.launcher import Job, Launcher, Outcome, Perform, Progress
from elboverse.contracts.likelihood import Likelihood, Support
from elboverse.contracts.network import Network
from elboverse.contracts.posterior import Encoder, Posterior
from elboverse.contracts.prior import Prior, PriorModule
from elboverse.contracts.regulariser import Regulariser
from elboverse.theory.model import Conditional, Constrainable, Model, OwnObjective, SamplingFree, VarianceParameters

__all__ = [
    "AnnealingSchedule",
    "Condition",
    "Conditional",
    "Constrainable",
    "Data",
    "Encoder",
    "Fetchable",
    "FromFiles",
    "Job",
    "Launcher",
    "Likelihood",
    "Model",
    "Network",
    "Outcome",
    "OwnObjective",
    "Penalty",
    "Perform",
    "Posterior",
    "Prior",
    "PriorModule",
    "Progress",
    "Projection",
    "Regime",
    "Regulariser",
    "Result",
    "SamplingFree",
    "Scaling",
    "Stream",
    "Support",
    "Table",
    "VarianceParameters",
    "is_image",
]
