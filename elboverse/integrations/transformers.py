"""Trainers in the way of transformers: a callback that evaluates the model and records it.

    Trainer(model, …, callbacks=[Record("runs/mine", encode, decode, held_out)])

Needs the package transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from elboverse.integrations.recording import record

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "elboverse.integrations.transformers needs the package transformers: pip install 'elboverse[transformers]'"
    ) from error

__all__ = ["Record"]


class Record(TrainerCallback):  # type: ignore[misc, unused-ignore] # transformers is not there where types are checked
    """Evaluates at the end of every epoch.

    Args:
        path: of the recording, as of `elboverse.record`.
        encode: points → q(z|x).
        decode: latents → p(x|z); None without a likelihood.
        data: held-out points.
        options: further arguments of `elboverse.record`.
    """

    def __init__(
        self,
        path: str | Path,
        encode: Callable[[Any], Any],
        decode: Callable[[Any], Any] | None,
        data: Any,
        **options: Any,
    ) -> None:
        self._model = (encode, decode, data)
        self.recording = record(path, **options)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:  # noqa: ARG002 - its signature
        """Evaluate."""
        self.recording.evaluate(*self._model, step=state.global_step, epoch=round(state.epoch or 0))

    def on_train_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:  # noqa: ARG002 - its signature
        """Close the recording."""
        self.recording.close()
