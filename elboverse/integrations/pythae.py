"""Pythae: a model as the callables that `elboverse.judge` and `Recording.evaluate` take, and a training callback.

    BaseTrainer(model, …, callbacks=[Record("runs/mine", model, held_out)])

Pythae's ``reconstruction_loss="mse"`` is the Gaussian with σ² = 1, up to its constant, and ``"bce"`` the Bernoulli.
Needs the package pythae.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from elboverse.errors import DataError
from elboverse.integrations.recording import record

try:
    from pythae.trainers.training_callbacks import TrainingCallback
except ImportError as error:
    raise ImportError(
        "elboverse.integrations.pythae needs the package pythae: pip install 'elboverse[pythae]'"
    ) from error

__all__ = ["Model", "Record"]


class Model(nn.Module):
    """A Pythae VAE with a Gaussian encoder, seen as q(z|x) and p(x|z).

    Args:
        vae: the model.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x)."""
        found = self.vae.encoder(x)
        return found.embedding, found.log_covariance

    def decode(self, z: Tensor) -> Any:
        """Return p(x|z), as the model's loss has it.

        Raises:
            DataError: the loss is neither mse nor bce.
        """
        kind, mean = self.vae.model_config.reconstruction_loss, self.vae.decoder(z).reconstruction
        if kind == "mse":
            return mean, torch.zeros((), dtype=mean.dtype, device=mean.device)
        if kind == "bce":
            return Bernoulli(probs=mean.clamp(1e-7, 1 - 1e-7), validate_args=False)
        raise DataError(f"reconstruction_loss: got {kind!r}; expected 'mse' or 'bce', which are likelihoods")


class Record(TrainingCallback):  # type: ignore[misc, unused-ignore] # pythae is not there where types are checked
    """Evaluates a model after every epoch and records it.

    Args:
        path: of the recording, as of `elboverse.record`.
        vae: the model in training.
        data: held-out points.
        options: further arguments of `elboverse.record`.
    """

    def __init__(self, path: str | Path, vae: Any, data: Tensor, **options: Any) -> None:
        self._model, self._data, self._epoch = Model(vae), data, 0
        self.recording = record(path, learns_decoder_variance=False, **options)

    def on_epoch_end(self, training_config: Any, **_rest: Any) -> None:  # noqa: ARG002 - pythae's signature
        """Evaluate."""
        self._epoch += 1
        self.recording.evaluate(self._model.encode, self._model.decode, self._data, step=self._epoch, epoch=self._epoch)

    def on_train_end(self, training_config: Any, **_rest: Any) -> None:  # noqa: ARG002 - pythae's signature
        """Close the recording."""
        self.recording.close()
