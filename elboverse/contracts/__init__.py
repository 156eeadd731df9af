"""What components give and get: a model, network, dataset, weight constraint, annealing schedule and analysis.

The engine uses components through these protocols alone: built-in components have no other door. A class need not
inherit from them; having the methods is enough. `elboverse.testing` checks a component against its contract.
Axes: N data, B batch, K samples, D observed, H latent, R replicas, T recorded steps; a point is a vector of D numbers,
also where it is an image. Tensors appear in annotations only, so that nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from elboverse.contracts.sink import Ending, RunDescription, Sink
from elboverse.faces import found_in
from elboverse.theory.model import Conditional, Constrainable, Model, OwnObjective, SamplingFree, VarianceParameters

if TYPE_CHECKING:
    from elboverse.contracts.records import Evaluation, Frame, Pictures, Record, Rows

__all__ = [
    "AnnealingSchedule",
    "Condition",
    "Conditional",
    "Constrainable",
    "Data",
    "Encoder",
    "Ending",
    "Evaluation",
    "Fetchable",
    "Frame",
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
    "Pictures",
    "Posterior",
    "Prior",
    "PriorModule",
    "Progress",
    "Projection",
    "Record",
    "Regime",
    "Regulariser",
    "Result",
    "Rows",
    "RunDescription",
    "SamplingFree",
    "Scaling",
    "Sink",
    "Stream",
    "Support",
    "Table",
    "VarianceParameters",
    "is_image",
]

# What is made of arrays, at first use: nothing else here imports NumPy.
_HOMES = dict.fromkeys(("Evaluation", "Frame", "Pictures", "Record", "Rows"), "elboverse.contracts.records")


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
