"""``compare``: several runs in one table and one figure: what differs in their configs, and where each one ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.reading import Reading, ReplicaOptions, differ, labels_of, plural
from elboverse.builtin.analyses.compare.numbers import Compared, read_compared
from elboverse.config import flattened
from elboverse.config.structuring import in_range
from elboverse.contracts import Result, Table
from elboverse.errors import AnalysisError
from elboverse.theory import identities
from elboverse.theory.certificate import worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["CompareOptions", "build"]

_MOST_COLUMNS: Final = 3


@attrs.frozen(kw_only=True)
class CompareOptions(ReplicaOptions):
    """Options of `compare`.

    Args:
        drop_threshold: entropy drop in nats below which a latent is collapsed.
    """

    several_runs: ClassVar[bool] = True

    drop_threshold: float = attrs.field(
        default=identities.DROP_THRESHOLD,
        validator=in_range(minimum=0),
        metadata={"help": "Entropy drop in nats below which a latent is collapsed."},
    )


def build(options: CompareOptions, runs: tuple[Run, ...]) -> Result:
    """Return where each run ended, and what differs in their configs.

    The keys of `Result.data`: ``drop_threshold`` in nats; ``differences``, a table with the path of each setting that
    is not the same in all runs and its values, one per run, null where a run has no such setting; and ``compared``,
    a list with, per run, ``label``, ``steps`` recorded, ``elbo``, ``entropy_sum`` and ``gap`` of training, averaged
    over its last 100 recorded steps, ``held_out_elbo`` and ``held_out_standard_error`` of its last evaluation,
    ``latent_dim``, ``active`` by entropy drop, ``replicas``, ``training_seconds`` and ``started``: medians over
    the replicas, in nats per point, null where the run does not say.

    Args:
        options: threshold and replica.
        runs: two or more, of any models.

    Raises:
        AnalysisError: there is only one run, or one has no such replica.
    """
    if len(runs) < 2:
        raise AnalysisError(f"{runs[0].path}: compare needs at least two runs; give their files one after another")
    readings = [Reading(run, options.replica) for run in runs]
    compared = [
        read_compared(label, reading, options.drop_threshold)
        for label, reading in zip(labels_of([run.path for run in runs]), readings, strict=True)
    ]
    differences = _differences([run.config for run in runs])

    def draw() -> Figure:
        from elboverse.builtin.analyses.compare.figure import draw  # matplotlib, which only a figure needs

        return draw(compared)

    settings = _settings(compared, differences)
    return Result(
        title=f"{len(runs)} runs, in nats per point",
        columns=(
            *("run", "steps", "ELBO", "entropy sum", "gap"),
            *("held-out ELBO", "± SE", "active", "of latents", "verdict", "training (s)", "started"),
        ),
        rows=[
            (
                *(run.label, run.step, run.elbo, run.entropy_sum, run.gap),
                *(run.held_out_elbo, run.held_out_standard_error),
                *(None if run.active is None else f"{run.active:g}", run.reading.run.latent_dim),
                _verdict(run),
                *(None if run.seconds is None else f"{run.seconds:z,.1f}", _minute(run.started)),
            )
            for run in compared
        ],
        further=[settings] if differences else [],
        notes=_notes(compared, differences),
        data={
            "drop_threshold": options.drop_threshold,
            "differences": differences,
            "compared": [_data(run) for run in compared],
        },
        draw=draw,
    )


def _verdict(run: Compared) -> str | None:
    """Return the worst verdict of a run's certificates; None if it keeps none."""
    found = run.reading.certificates()
    return worst([one.verdict for one in found]) if found else None


def _settings(compared: Sequence[Compared], differences: dict[str, list[Any]]) -> Table:
    """Return the table of what differs: a row for each setting, or for each run where there are many."""
    title, shown = (
        "What differs in their configs",
        {key: [_shown(value) for value in values] for key, values in differences.items()},
    )
    if len(compared) <= _MOST_COLUMNS:
        rows = [(key, *values) for key, values in shown.items()]
        return Table(title=title, columns=("setting", *(run.label for run in compared)), rows=rows)
    rows = [(run.label, *(values[index] for values in shown.values())) for index, run in enumerate(compared)]
    return Table(title=title, columns=("run", *differences), rows=rows)


def _minute(started: str) -> str:
    """Return a time in ISO 8601 to the minute, without its zone, as a table shows it."""
    return started[:16].replace("T", " ")


def _differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    flat = [flattened(config) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys}
    return {key: each for key, each in values.items() if differ(each)}


def _shown(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _notes(compared: Sequence[Compared], differences: dict[str, list[Any]]) -> list[str]:
    notes = []
    evaluated = [run for run in compared if run.held_out_elbo is not None and run.held_out_standard_error is not None]
    if differ([run.reading.run.data.get("fingerprint") for run in compared]):
        notes.append("The runs were trained on different data, so their ELBOs cannot be compared.")
    elif len(evaluated) > 1:
        ranked = sorted(evaluated, key=lambda run: -(run.held_out_elbo or 0.0))
        first, second = ranked[:2]
        ahead = (first.held_out_elbo or 0.0) - (second.held_out_elbo or 0.0)
        error = float(np.hypot(first.held_out_standard_error or 0.0, second.held_out_standard_error or 0.0))
        tied = " A tie: less than two standard errors, so nothing tells the two apart." if ahead < 2 * error else ""
        notes.append(
            f"The best held-out ELBO is that of {first.label}, {ahead:.4f} ± {error:.4f} nats ahead of {second.label}."
            f"{tied}"
        )
    if not differences:
        notes.append("Their configs are the same.")
    notes += [f"{run.label}: {note}" for run in compared for note in run.reading.caveats()]
    several = [run for run in compared if len(run.reading.replicas) > 1]
    if several:
        listed = ", ".join(f"{run.label} {plural(len(run.reading.replicas), 'replica')}" for run in several)
        notes.append(f"Values are medians over replicas: {listed}.")
    return notes


def _data(run: Compared) -> dict[str, Any]:
    return {
        "label": run.label,
        "steps": run.step,
        "elbo": run.elbo,
        "entropy_sum": run.entropy_sum,
        "gap": run.gap,
        "held_out_elbo": run.held_out_elbo,
        "held_out_standard_error": run.held_out_standard_error,
        "latent_dim": run.reading.run.latent_dim,
        "active": run.active,
        "verdict": _verdict(run),
        "replicas": len(run.reading.replicas),
        "training_seconds": run.seconds,
        "started": run.started,
    }
