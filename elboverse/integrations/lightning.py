"""Lightning: `Record`, a callback that records every training step and evaluates after every validation.

    trainer = Trainer(callbacks=[Record("runs/mine", data=held_out)])

The module has `encode(x)` and `decode(z)`, or they are given. Needs the package lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from elboverse.integrations.recording import Recording, record

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise ImportError(
        "elboverse.integrations.lightning needs the package lightning: pip install 'elboverse[lightning]'"
    ) from error

__all__ = ["Record"]


class Record(Callback):  # type: ignore[misc, unused-ignore] # lightning is not there where types are checked
    """Records a `LightningModule`.

    Args:
        path: of the recording, as of `elboverse.record`.
        data: held-out points, evaluated after every validation and at the end of training; None for none.
        encode: of the module and points; the module's own `encode` by default.
        decode: of the module and latents; the module's own `decode` by default.
        loss: what `training_step` logs or returns is handed on to the recorder, which says at the end what it means.
        options: further arguments of `elboverse.record`.
    """

    def __init__(
        self,
        path: str | Path,
        data: Any = None,
        encode: Callable[[Any, Any], Any] | None = None,
        decode: Callable[[Any, Any], Any] | None = None,
        loss: bool = True,
        **options: Any,
    ) -> None:
        self._path, self._data, self._loss, self._options = path, data, loss, options
        self._encode = encode or (lambda module, x: module.encode(x))
        self._decode = decode or (lambda module, z: module.decode(z))
        self.recording: Recording | None = None
        self._batch: Any = None
        self._terms: tuple[Any, Any, Any] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - lightning's signature
        """Begin to record; a run that Lightning continues from a checkpoint is continued at its step."""
        options = self._options | ({"resume": True, "step": trainer.global_step} if trainer.global_step else {})
        self.recording = record(self._path, **options)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Remember the points of the batch."""
        self._batch, self._terms = batch[0] if isinstance(batch, tuple | list) else batch, None

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - lightning's signature
        """Work out q and p before the update, so that they are those of the loss."""
        if self.recording is not None and self._terms is None:
            with self.recording.safely():
                self._terms = self._of_batch(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Record the step."""
        if self.recording is None or self._batch is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        with self.recording.safely():
            q, p, z = self._of_batch(pl_module) if self._terms is None else self._terms
            self.recording.step(self._batch, q, p, z=z, loss=loss if self._loss else None)
        self._batch = self._terms = None

    def _of_batch(self, module: Any) -> tuple[Any, Any, Any]:
        import torch  # lightning has imported it

        from elboverse.integrations.encoders import encoded

        x = self._batch
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):  # the random numbers of training stay its own
            q = self._encode(module, x)
            z = encoded(q, len(x)).sample(1)
            return q, self._decode(module, z[0]), z

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate on the held-out points."""
        if not trainer.sanity_checking:
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate once more, if that is not done yet, and close the recording."""
        if self.recording is not None:
            self._evaluate(trainer, pl_module)
            self.recording.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Save what there is."""
        if self.recording is not None:
            self.recording.close("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def _evaluate(self, trainer: Any, module: Any) -> None:
        if self._data is None or self.recording is None or self.recording.last_evaluated == self.recording.step_count:
            return
        was_training = module.training
        module.eval()
        try:
            self.recording.evaluate(
                lambda x: self._encode(module, x.to(module.device)),
                lambda z: self._decode(module, z),
                self._data,
                epoch=trainer.current_epoch,
            )
        finally:
            module.train(was_training)
