"""What a run maximised beside the ELBO, and what that does to the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from elboverse.analysis.reading import listed
from elboverse.runfile import Run

__all__ = ["objective_notes"]

_NEAR: Final = 1.1
"""How far above free bits a latent's KL still counts as held there: the kink draws it to the floor from both sides."""


def objective_notes(run: Run) -> list[str]:
    """Return a sentence for each thing that moves the stationary points of a run off those of the ELBO."""
    training: Any = run.config.get("training")
    training = training if isinstance(training, Mapping) else {}
    notes = []
    floor = training.get("free_bits")
    if isinstance(floor, int | float) and floor > 0:
        notes.append(_free_bits(run, float(floor)))
    if training.get("objective") == "importance-weighted":
        notes.append(
            f"Training maximised the importance-weighted bound of {training.get('samples', 1)} samples: its stationary "
            "points are not those of the ELBO, whose residuals need not vanish."
        )
    given: Any = run.config.get("regulariser")
    tables = given if isinstance(given, list) else [given] if isinstance(given, Mapping) else []
    names = [str(table.get("name")) for table in tables if isinstance(table, Mapping)]
    if names:
        verb = "is" if len(names) == 1 else "are"
        notes.append(
            f"{listed(names)} {verb} in the loss: the stationary points are those of the ELBO less these terms, so the "
            "residuals of the ELBO show how far they pull."
        )
    return notes


def _free_bits(run: Run, floor: float) -> str:
    told = f"Free bits: the KL of each latent counts as at least {floor:g} nats and is not trained below"
    if "train" not in run.splits:
        return f"{told}: R_h of latents at the floor need not vanish."
    kl = np.asarray(run.evaluation("train", "kl"))[-1]
    held = np.flatnonzero((kl <= _NEAR * floor).any(0))
    if not len(held):
        return f"{told}; no latent is that low, so nothing is shifted."
    return f"{told}; latents {listed(held)} are there, and their R_h need not vanish."
