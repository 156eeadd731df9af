"""``csv``: recorded steps and evaluations as two text tables that grow while a run is trained."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import attrs

from elboverse.config.structuring import in_range
from elboverse.contracts import Evaluation, Record, Rows, RunDescription

__all__ = ["CSV", "CSVOptions", "build"]

STEPS: Final = "steps.csv"
EVALUATIONS: Final = "evaluations.csv"


@attrs.frozen(kw_only=True)
class CSVOptions:
    """Options of the text tables.

    Args:
        every: steps between two lines of ``steps.csv``, at least.
    """

    every: int = attrs.field(
        default=1, validator=in_range(minimum=1), metadata={"help": "Steps between two lines, at least."}
    )


class CSV:
    """Writes ``steps.csv`` and ``evaluations.csv`` beside the run file, a line per step or evaluation and replica.

    A resumed run keeps the lines of the steps before, and writes the others anew.

    Args:
        options: how often.
    """

    def __init__(self, options: CSVOptions) -> None:
        self._every = options.every
        self._folder = Path()
        self._done = 0
        self._files: dict[str, TextIO] = {}

    def begin(self, run: RunDescription) -> None:
        """Open nothing yet: the first record says what the columns are."""
        self._folder, self._done = run.folder, run.done

    def receive(self, record: Record) -> None:
        """Write the lines of a record, and let them be seen."""
        if isinstance(record, Rows):
            self._write(STEPS, self._of_rows(record))
        elif isinstance(record, Evaluation):
            self._write(EVALUATIONS, _of_evaluation(record))

    def saved(self, steps: int) -> None:
        """Do nothing: every line is written at once."""

    def end(self, status: str) -> None:  # noqa: ARG002 - as any sink
        """Close the tables."""
        for file in self._files.values():
            file.close()

    def _of_rows(self, rows: Rows) -> Iterator[dict[str, Any]]:
        for index, step in enumerate(rows.step.tolist()):
            if step % self._every == 0:
                scalars = {name: values[index] for name, values in rows.scalars.items()}
                per_latent = {name: values[index] for name, values in rows.per_latent.items()}
                yield from _lines({"step": step}, scalars, per_latent)

    def _write(self, name: str, lines: Iterator[dict[str, Any]]) -> None:
        """Append lines to a table, whose earlier lines of the steps before are kept."""
        found = list(lines)
        if not found:
            return
        if name not in self._files:
            path = self._folder / name
            kept = _before(path, self._done) if self._done else []
            file = self._files[name] = path.open("w", encoding="utf-8", newline="")
            csv.writer(file).writerow(list(found[0]))
            csv.writer(file).writerows(kept)
        csv.writer(self._files[name]).writerows([list(line.values()) for line in found])
        self._files[name].flush()


def _of_evaluation(record: Evaluation) -> Iterator[dict[str, Any]]:
    head = {"step": record.step, "split": record.split, "epoch": record.epoch, "points": record.points}
    yield from _lines(head, record.scalars, record.per_latent)


def _lines(
    head: Mapping[str, Any], scalars: Mapping[str, Any], per_latent: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a line for each replica; series of latents have a column per latent, such as ``kl_0``."""
    for replica in range(len(next(iter(scalars.values())))):
        latents = {
            f"{name}_{latent}": value
            for name, values in per_latent.items()
            for latent, value in enumerate(values[replica].tolist())
        }
        yield {
            **head,
            "replica": replica,
            **{name: float(values[replica]) for name, values in scalars.items()},
            **latents,
        }


def _before(path: Path, first: int) -> list[Sequence[str]]:
    """Return the lines of a table of the steps before one, whole ones alone; none where there is not a table."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    place = header.index("step")
    return [line for line in lines if len(line) == len(header) and int(line[place]) < first]


def build(options: CSVOptions) -> CSV:
    """Return the sink."""
    return CSV(options)
