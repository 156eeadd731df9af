"""Models that compete on the same batches: what each is called, and how many parameters its density has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from elboverse.analysis.linear import is_linear
from elboverse.analysis.reading import Reading, at, differ, labels_of, plural
from elboverse.components.registry import normalised
from elboverse.errors import AnalysisError
from elboverse.runfile import Run

__all__ = ["Candidate", "candidates", "require_same_batches"]

_TRAINED: Final = "optimizer/exp_avg"
"""Where the checkpoint of a run without recorded roles has one array per trained parameter: Adam's first moments."""


Counted = Literal["linear formula", "recorded roles", "checkpoint"]
"""What k was taken from."""


@attrs.frozen(kw_only=True)
class Candidate:
    """One of the models.

    Args:
        path: of its run file.
        label: what tells it from the others.
        latent_dim: H.
        is_linear: its density is that of the linear VAE, with a learned σ².
        beta: the weight of the KL term that the record ends with.
        parameters: k as the paper counts it.
        textbook_parameters: k with the mean counted, and rotations of the latents not.
        counted: what k was taken from.
    """

    path: str
    label: str
    latent_dim: int
    is_linear: bool
    beta: float
    parameters: int
    textbook_parameters: int
    counted: Counted

    def described(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {
            "run": self.path,
            "label": self.label,
            "latent_dim": self.latent_dim,
            "parameters": self.parameters,
            "textbook_parameters": self.textbook_parameters,
            "counted": self.counted,
        }


def candidates(readings: Sequence[Reading]) -> tuple[Candidate, ...]:
    """Return the models of runs, named by H, by model and H, or by their paths: whatever tells them apart first.

    A linear model has k = HD + 1 (the paper's count) or DH + 1 + D − H(H − 1)/2 (the textbook's). Of any other model,
    both are the number of trained parameters that p(x|z) or p(z) depends on, as the run recorded when the model was
    built. A run that recorded none has those counted that Adam trains and whose name does not begin with ``encoder``.

    Raises:
        AnalysisError: a run does not say D, or holds no trained parameters.
    """
    runs = [reading.run for reading in readings]
    names = [at(run.config, "model", "name") for run in runs]
    labels = [f"H = {run.latent_dim}" for run in runs]
    if differ(names):
        labels = [f"{name}, {label}" for name, label in zip(names, labels, strict=True)]
    if len(set(labels)) < len(labels):
        labels = labels_of([run.path for run in runs])
    return tuple(_candidate(reading, label) for reading, label in zip(readings, labels, strict=True))


def _candidate(reading: Reading, label: str) -> Candidate:
    run = reading.run
    linear = is_linear(run.config) and normalised(at(run.config, "model", "name")) != "vae0"
    roles = at(run.documents, "model", "parameters")
    counted: Counted = "linear formula" if linear else "recorded roles" if isinstance(roles, list) else "checkpoint"
    if linear:
        parameters, textbook = _linear_counts(run)
    else:
        parameters = textbook = _shaping(run, roles) if isinstance(roles, list) else _trained(run)
    return Candidate(
        path=str(run.path),
        label=label,
        latent_dim=run.latent_dim,
        is_linear=linear,
        beta=float(reading.series("beta")[-1, 0]),
        parameters=parameters,
        textbook_parameters=textbook,
        counted=counted,
    )


def _linear_counts(run: Run) -> tuple[int, int]:
    dimension, latents = at(run.data, "dimension"), run.latent_dim
    if not isinstance(dimension, int):
        raise AnalysisError(
            f"{run.path}: /documents/data does not say the data's dimension, and BIC counts parameters by it; "
            f"train the model anew"
        )
    weights = latents * dimension
    return weights + 1, weights + 1 + dimension - latents * (latents - 1) // 2


def _shaping(run: Run, roles: list[Any]) -> int:
    """Return how many numbers the density has that training changes, by the roles that the run recorded."""
    told = [role for role in roles if isinstance(role, dict) and role.get("trained") and role.get("shapes_density")]
    counts = [math.prod(role["shape"]) for role in told if _is_shape(role.get("shape"))]
    if not counts:
        raise AnalysisError(
            f"{run.path}: training changes no parameter that p(x) depends on, and BIC counts them; give runs of models "
            "that train a decoder"
        )
    return sum(counts)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(length, int) and length >= 0 for length in value)


def _trained(run: Run) -> int:
    """Return how many parameters outside the encoder Adam trains, in a run of before roles were recorded."""
    arrays = run.checkpoint(_TRAINED)
    count = sum(array[0].size for path, array in arrays.items() if not path.startswith("encoder"))
    if count == 0:
        raise AnalysisError(
            f"{run.path}: the checkpoint holds no trained parameters outside the encoder, and BIC counts them; "
            f"give runs of models that train a decoder"
        )
    return count


def require_same_batches(readings: Sequence[Reading]) -> int:
    """Check that runs were trained on the same batches, and return how many points these have.

    Raises:
        AnalysisError: data, batch size or number of replicas differ, or a run does not say its batch size.
    """
    first, *others = readings
    for reading in readings:
        batch_size = _batch_size(reading)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise AnalysisError(
                f"{reading.run.path}: got training.batch_size {batch_size!r}; expected a positive integer"
            )
    for other in others:
        data, same = other.run.data, first.run.data
        if any(data.get(key) != same.get(key) for key in ("fingerprint", "dimension", "stream")):
            raise AnalysisError(
                f"{other.run.path} was trained on other data than {first.run.path}, and selection compares models "
                f"on the same batches; give runs with the same dataset and seed"
            )
        if _batch_size(other) != _batch_size(first):
            raise AnalysisError(
                f"{other.run.path} has batches of {_batch_size(other)} points, {first.run.path} of "
                f"{_batch_size(first)}, and selection compares models on the same batches; give runs with the same "
                f"training.batch_size"
            )
        if len(other.replicas) != len(first.replicas):
            raise AnalysisError(
                f"{other.run.path} has {plural(len(other.replicas), 'replica')}, {first.run.path} has "
                f"{plural(len(first.replicas), 'replica')}; compare one of each with --replica"
            )
    return int(_batch_size(first))


def _batch_size(reading: Reading) -> Any:
    return at(reading.run.config, "training", "batch_size")
