"""``run.evaluate()``: what the trained model of a run is worth on its held-out points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from elboverse.analysis.trained import TrainedModel
from elboverse.errors import AnalysisError
from elboverse.integrations.assessing import assess
from elboverse.integrations.judging import KeptReport, Report
from elboverse.integrations.points import Callables
from elboverse.runfile import Run

__all__ = ["evaluate_run"]

MOST_POINTS: Final = 10_000


def evaluate_run(
    run: Run,
    replica: int = 0,
    *,
    points: int = 1000,
    samples: int = 1000,
    seed: int = 0,
    gaps: bool = False,
    dequantised: bool = False,
    data: Any = None,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _stage: None,
) -> Report | KeptReport:
    """Return what a run's trained model is worth; of a model that was judged, what was said then.

    Args:
        run: of `elboverse train`, or saved by `judge`.
        replica: which replica.
        points: of how many held-out points, and of how many simulated ones, the bounds are taken.
        samples: k of the largest bound.
        seed: of all draws.
        gaps: split the gap of 128 points into that of the family of q and that of the encoder.
        dequantised: whether the points are integers with uniform noise added.
        data: the data that the run was trained on, where they have moved.
        device: where it computes.
        progress: told what is being done.

    Raises:
        AnalysisError: the model is not in the file, or it is conditional.
    """
    name = str(run.config.get("name") or run.path.parent.name)
    kept = run.documents.get("judgement")
    if isinstance(kept, dict) and "tables" in kept:
        return KeptReport(kept, name)
    if run.config.get("model", {}).get("name") == "recorded":
        raise AnalysisError(
            f"{run.path}: recorded from a loop of your own, so its model is not in the file; "
            "use elboverse judge my_models.py:model --data held_out.npy"
        )
    trained = TrainedModel.of(run, replica, data=data, device=device)
    if trained.conditions:
        raise AnalysisError(
            f"{run.path}: got a conditional model, which evaluate does not take; `elboverse score --out scores.csv "
            f"--importance-samples 1000 {run.path}` bounds ln p(x|c) of each point"
        )
    split = "held_out" if trained.count("held_out") else "train"
    x = torch.from_numpy(trained.points(split))[:MOST_POINTS].to(device)
    model: Any = trained.model
    found = assess(
        Callables(model.encode, model.decode, model.prior),
        x,
        points=points,
        samples=samples,
        seed=seed,
        gaps=gaps,
        log_volume=trained.scaling.log_volume(),
        dequantised=dequantised,
        points_are="held-out" if split == "held_out" else "training",
        progress=progress,
    )
    return Report(found, name)
