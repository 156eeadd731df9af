"""The loop: from batches to records. It knows no sink, and its whole state is the parameters and the step number."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.contracts import VarianceParameters
from elboverse.contracts.records import GAUSSIAN_LAYOUT, Evaluation, Layout, Record
from elboverse.errors import NonFiniteError
from elboverse.training.batches import Chunk
from elboverse.training.evaluation import Evaluator
from elboverse.training.step import Step
from elboverse.warning import warn

__all__ = ["Loop", "Observer", "Plan", "Source"]

ADVICE: Final = (
    "Everything before it is saved. Lower training.learning_rate or training.variance_learning_rate, or raise the "
    "initial log-variances."
)

ADVICE_BEFORE_TRAINING: Final = (
    "No update was made yet, so the points are to blame, or the initial weights: look at their range with `elboverse "
    'data info`, and scale them with dataset.scaling = "standard".'
)

LONGEST_SILENCE: Final = 1.0
"""Seconds after which a chunk of steps is cut, so that slow steps are shown and saved too."""

MOST_NORMS: Final = 3
"""How many parameters a complaint names with their norms: the largest ones."""


class Source(Protocol):
    """Where the points and the noise of each step come from."""

    chunk: int
    """Steps that are drawn together; a chunk begins at each multiple of it."""

    def draw(self, first_step: int, count: int) -> Chunk:
        """Return those of steps first_step … first_step + count − 1, which lie in one chunk."""
        ...


class Observer(Protocol):
    """Looks at the parameters at each evaluation."""

    def evaluate(self, step: Step, done: int, epoch: int) -> Record:
        """Return what it saw after `done` updates and `epoch` passes."""
        ...


@attrs.frozen(kw_only=True)
class Plan:
    """When the loop does what.

    Args:
        total_steps: T, the length of the run.
        steps_per_epoch: steps in one pass over the training points.
        evaluate_every: steps between two evaluations; there is one before the first and one after the last step.
        turns: steps within a pass before which there is one too, ascending: where the regime of a stream changes.
        record_every: steps between two recorded rows.
        betas: the KL weight of every step, shape (T,).
        rates: what the learning rates of every step are multiplied by, shape (T,); None for 1 throughout.
        frames: after how many steps a frame of an animation is taken, ascending.
    """

    total_steps: int
    steps_per_epoch: int
    evaluate_every: int
    record_every: int
    betas: npt.NDArray[np.float64]
    turns: tuple[int, ...] = ()
    rates: npt.NDArray[np.float64] | None = None
    frames: tuple[int, ...] = ()

    def is_evaluation_due(self, done: int) -> bool:
        """Return whether there is an evaluation after `done` steps."""
        return done % self.evaluate_every == 0 or done % self.steps_per_epoch in self.turns or done >= self.total_steps

    def next_evaluation(self, done: int) -> int:
        """Return the number of steps, more than `done`, after which the next evaluation is due."""
        inside = done % self.steps_per_epoch
        turns = (*self.turns, *(turn + self.steps_per_epoch for turn in self.turns[:1]))
        next_turns = [done - inside + turn for turn in turns if turn > inside][:1]
        return min(self.total_steps, (done // self.evaluate_every + 1) * self.evaluate_every, *next_turns)

    def is_frame_due(self, done: int) -> bool:
        """Return whether a frame is taken after `done` steps."""
        return done in self.frames

    def next_stop(self, done: int) -> int:
        """Return the number of steps, more than `done`, after which an evaluation or a frame is due."""
        later = bisect.bisect_right(self.frames, done)
        return min(self.next_evaluation(done), *self.frames[later : later + 1], self.total_steps)


class Loop:
    """Runs the steps of a plan and yields what happened, in order.

    Nothing is read from the device inside a chunk of steps: their rows are collected there and come to the host at
    once. The order of batches and the noise follow from the step number, so `state` needs no random state.

    Args:
        plan: when to do what.
        step: the update; it holds the parameters.
        batches: the points and the noise of each step.
        observers: what looks at the parameters at each evaluation.
        closed_form: the evaluator whose points give the closed-form variances before each evaluation, with the names
            of the variances; None where variances are learned.
        camera: takes frames where the plan has any; None takes none.
        dimension: D.
        dtype: of the rows.
        device: where the rows are collected.
        layout: what the columns of a row are.
    """

    def __init__(
        self,
        plan: Plan,
        step: Step,
        batches: Source,
        observers: Sequence[Observer],
        closed_form: tuple[Evaluator, VarianceParameters] | None,
        camera: Observer | None = None,
        *,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
        layout: Layout = GAUSSIAN_LAYOUT,
    ) -> None:
        self._layout = layout
        self.plan = plan
        self.done = 0
        self._step = step
        self._batches = batches
        self._observers = tuple(observers)
        self._closed_form = closed_form
        self._camera = camera
        self._dimension = dimension
        self._dtype = dtype
        self._device = device
        self.settle: Callable[[], None] | None = None
        """Called after the steps of a chunk, before anything looks at the parameters."""
        self._stopping = False
        self._look_missing = True
        self._has_told = False

    def stop(self) -> None:
        """Ask the loop to end after the step that it is in; safe to call from a signal handler."""
        self._stopping = True

    @property
    def finished(self) -> bool:
        """Whether all steps of the plan are done."""
        return self.done >= self.plan.total_steps

    @property
    def step(self) -> Step:
        """What holds the parameters."""
        return self._step

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stopping

    def look(self) -> list[Record]:
        """Return what all observers see now.

        Raises:
            NonFiniteError: an evaluated term is infinite or not a number.
        """
        epoch = self.done // self.plan.steps_per_epoch
        records = [observer.evaluate(self._step, self.done, epoch) for observer in self._observers]
        for record in records:
            complaint = self._complaint_about(record) if isinstance(record, Evaluation) else None
            if complaint is not None:
                raise complaint
        return records

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the parameters, buffers and optimiser moments by path, each of shape (R, ...), on the host."""
        return {path: tensor.detach().cpu().numpy().copy() for path, tensor in self._step.tensors().items()}

    def load(self, state: Mapping[str, npt.NDArray[Any]], done: int) -> None:
        """Go on from a state that was saved after `done` steps.

        An evaluation or a frame that belongs there is made again: it follows from the parameters, and changes nothing.

        Args:
            state: of `state`.
            done: how many steps had been done.

        Raises:
            RunFileError: the state does not fit the model.
        """
        self._step.load(state)
        self.done = done
        self._look_missing = self.plan.is_evaluation_due(done) or self.plan.is_frame_due(done)

    def rounds(self) -> Iterator[list[Record]]:
        """Train to the end of the plan, or until stopped, and yield what was recorded, a list per chunk of steps.

        Between two rounds everything up to `done` has been yielded, so that is when `state` may be saved. So it is
        when an error is raised: what came before it has been yielded, and `state` has gone back to there.

        Raises:
            NonFiniteError: a recorded or evaluated term is infinite or not a number.
        """
        if self._look_missing:
            self._look_missing = False
            records, complaint = self._look()
            yield records
            if complaint is not None:
                raise complaint
        while not self.finished and not self._stopping:
            records, complaint = self._chunk()
            if complaint is None:
                if self.settle is not None:
                    self.settle()
                seen, complaint = self._look()
                records += seen
            yield records
            if complaint is not None:
                raise complaint

    def _chunk_end(self) -> int:
        chunk = self._batches.chunk
        return min(self.plan.next_stop(self.done), (self.done // chunk + 1) * chunk)

    def _chunk(self) -> tuple[list[Record], BaseException | None]:
        """Return the records of the next chunk, and what went wrong in it, if anything did."""
        first, count = self.done, self._chunk_end() - self.done
        before = {path: tensor.clone() for path, tensor in self._step.tensors().items()}
        try:
            rows = self._advance(count)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - handed on, whatever a plugin raises
            self._step.load(before)
            self.done = first
            return [], error
        # All steps are looked at, also those that are not recorded: a number that went wrong must not be saved.
        columns = rows.cpu().numpy().reshape(len(rows), self._step.replicas, -1)
        bad = ~np.isfinite(columns).all((1, 2))
        good = int(np.argmax(bad)) if bad.any() else len(rows)
        steps = np.arange(first, first + good)
        due = (steps % self.plan.record_every == 0) | (steps == self.plan.total_steps - 1)
        records: list[Record] = []
        if due.any():
            betas = self.plan.betas[steps[due]]
            records.append(self._layout.rows(steps[due], betas, columns[:good][due], self._dimension))
        if good == len(rows):
            return records, None
        self._step.load(before)
        self.done = first
        if good:
            self._advance(good, interruptible=False)
        last_row = (first + good - 1) // self.plan.record_every * self.plan.record_every  # negative where there is none
        return records, self._complaint(first + good, columns[good], last_row)

    def _advance(self, count: int, *, interruptible: bool = True) -> Tensor:
        """Do the next steps, which lie in one chunk, and return the columns of each on the device.

        Where it may, it ends early when asked to stop, or after `LONGEST_SILENCE`; a chunk can be cut anywhere.
        """
        first, started = self.done, time.monotonic()
        drawn = self._batches.draw(first, count)
        betas = torch.as_tensor(self.plan.betas[first : first + count], dtype=self._dtype)
        betas = betas.to(self._device, non_blocking=True)
        rows, places = betas, betas.unbind(0)
        for index, (x, beta) in enumerate(zip(drawn.x, betas.unbind(0), strict=True)):
            self._step.at(first + index)
            if self.plan.rates is not None:
                self._step.set_rate_factor(float(self.plan.rates[first + index]))
            columns = self._step(x, None if drawn.noise is None else drawn.noise[index], beta)
            if index == 0:
                rows = columns.new_empty((count, *columns.shape))
                places = rows.unbind(0)
            places[index].copy_(columns)
            self.done = first + index + 1
            if index == 0 and not self._has_told:
                self._tell_of_obstacle()
            if interruptible and (self._stopping or time.monotonic() - started > LONGEST_SILENCE):
                break
        return rows[: self.done - first]

    def _tell_of_obstacle(self) -> None:
        """Warn once where steps take longer than they need to."""
        self._has_told = True
        if self._step.obstacle:
            warn(
                f"the training step is differentiated anew each time, since no recording of it can stand for it: "
                f"{self._step.obstacle}. The numbers are the same; small networks take up to five times as long."
            )

    def _complaint(self, number: int, columns: npt.NDArray[Any], last_good: int) -> NonFiniteError:
        """Return the error for a step with columns (R, 2 + 3H) that are not all finite."""
        replica, column = (int(index) for index in np.argwhere(~np.isfinite(columns))[0])
        scalars, per_latent = self._layout.scalars, self._layout.per_latent
        width = len(scalars)
        if column < width:
            term = scalars[column]
        else:
            kind, latent = divmod(column - width, (columns.shape[-1] - width) // len(per_latent))
            term = f"{per_latent[kind]} of latent {latent}"
        before = "no row is good" if last_good < 0 else f"the last good row is step {last_good}"
        return NonFiniteError(
            f"step {number}: {term}{self._of_replica(replica)} is {columns[replica, column]}; {before}. "
            f"{self._norms(replica)}. {ADVICE if self.done else ADVICE_BEFORE_TRAINING}"
        )

    def _norms(self, replica: int) -> str:
        with np.errstate(over="ignore"):  # a norm above the largest number is shown as inf
            norms = {
                path.removeprefix("model/"): float(np.linalg.norm(values[replica].astype(np.float64)))
                for path, values in self.state().items()
                if path.startswith("model/")
            }
        largest = sorted(norms, key=lambda name: -np.nan_to_num(norms[name], nan=np.inf))[:MOST_NORMS]
        listed = ", ".join(f"{name} {norms[name]:.3g}" for name in largest)
        return f"After {self.done} updates the largest parameter norms are {listed}"

    def _of_replica(self, replica: int) -> str:
        return f" of replica {replica}" if self._step.replicas > 1 else ""

    def _look(self) -> tuple[list[Record], BaseException | None]:
        """Return the evaluations and the frame that are due now, and what went wrong, if anything did."""
        records: list[Record] = []
        if self.plan.is_evaluation_due(self.done):
            records, complaint = self._evaluate()
            if complaint is not None:
                return [], complaint
        if self._camera is not None and self.plan.is_frame_due(self.done):
            try:
                records.append(self._camera.evaluate(self._step, self.done, self.done // self.plan.steps_per_epoch))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as in a step
                return records, error
        return records, None

    def _evaluate(self) -> tuple[list[Record], BaseException | None]:
        """Return what all observers saw, and what went wrong, if anything did."""
        try:
            if self._closed_form is not None and self.done > 0:
                evaluator, names = self._closed_form
                self._step.set_closed_form(evaluator.closed_form(self._step, self.done, names))
            epoch = self.done // self.plan.steps_per_epoch
            records = [observer.evaluate(self._step, self.done, epoch) for observer in self._observers]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as in a step
            return [], error
        for record in records:
            complaint = self._complaint_about(record) if isinstance(record, Evaluation) else None
            if complaint is not None:
                return [], complaint
        return records, None

    def _complaint_about(self, evaluation: Evaluation) -> NonFiniteError | None:
        for name, values in {**evaluation.scalars, **evaluation.per_latent}.items():
            if not np.isfinite(values).all():
                replica, *latent = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
                term = f"{name} of latent {latent[0]}" if latent else name
                return NonFiniteError(
                    f"evaluation after {self.done} updates: {term} on {evaluation.split}{self._of_replica(replica)} is "
                    f"{values[replica, *latent]}. {self._norms(replica)}. "
                    f"{ADVICE if self.done else ADVICE_BEFORE_TRAINING}"
                )
        return None
