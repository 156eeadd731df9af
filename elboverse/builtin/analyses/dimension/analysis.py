"""``dimension``: the smallest number of latents that nothing tells from the best, and what else speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array, Reading, at, differ, listed, plural
from elboverse.builtin.analyses.dimension.numbers import Candidate, Choice, choose
from elboverse.config.structuring import in_range
from elboverse.contracts import Result
from elboverse.errors import AnalysisError
from elboverse.theory import dimension, identities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["DimensionOptions", "build"]

_MOST_DIMENSIONS: Final = 2000
_MOST_POINTS: Final = 20_000


@attrs.frozen(kw_only=True)
class DimensionOptions:
    """Options of `dimension`.

    Args:
        drop_threshold: entropy drop in nats below which a latent is collapsed.
    """

    several_runs: ClassVar[bool] = True

    drop_threshold: float = attrs.field(
        default=identities.DROP_THRESHOLD,
        validator=in_range(minimum=0),
        metadata={"help": "Entropy drop in nats below which a latent is collapsed."},
    )


def build(options: DimensionOptions, runs: tuple[Run, ...]) -> Result:
    """Return how many latents the data need.

    The keys of `Result.data`: ``chosen`` and ``best`` (numbers of latents), ``indistinguishable`` (a list of them),
    ``pruned`` (active latents of the largest model), ``bic`` and ``evidence`` (what pPCA's BIC and Minka's evidence
    choose; null where they cannot be computed), ``left_out`` (held-out points), and ``candidates``, each with
    ``latent_dim``, ``seeds``, ``held_out_elbo``, ``held_out_standard_error``, ``difference`` to the best and its
    ``standard_error``, ``train_elbo``, ``active``, ``bic`` and ``log_evidence``.

    Args:
        options: the threshold.
        runs: of models with different numbers of latents, on the same data; several of one number count as seeds.

    Raises:
        AnalysisError: the runs hold no points out, were trained on different data, or have one number of latents.
    """
    if differ([run.data.get("fingerprint") for run in runs]):
        raise AnalysisError("the runs were trained on different data, so their ELBOs cannot be paired")
    grouped: dict[int, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.latent_dim, []).append(run)
    if len(grouped) < 2:
        raise AnalysisError(
            f"{runs[0].path}: got runs with {plural(runs[0].latent_dim, 'latent')} only; expected several numbers of "
            "them, as `elboverse choose-h` trains"
        )
    candidates = [_candidate(latents, found, options) for latents, found in sorted(grouped.items())]
    choice = choose(candidates)
    eigenvalues, points = _eigenvalues(runs[0])
    bic: dict[int, float] = {}
    evidence: dict[int, float] = {}
    if eigenvalues is not None:
        numbers = range(len(eigenvalues))
        bic = {h: dimension.bayesian_information_criterion(eigenvalues, points, h) for h in numbers}
        evidence = {h: dimension.laplace_evidence(eigenvalues, points, h) for h in numbers[1:]}

    by_evidence = _of_the_evidence(choice, evidence) if _is_linear(runs) else None
    if by_evidence is not None:
        choice = attrs.evolve(choice, chosen=by_evidence)

    def draw() -> Figure:
        from elboverse.builtin.analyses.dimension.figure import draw  # matplotlib, which only a figure needs

        return draw(choice)

    return Result(
        title=f"How many latents: {Reading(runs[0]).described()}, {_held_out(choice)}, in nats per point",
        columns=(
            *("latents", "seeds", "held-out ELBO", "± SE", "below the best", "± SE of that", "training ELBO"),
            *("active", "pPCA's BIC", "pPCA's ln evidence"),
        ),
        rows=[
            (
                *(one.latents, len(one.elbo), float(choice.mean[index]), float(choice.mean_error[index])),
                *(float(choice.mean[choice.best] - choice.mean[index]), float(choice.standard_error[index])),
                *(float(one.train_elbo.mean()), f"{np.median(one.active):g}"),
                *(_shown(bic.get(one.latents)), _shown(evidence.get(one.latents))),
            )
            for index, one in enumerate(choice.candidates)
        ],
        notes=_notes(choice, bic, evidence, decided_by_evidence=by_evidence is not None),
        data=_data(choice, bic, evidence),
        draw=draw,
    )


def _candidate(latents: int, runs: Sequence[Run], options: DimensionOptions) -> Candidate:
    from elboverse.analysis.trained import TrainedModel  # torch, which not every analysis needs

    elbo, train, active, verdicts = [], [], [], []
    for run in runs:
        reading = Reading(run)
        for name in ("train", "held_out"):
            if not reading.evaluated(name):
                raise AnalysisError(
                    f"{run.path}: no evaluation of {name.replace('_', '-')} points; numbers of latents are compared on "
                    "points that training never sees (dataset.held_out)"
                )
        found = reading.certificates()
        verdicts += [one.verdict for one in found]
        for replica in range(run.replicas):
            model = TrainedModel.of(run, replica)
            elbo.append(model.scored(model.points("held_out"), 0).elbo)
            train.append(float(run.evaluation("train", "elbo", replica)[-1]))
            drop = run.evaluation("held_out", "entropy_drop", replica)[-1]
            active.append(int((drop >= options.drop_threshold).sum()))
    return Candidate(latents, np.stack(elbo), np.array(train), np.array(active), tuple(verdicts))


def _eigenvalues(run: Run) -> tuple[Array | None, int]:
    """Return the covariance's eigenvalues of the scaled training points, falling, and how many points there are."""
    from elboverse.analysis.trained import TrainedModel  # torch, which not every analysis needs

    model = TrainedModel.of(run, 0)
    points = model.observed(model.points("train")).astype(np.float64)
    if points.shape[1] > _MOST_DIMENSIONS or points.shape[1] < 2:
        return None, len(points)
    values = np.linalg.eigvalsh(np.cov(points.T, bias=True))[::-1].clip(min=0)
    return (values if values[0] > 0 else None), len(points)


