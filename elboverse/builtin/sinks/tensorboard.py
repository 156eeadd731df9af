"""The sink for TensorBoard: throttled scalars grouped by slash, multi-line charts, and pictures of image data."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt
from PIL import Image
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from elboverse.builtin.sinks.event_file import SUFFIX, EventFile
from elboverse.contracts import Evaluation, Pictures, Record, Rows, RunDescription
from elboverse.theory import identities
from elboverse.warning import warn

__all__ = ["TensorBoardOptions", "TensorBoardSink", "build"]

MOST_EVENTS: Final = 200
MOST_VALUES: Final = 20_000
"""About how many rows, and scalars in them, a run writes at most: enough for a smooth curve, and each costs time."""

MOST_LATENTS: Final = 64


@attrs.frozen(kw_only=True)
class TensorBoardOptions:
    """Options of TensorBoard's log.

    Args:
        folder: within the run's, where the event file goes.
    """

    folder: str = attrs.field(default="tensorboard", metadata={"help": "Folder of the log, within the run's."})


class TensorBoardSink:
    """Writes one event per shown step, with all its scalars.

    For replicas, the scalars are those of the first one. Where the log cannot be written, on a full disk say, it ends
    with a warning and training goes on: all numbers are in the run file. Which steps are shown follows from the length
    of the run and the number of scalars; of the latents, the first 64 are.

    At step 0, our event files of an earlier run are removed; else TensorBoard is told to forget what was written from
    the step on that a run is resumed at, by a process that was killed before it could save it.
    """

    def __init__(self, options: TensorBoardOptions) -> None:
        self._within = options.folder
        self._folder = Path()
        self._latents = 0
        self._stride = 1
        self._file: EventFile | None = None

    def begin(self, run: RunDescription) -> None:
        """Begin the event file."""
        self._folder = run.folder / self._within
        self._latents = min(run.latent_dim, MOST_LATENTS)
        values = 6 + 2 * self._latents
        wanted = max(1, math.ceil(run.total_steps / MOST_EVENTS), math.ceil(run.total_steps * values / MOST_VALUES))
        self._stride = run.record_every * math.ceil(wanted / run.record_every)
        self._attempt(lambda: self._start(run.done))

    def receive(self, record: Record) -> None:
        """Take one record."""
        if self._file is None:
            return
        self._attempt(lambda: self._take(record))

    def saved(self, steps: int) -> None:
        """Do nothing: what is written is flushed at once."""

    def end(self, status: str) -> None:  # noqa: ARG002 - as any sink
        """Write what is left and close the event file."""
        if self._file is not None:
            self._attempt(self._file.close)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._file = None
            warn(
                f"{self._folder}: cannot be written: {error.strerror or error}. TensorBoard's log ends here; "
                "training goes on, and run.h5 will hold everything."
            )

    def _take(self, record: Record) -> None:
        if isinstance(record, Rows):
            self._rows(record)
        elif isinstance(record, Evaluation):
            self._evaluation(record)
        elif isinstance(record, Pictures):
            self._pictures(record)
        self._flush()

    def _flush(self) -> None:
        # Before each snapshot of the run: from there on, a resumed run writes anew what a killed process lost.
        if self._file is not None:
            self._file.flush()

    def _start(self, done: int) -> None:
        if done == 0:
            for stale in self._folder.glob(f"events.out.tfevents.*{SUFFIX}"):
                stale.unlink()
        self._file = EventFile(self._folder)
        if done:
            self._file.write(step=done, session_log=SessionLog(status=SessionLog.START))
        self._write(done, [], summary=_layout(self._latents))
        self._flush()

    def _rows(self, rows: Rows) -> None:
        scalars = {name: values[:, 0] for name, values in rows.scalars.items()}
        per_latent = {name: values[:, 0] for name, values in rows.per_latent.items()}
        entropy_sum = identities.entropy_sum(
            scalars["decoder_entropy"],
            per_latent["encoder_entropy"],
            per_latent["prior_entropy"],
            scalars.get("log_reference", 0.0),
        )
        for index in np.flatnonzero(rows.step % self._stride == 0):
            values = [
                ("bounds/elbo", scalars["elbo"][index]),
                ("bounds/entropy_sum", entropy_sum[index]),
                ("terms/log_likelihood", scalars["log_likelihood"][index]),
                ("terms/decoder_entropy", scalars["decoder_entropy"][index]),
                ("terms/decoder_log_var", scalars["decoder_log_var"][index]),
                ("terms/beta", scalars["beta"][index]),
            ]
            for name in ("encoder_entropy", "kl"):
                latents = per_latent[name][index][: self._latents]
                values += [(f"{name}/{_latent(h)}", value) for h, value in enumerate(latents)]
            self._write(int(rows.step[index]), values)

    def _evaluation(self, evaluation: Evaluation) -> None:
        values = [
            (f"evaluation/{evaluation.split}_{name}", values[0])
            for name, values in evaluation.scalars.items()
            if not name.endswith("_standard_error")
        ]
        self._write(evaluation.step, values)

    def _pictures(self, pictures: Pictures) -> None:
        for name, images in pictures.images.items():
            picture = Image.fromarray(_grid(images))
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            image = Summary.Image(
                height=picture.height,
                width=picture.width,
                colorspace=3,
                encoded_image_string=buffer.getvalue(),
            )
            summary = Summary(value=[Summary.Value(tag=f"pictures/{name}", image=image)])
            self._write(pictures.step, [], summary=summary)

    def _write(self, step: int, values: list[tuple[str, Any]], summary: Any = None) -> None:
        if summary is None:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values])
        if self._file is not None:
            self._file.write(step=step, summary=summary)


def _latent(index: int) -> str:
    return f"latent_{index:02d}"


def _grid(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return images (n, height, width) or (n, channels, height, width) in [0, 1] as one RGB picture, 8 in a row."""
    if images.ndim == 3:
        images = images[:, None]
    if images.shape[1] == 1:
        images = images.repeat(3, axis=1)
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    count, channels, height, width = images.shape
    padded = np.zeros((rows * columns, channels, height, width))
    padded[:count] = images
    grid = padded.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    return (grid.reshape(rows * height, columns * width, channels) * 255).round().astype(np.uint8)


def _layout(latents: int) -> Any:
    """Return the custom-scalars layout: ELBO against entropy sum, and all encoder entropies, each in one chart."""
    chart, multiline = layout_pb2.Chart, layout_pb2.MultilineChartContent
    bounds = chart(title="ELBO and entropy sum", multiline=multiline(tag=["bounds/elbo", "bounds/entropy_sum"]))
    entropies = chart(
        title="encoder entropies",
        multiline=multiline(tag=[f"encoder_entropy/{_latent(h)}" for h in range(latents)]),
    )
    category = layout_pb2.Category(title="elboverse", chart=[bounds, entropies])
    # What tensorboard's own `custom_scalar.summary.pb` builds, which imports TensorFlow for it.
    layout = layout_pb2.Layout(category=[category]).SerializeToString()
    tensor = TensorProto(dtype=DT_STRING, string_val=[layout], tensor_shape=TensorShapeProto())
    value = Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=metadata.create_summary_metadata())
    return Summary(value=[value])


def build(options: TensorBoardOptions) -> TensorBoardSink:
    """Return the sink."""
    return TensorBoardSink(options)
