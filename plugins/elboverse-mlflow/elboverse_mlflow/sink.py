"""``mlflow``: a run of MLflow for each run, followed while it is trained and continued when it is resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

import elboverse
from elboverse.config import flattened, in_range
from elboverse.contracts import Evaluation, Record, Rows, RunDescription
from elboverse.errors import ElboverseError

__all__ = ["MLflow", "MLflowOptions", "build"]

RUN_ID: Final = "mlflow-run-id"
MOST_AT_ONCE: Final = 500
LONGEST_VALUE: Final = 500
STATUS: Final = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


@attrs.frozen(kw_only=True)
class MLflowOptions:
    """Options of the sink ``mlflow``.

    Args:
        tracking_uri: of the tracking store, such as ``"http://127.0.0.1:5000"``; as MLflow is set up by default.
        experiment: name of MLflow's experiment; the run's own name by default.
        every: steps between two points of a curve, at least.
        figures: analyses whose figures become artifacts at the end.
    """

    tracking_uri: str | None = attrs.field(default=None, metadata={"help": "Address or folder of the tracking store."})
    experiment: str | None = attrs.field(default=None, metadata={"help": "Name of MLflow's experiment."})
    every: int = attrs.field(
        default=10, validator=in_range(minimum=1), metadata={"help": "Steps between two points, at least."}
    )
    figures: tuple[str, ...] = attrs.field(
        default=("bounds", "collapse"), metadata={"help": "Analyses whose figures are kept."}
    )


class MLflow:
    """Logs the config as parameters, recorded steps of the first replica and evaluations as metrics, and figures.

    Args:
        options: where, and how often.
    """

    def __init__(self, options: MLflowOptions) -> None:
        self._options = options
        self._client = MlflowClient(tracking_uri=options.tracking_uri)
        self._id = ""
        self._folder = Path()
        self._waiting: list[Metric] = []

    def begin(self, run: RunDescription) -> None:
        """Make a run of MLflow, or take up the one that an earlier part of this run made."""
        self._folder = run.folder
        known = run.folder / RUN_ID
        if run.done and known.is_file():
            self._id = known.read_text(encoding="utf-8").strip()
            self._client.set_terminated(self._id, "RUNNING")
            return
        name = self._options.experiment or run.name
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._id = self._client.create_run(experiment, run_name=run.folder.name).info.run_id
        known.write_text(f"{self._id}\n", encoding="utf-8")
        settings = {**flattened(dict(run.config)), "data.fingerprint": run.data.get("fingerprint", "")}
        params = [Param(_name(key), str(value)[:LONGEST_VALUE]) for key, value in settings.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[start : start + 100])
        self._client.set_tag(self._id, "elboverse.run", str(run.folder))

    def receive(self, record: Record) -> None:
        """Keep the metrics of a record; they are sent when a run is saved, or when they are many."""
        if isinstance(record, Rows):
            self._waiting += self._of_rows(record)
        elif isinstance(record, Evaluation):
            self._waiting += _metrics(f"{record.split}/", record.scalars, record.per_latent, record.step)
        if len(self._waiting) >= MOST_AT_ONCE:
            self._send()

    def saved(self, steps: int) -> None:  # noqa: ARG002 - all that waits is sent
        """Send what waits."""
        self._send()

    def end(self, status: str) -> None:
        """Send what waits, and the figures of a run that is finished, and say how it ended."""
        self._send()
        if status == "finished":
            for analysis in self._options.figures:
                self._keep_figure(analysis)
        self._client.set_terminated(self._id, STATUS.get(status, "FINISHED"))

    def _keep_figure(self, analysis: str) -> None:
        try:
            figure = elboverse.analyze(self._folder / "run.h5", analysis).figure()
        except ElboverseError as error:  # one that this run cannot have
            self._client.set_tag(self._id, f"elboverse.{analysis}", str(error)[:LONGEST_VALUE])
            return
        path = self._folder / f"{analysis}.png"
        figure.savefig(path, dpi=150)
        self._client.log_artifact(self._id, str(path), "figures")
        path.unlink()

    def _of_rows(self, rows: Rows) -> Iterator[Metric]:
        for index, step in enumerate(rows.step.tolist()):
            if step % self._options.every == 0:
                scalars = {name: values[index] for name, values in rows.scalars.items()}
                per_latent = {name: values[index] for name, values in rows.per_latent.items()}
                yield from _metrics("", scalars, per_latent, step)

    def _send(self) -> None:
        for start in range(0, len(self._waiting), MOST_AT_ONCE):
            self._client.log_batch(self._id, metrics=self._waiting[start : start + MOST_AT_ONCE])
        self._waiting = []


def _metrics(prefix: str, scalars: Mapping[str, Any], per_latent: Mapping[str, Any], step: int) -> Iterator[Metric]:
    now = int(1000 * time.time())
    for name, values in scalars.items():
        yield Metric(f"{prefix}{name}", float(values[0]), now, step)
    for name, values in per_latent.items():
        for latent, value in enumerate(values[0].tolist()):
            yield Metric(f"{prefix}{name}/{latent}", float(value), now, step)


def _name(key: str) -> str:
    """Return a key as MLflow takes it."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "-" for letter in key)[:250]


def build(options: MLflowOptions) -> MLflow:
    """Return the sink."""
    return MLflow(options)