def _held_out(choice: Choice) -> str:
    return plural(choice.candidates[0].elbo.shape[1], "held-out point")


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:z,.1f}"


def _pruned(choice: Choice) -> int:
    return int(np.median(choice.candidates[-1].active))


def _is_linear(runs: Sequence[Run]) -> bool:
    return all(at(run.config, "model", "name") == "linear-vae" for run in runs)


def _of_the_evidence(choice: Choice, evidence: dict[int, float]) -> int | None:
    """Return the candidate that the evidence chooses, where held-out points do not speak against it; None elsewhere.

    For linear models it weighs all training points, and tells apart what a few held-out points cannot.
    """
    if not evidence:
        return None
    best = max(evidence, key=lambda h: evidence[h])
    numbers = [one.latents for one in choice.candidates]
    return numbers.index(best) if best in choice.indistinguishable else None


def _notes(
    choice: Choice, bic: dict[int, float], evidence: dict[int, float], *, decided_by_evidence: bool
) -> list[str]:
    best, chosen = (choice.candidates[index].latents for index in (choice.best, choice.chosen))
    others = [latents for latents in choice.indistinguishable if latents not in {chosen, best}]
    if decided_by_evidence:
        told = f"Take {plural(chosen, 'latent')}: the evidence chooses it, and the held-out points do not object"
    elif chosen == best:
        told = f"Take {plural(chosen, 'latent')}: the best on these points"
    else:
        told = f"Take {plural(chosen, 'latent')}: the smallest number that nothing here tells from the best, {best}"
    rest = f"{listed(others)} cannot be told from it either" if others else "all others are worse by over two SE"
    notes = [f"{told}; {rest}."]
    if choice.chosen == len(choice.candidates) - 1:
        notes.append(f"It is the largest number tried, so more may be better still: try beyond {chosen}.")
    largest = choice.candidates[-1].latents
    notes.append(f"Pruning: the model with {plural(largest, 'latent')} uses {_pruned(choice)} of them.")
    if evidence:
        by_bic, by_evidence = min(bic, key=lambda h: bic[h]), max(evidence, key=lambda h: evidence[h])
        notes.append(f"Probabilistic PCA itself: BIC chooses {by_bic}, Minka's evidence {by_evidence}.")
    unsure = [one.latents for one in choice.candidates if one.verdicts and set(one.verdicts) != {"stationary"}]
    if unsure:
        notes.append(
            f"Not all models are at a stationary point ({listed(unsure)} latents), so a longer training may change "
            "this: train with --until stationary."
        )
    if len(choice.left_out):
        notes.append(
            f"Left out of the comparison: {plural(len(choice.left_out), 'held-out point')} "
            f"({listed(list(choice.left_out[:10]))}, counted from 0) so far from all others that it would decide alone."
        )
    return notes


def _data(choice: Choice, bic: dict[int, float], evidence: dict[int, float]) -> dict[str, Any]:
    return {
        "chosen": choice.candidates[choice.chosen].latents,
        "best": choice.candidates[choice.best].latents,
        "indistinguishable": choice.indistinguishable,
        "pruned": _pruned(choice),
        "bic": min(bic, key=lambda h: bic[h]) if bic else None,
        "evidence": max(evidence, key=lambda h: evidence[h]) if evidence else None,
        "left_out": [int(point) for point in choice.left_out],
        "candidates": [
            {
                "latent_dim": one.latents,
                "seeds": len(one.elbo),
                "held_out_elbo": float(choice.mean[index]),
                "held_out_standard_error": float(choice.mean_error[index]),
                "difference": float(choice.difference[index]),
                "standard_error": float(choice.standard_error[index]),
                "train_elbo": float(one.train_elbo.mean()),
                "active": float(np.median(one.active)),
                "bic": bic.get(one.latents),
                "log_evidence": evidence.get(one.latents),
            }
            for index, one in enumerate(choice.candidates)
        ],
    }
