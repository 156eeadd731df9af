"""A sink: a page that shows how far a run is and what its last evaluation says, to be reloaded in a browser."""

from html import escape

import attrs

from elboverse import Component, hookimpl
from elboverse.contracts import Evaluation, Rows


@attrs.frozen(kw_only=True)
class Options:
    file: str = attrs.field(default="board.html", metadata={"help": "name of the page, in the run's folder"})


class Board:
    def __init__(self, options):
        self._options = options

    def begin(self, run):
        self._run, self._done, self._evaluations = run, run.done, {}
        self._write("running")

    def receive(self, record):
        if isinstance(record, Rows):
            self._done = int(record.step[-1]) + 1
        elif isinstance(record, Evaluation):
            self._evaluations[record.split] = float(record.scalars["elbo"].mean())
            self._write("running")

    def saved(self, steps):
        self._write(f"running, the first {steps} steps are saved")

    def end(self, status):
        self._write(status)

    def _write(self, status):
        lines = [f"{self._run.name}: {status}", f"{self._done} of {self._run.total_steps} steps"]
        lines += [f"ELBO ({split}): {elbo:.4g} nats" for split, elbo in self._evaluations.items()]
        body = "".join(f"<p>{escape(line)}</p>" for line in lines)
        page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Board</title>{body}</html>"
        (self._run.folder / self._options.file).write_text(page, encoding="utf-8")


@hookimpl
def elboverse_sinks():
    return [Component("board", Options, Board, "a page that shows how far a run is")]
