"""``elboverse.record``: three lines in anyone's training loop, and its run file is one like ours.

The file is written by the same writer as that of `elboverse train`, so it is as safe from crashes, and every analysis
reads it. Nothing leaves the device at a step; rows go to the host 256 at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch import distributed as torch_distributed

from elboverse.contracts import Sink
from elboverse.errors import DataError, ElboverseError
from elboverse.integrations.averages import DecoderAverages, LatentAverages, decoder_averages, latent_averages
from elboverse.integrations.decoders import decoded
from elboverse.integrations.encoders import encoded, seen_prior
from elboverse.integrations.keeping import Keeper, Status
from elboverse.integrations.leaving import Leaving
from elboverse.integrations.looking import (
    require_finite_beta,
    require_one_device,
    require_positive_spread,
    unlikely_values,
)
from elboverse.integrations.points import Callables, as_points, evaluation_of, point_table
from elboverse.integrations.processes import full_precision, is_distributed, outside_of_compiled, with_samples
from elboverse.integrations.rows import SCALARS, Row, packed
from elboverse.runfile import RUN_FILE
from elboverse.warning import warn

__all__ = ["Recording", "record"]

ROWS_PER_TRANSFER: Final = 256
SECONDS_BETWEEN_TRANSFERS: Final = 10.0


def record(
    path: str | Path,
    *,
    dimension: int | None = None,
    latent_dim: int | None = None,
    name: str | None = None,
    resume: bool = False,
    step: int | None = None,
    overwrite: bool = False,
    accumulate: int = 1,
    learns_decoder_variance: bool | None = None,
    strict: bool = False,
    save_every_seconds: float = 10.0,
    sinks: Sequence[Sink | str | Mapping[str, Any]] = (),
) -> Recording:
    """Return a recording of a training loop; use it in a ``with`` block, or call `Recording.close` at the end.

    Args:
        path: a folder, which is made if need be and gets a ``run.h5``; or a path that ends in ``.h5``.
        dimension: D; that of the first points by default.
        latent_dim: H; that of the first posterior by default.
        name: what analyses call the run; the folder's name by default.
        resume: continue an existing recording; one that does not exist is begun.
        step: with `resume`, number of updates done at the checkpoint that training restarts from: what was recorded
            after it is dropped. All of it is kept by default.
        overwrite: replace an existing recording.
        accumulate: number of calls that make one update (gradient accumulation): their average is one row, and
            `Recording.loss` divides by it.
        learns_decoder_variance: whether the scale of the likelihood is trained, so that R_dec can be judged; taken to
            be so by default.
        strict: raise what is wrong in what is recorded. By default it is a warning, once of each kind, and training
            continues.
        save_every_seconds: the least time between two saves.
        sinks: what else follows the recording: names of sinks or tables with a name, as a config has
            them, and objects as of `contracts.Sink`.

    Raises:
        RunFileError: the recording exists and neither `resume` nor `overwrite` is set, another process writes to it,
            or its folder cannot be written to.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch.distributions import Independent, Normal
        >>> _ = torch.manual_seed(0)
        >>> encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
        >>> with record("runs/mine") as run:
        ...     for x in torch.randn(60, 3).split(20):
        ...         q = Normal(encoder(x), 1.0)
        ...         loss = run.loss(x, q, Independent(Normal(decoder(q.rsample()), 1.0), 1))
        ...         loss.backward()  # and a step of the optimiser
        >>> run.step_count
        3
    """
    path = Path(path)
    return Recording(
        path if path.suffix == ".h5" else path / RUN_FILE,
        dimension=dimension,
        latent_dim=latent_dim,
        name=name or (path.stem if path.suffix == ".h5" else path.name),
        resume=resume,
        step=step,
        overwrite=overwrite,
        accumulate=accumulate,
        learns_decoder_variance=learns_decoder_variance,
        strict=strict,
        save_every_seconds=save_every_seconds,
        sinks=sinks,
    )


class Recording:
    """A recording at work; made by `record`, whose arguments are explained there."""

    def __init__(
        self,
        path: Path,
        *,
        dimension: int | None,
        latent_dim: int | None,
        name: str,
        resume: bool,
        step: int | None,
        overwrite: bool,
        accumulate: int,
        learns_decoder_variance: bool | None,
        strict: bool,
        save_every_seconds: float,
        sinks: Sequence[Sink | str | Mapping[str, Any]],
    ) -> None:
        self.path = path.absolute()
        self._accumulate, self._strict, self._interval = max(1, accumulate), strict, save_every_seconds
        self._calls: list[Row] = []
        self._told: set[str] = set()
        self._taken = 0
        self._closed = False
        self.last_evaluated: int | None = None
        self._last_transfer = time.monotonic()
        self._keeper: Keeper | None = None
        self._step = step or 0
        if not is_distributed() or torch_distributed.get_rank() == 0:
            self._keeper = Keeper(
                self.path,
                name=name,
                resume=resume,
                step=step,
                overwrite=overwrite,
                interval=save_every_seconds,
                sinks=sinks,
            )
            dimension, latent_dim = dimension or self._keeper.dimension, latent_dim or self._keeper.latent_dim
            if learns_decoder_variance is not None:
                self._keeper.learns = learns_decoder_variance
            self._step = self._keeper.first_step
        self._dimension, self._latent_dim = dimension, latent_dim
        self._flushed = self._step
        self._leaving = Leaving(self.close)
        for name in ("loss", "step"):
            setattr(self, name, outside_of_compiled(getattr(self, name)))

    @property
    def step_count(self) -> int:
        """Number of updates recorded so far."""
        return self._step

    def loss(
        self, x: Tensor, q: Any, p: Any, *, prior: Any = None, beta: float = 1.0, z: Tensor | None = None
    ) -> Tensor:
        """Return −E_q ln p(x|z) + β KL(q ‖ prior), averaged over points, ready for ``backward()``; it is recorded.

        Sums are over dimensions and latents, means over points and samples; half precision is raised to float32.

        Args:
            x: points, shape (B, …).
            q: the posterior: a torch distribution, a `DiagonalGaussian`, or (mean, log_var), shape (B, H).
            p: the decoder's distribution of x for latents drawn from q, of the shape of x, with any axes of samples in
                front: a torch distribution, one of `elboverse.theory.distributions`, or (mean, log_var).
            prior: of the same kinds as q, or with learned parameters; a standard normal by default.
            beta: β.
            z: the samples that were decoded, shape (K, B, H) or (B, H); needed where KL(q ‖ prior) has no closed form.

        Raises:
            DataError: no loss can be returned, because the arguments do not fit; the message says which
                one, and what to pass.
        """
        beta = require_finite_beta(beta)
        with full_precision(x):
            posterior, look = encoded(q, len(x)), self._looks(q)
            distribution = decoded(p, x, look=look)
            require_one_device(x, posterior)
            latents = latent_averages(posterior, seen_prior(prior, posterior), with_samples(z, posterior.mean))
            decoder = decoder_averages(distribution, x)
            kl = latents.total if beta == 1 else beta * latents.total
            total = kl - decoder.log_likelihood
        with self.safely():
            if look:
                self._say(unlikely_values(x, distribution))
            self._take(x, decoder, latents, beta, None)
        return total / self._accumulate if self._accumulate > 1 else total

    def step(
        self,
        x: Tensor | None = None,
        q: Any = None,
        p: Any = None,
        *,
        prior: Any = None,
        beta: float = 1.0,
        z: Tensor | None = None,
        loss: Any = None,
        log_likelihood: Any = None,
        mean: Tensor | None = None,
        log_var: Tensor | None = None,
    ) -> None:
        """Record a step of a loop that has a loss of its own.

        Args:
            x: as for `loss`; not needed with `log_likelihood`.
            q: as for `loss`; or give `mean` and `log_var`.
            p: as for `loss`; or give `log_likelihood`.
            prior: as for `loss`.
            beta: weight of the KL divergence in the loop's loss.
            z: as for `loss`.
            loss: the loop's loss, of which the recorder says at the end what it means.
            log_likelihood: ln p(x|z) in nats per point, a number or a tensor that is averaged: not the loss, its
                negative.
            mean: of a diagonal Gaussian q, shape (B, H).
            log_var: its log-variances.
        """
        with self.safely(), torch.no_grad():
            if q is None:
                if mean is None or log_var is None:
                    raise DataError("q: got None; expected the distribution of z: pass q, or both mean and log_var")
                q = (mean, log_var)
            beta = require_finite_beta(beta)
            posterior, look = encoded(q, None if x is None else len(x)), self._looks(q)
            distribution = None if p is None or x is None else decoded(p, x, look=look)
            require_one_device(x, posterior)
            latents = latent_averages(posterior, seen_prior(prior, posterior), with_samples(z, posterior.mean))
            decoder = None
            if p is not None:
                if x is None or distribution is None:
                    raise DataError("x: got None; expected the points, since p is given: pass x")
                decoder = decoder_averages(distribution, x)
                if look:
                    self._say(unlikely_values(x, distribution))
            if log_likelihood is not None:
                kind = posterior.mean
                value = torch.as_tensor(log_likelihood, dtype=kind.dtype, device=kind.device).mean()
                decoder = (decoder or DecoderAverages(value, None, None, None))._replace(log_likelihood=value)
            if decoder is None:
                raise DataError("p: got None; expected the distribution of x, or log_likelihood in nats per point")
            if self._keeper is not None and loss is not None and self._step == self._keeper.first_step == 0:
                self._keeper.with_loss = True  # which series there are is settled by the first row
            self._take(x, decoder, latents, beta, loss)

    def evaluate(
        self,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Any] | None,
        data: Any,
        *,
        prior: Any = None,
        split: Literal["held_out", "train"] = "held_out",
        samples: int = 8,
        step: int | None = None,
        epoch: int = 0,
    ) -> None:
        """Evaluate the model on points and record it, with standard errors; as often as you like, and by itself enough.

        Args:
            encode: points → q(z|x).
            decode: latents (n, H) → p(x|z), or a mean alone, whose variance is then its mean squared error; None for a
                decoder without a likelihood.
            data: a tensor or an array (points, …), or a loader.
            prior: as for `loss`.
            split: what the points are.
            samples: of the latents of each point.
            step: number of updates done, if steps are not recorded.
            epoch: number of passes done.
        """
        with self.safely():
            done = self._step if step is None else step
            points = as_points(data)
            table = point_table(Callables(encode, decode, prior), points, samples)
            self._dimension = self._dimension or points[0].numel()
            self._latent_dim = self._latent_dim or table.kl.shape[1]
            if table.profiled_log_var is not None:
                self._tell(
                    f"decode gives a mean alone: its variance is taken to be the mean squared error, "
                    f"σ² = {np.exp(table.profiled_log_var):.4g}, so that R_dec is 0 by construction and not judged."
                )
            self._flush()
            if self._keeper is None:
                return
            if table.profiled_log_var is not None:
                self._keeper.learns = False
            self._keeper.dimension, self._keeper.latent_dim = self._dimension, self._latent_dim
            kind = "float64" if points.dtype == torch.float64 else "float32"
            self._keeper.append_evaluation(evaluation_of(table, split, done, epoch), kind)
            self.last_evaluated = done
            self._keeper.save_if_due(self._step)

    def close(self, status: Status = "finished") -> None:
        """Save everything and release the file. May be called again.

        Args:
            status: how it ended.
        """
        if self._closed:
            return
        with self.safely():
            self._flush(alone=status != "finished")
            if self._keeper is not None:
                for sentence in self._keeper.findings():
                    self._tell(sentence)
                self._keeper.save(status, self._step)
        self._closed = True
        self._leaving.dismiss()
        if self._keeper is not None:
            self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self.close("finished" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")

    def _looks(self, q: Any) -> bool:
        """Return whether the values of this call are looked at: now and then, since a device has to wait for that."""
        look = self._taken % ROWS_PER_TRANSFER == 0
        if look:
            require_positive_spread(q)
        return look

    def _say(self, sentences: list[str]) -> None:
        for sentence in sentences:
            if self._strict:
                raise DataError(sentence)
            self._tell(sentence)

    def _fits(self, x: Tensor | None, latent_dim: int) -> None:
        given = None if x is None else x[0].numel()
        self._dimension = self._dimension or given
        self._latent_dim = self._latent_dim or latent_dim
        if given is not None and given != self._dimension:
            raise DataError(
                f"x: got points of {given:,} dimensions; expected {self._dimension:,}, as dimension= of record or the "
                "first points say"
            )
        if latent_dim != self._latent_dim:
            raise DataError(
                f"q: got {latent_dim} latents; expected {self._latent_dim}, as latent_dim= of record or the "
                "first posterior says"
            )

    def _take(
        self, x: Tensor | None, decoder: DecoderAverages, latents: LatentAverages, beta: float, loss: Any
    ) -> None:
        """Keep a step. No kernel is run and nothing is copied but what belongs to the user and changes in place."""
        self._fits(x, len(latents.kl))
        self._taken += 1
        log_var = decoder.log_var
        self._calls.append(
            Row(
                decoder.log_likelihood.detach(),
                None if decoder.log_reference is None else decoder.log_reference.detach(),
                None if decoder.entropy is None else decoder.entropy.detach(),
                None if log_var is None else log_var.detach().clone(),
                beta,
                None if loss is None else torch.as_tensor(loss).detach().clone(),
                latents.kl.detach(),
                latents.encoder_entropy,
                None if latents.prior_entropy is None else latents.prior_entropy.detach(),
                None if latents.prior_log_var is None else latents.prior_log_var.detach().clone(),
            )
        )
        if len(self._calls) % self._accumulate:
            return
        self._step += 1
        waiting = self._step - self._flushed
        waited = waiting % 16 == 0 and time.monotonic() - self._last_transfer > min(
            SECONDS_BETWEEN_TRANSFERS, self._interval
        )
        if waiting >= ROWS_PER_TRANSFER or (waited and not is_distributed()):
            self._flush()
            if self._keeper is not None:
                self._keeper.save_if_due(self._step)

    def _flush(self, *, alone: bool = False) -> None:
        """Bring the rows to the host, once for all of them, and hand them on."""
        self._last_transfer = time.monotonic()
        count, first = self._step - self._flushed, self._flushed
        if not count:
            return
        whole = count * self._accumulate  # calls of an update that is not complete wait
        table = packed(self._calls[:whole]).unflatten(0, (count, self._accumulate)).mean(1)
        self._calls, self._flushed = self._calls[whole:], self._step
        if is_distributed() and not alone:
            torch_distributed.all_reduce(table)
            table = table / torch_distributed.get_world_size()
        if self._keeper is None:
            return
        values = table.cpu().numpy()
        kl = values[:, len(SCALARS) : len(SCALARS) + (self._latent_dim or 0)].sum(1)
        for name, terms, where in (
            ("log_likelihood", values[:, 0], "x, at the decoder's variance"),
            ("kl", kl, "the encoder's mean and log-variance"),
        ):
            finite = np.isfinite(terms)
            if not finite.all():
                self._tell(
                    f"{name} is not finite at step {first + int(np.argmin(finite)):,}: look at {where} and at the "
                    "learning rate. Recording continues."
                )
        self._keeper.dimension, self._keeper.latent_dim = self._dimension, self._latent_dim
        self._keeper.append_rows(first, values)

    @contextmanager
    def safely(self) -> Iterator[None]:
        """Let nothing that goes wrong in the recorder stop the training, unless that is asked for."""
        self._leaving.begin()
        try:
            yield
        except Exception as error:
            if self._strict:
                raise
            text = str(error) if isinstance(error, ElboverseError) else f"{type(error).__name__}: {error}"
            self._tell(f"{text} (not recorded; training continues, pass strict=True to stop here)")
        finally:
            self._leaving.end()

    def _tell(self, sentence: str) -> None:
        """Warn once of each."""
        if sentence not in self._told and len(self._told) < 20:
            self._told.add(sentence)
            warn(f"elboverse.record: {sentence}")
