"""The progress display: a live line at a terminal, plain lines elsewhere, and the summary at the end."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from elboverse.contracts.records import Evaluation, Record, Rows
from elboverse.theory import identities
from elboverse.warning import warn

__all__ = ["ProgressSink", "describe_rows"]

SECONDS_BETWEEN_LINES: Final = 5.0


class ProgressSink:
    """Shows ELBO, entropy sum, their gap in %, the active latents, steps per second and the time left.

    For replicas, the numbers are medians over them. A latent counts as active while its entropy drop is at least
    `identities.DROP_THRESHOLD`. Where nothing can be shown any more, on a full disk say or with the reader of a pipe
    gone, training goes on unseen.

    Args:
        console: where to; it knows whether it is a terminal.
        total_steps: length of the run.
        done: steps done before.
        heading: a line to show once, above the rest.
    """

    def __init__(self, console: Console, total_steps: int, done: int = 0, heading: str = "") -> None:
        self._console = console
        self._heading = heading
        self._total = total_steps
        self._started = self._last_line = time.monotonic()
        self._first = self._done = done
        self._text = ""
        self._held_out = ""
        self._ended = False
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                BarColumn(bar_width=16),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            self._task = self._progress.add_task("starting", total=total_steps, completed=done)
            self._progress.start()

    def receive(self, record: Record) -> None:
        """Take one record; pictures are not shown."""
        if isinstance(record, Rows):
            self._done = int(record.step[-1]) + 1
            self._text = describe_rows(record)
            self._try_to_show()
        elif isinstance(record, Evaluation) and record.split == "held_out":
            self._held_out = f"held-out {np.median(record.scalars['elbo']):z.3f} (step {record.step:,})"
            self._try_to_show()

    def close(self) -> None:
        """Show the last state and take the display down."""
        self._try_to_show(last=True)
        if self._progress is not None and not self._ended:
            self._progress.stop()

    def _try_to_show(self, *, last: bool = False) -> None:
        if self._ended or not self._text:
            return
        try:
            self._show(last=last)
        except (OSError, SystemExit) as error:  # rich makes the latter of a pipe that nobody reads any more
            self._ended = True
            reason = error.strerror if isinstance(error, OSError) else "nobody reads it any more"
            warn(f"progress cannot be shown: {reason}. Training goes on.")

    def _show(self, *, last: bool) -> None:
        if self._heading:
            self._console.print(self._heading, soft_wrap=True)
            self._heading = ""
        now = time.monotonic()
        speed = (self._done - self._first) / max(1e-9, now - self._started)
        text = "  ".join(part for part in (self._text, self._held_out, f"{speed:z,.0f} steps/s") if part)
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done, description=text)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES or last:
            self._last_line = now
            left = (self._total - self._done) / max(1e-9, speed)
            self._console.print(f"step {self._done:,}/{self._total:,}  {text}  {left:z,.0f} s left", soft_wrap=True)


def describe_rows(rows: Rows) -> str:
    """Return ELBO, entropy sum, gap and active latents, medians over replicas, in one line."""
    elbo = rows.scalars["elbo"].mean(0)
    per_latent = {name: values.mean(0) for name, values in rows.per_latent.items()}
    entropy_sum = identities.entropy_sum(
        rows.scalars["decoder_entropy"].mean(0),
        per_latent["encoder_entropy"],
        per_latent["prior_entropy"],
        rows.scalars["log_reference"].mean(0) if "log_reference" in rows.scalars else 0.0,
    )
    gap = identities.in_words(float(np.median(elbo - entropy_sum)), float(np.median(elbo)))
    drop = identities.entropy_drop(per_latent["encoder_entropy"], per_latent["prior_entropy"])
    active = (drop >= identities.DROP_THRESHOLD).sum(-1)
    return (
        f"ELBO {np.median(elbo):z.3f}  entropy sum {np.median(entropy_sum):z.3f}  gap {gap}  "
        f"active {np.median(active):g}/{drop.shape[-1]}"
    )
