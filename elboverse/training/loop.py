"""The loop: from batches to records. It knows no sink, and its whole state is the parameters and the step number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.contracts import VarianceParameters
from elboverse.errors import NonFiniteError
from elboverse.training.batches import Batches
from elboverse.training.evaluation import Evaluator
from elboverse.training.records import LATENT_COLUMNS, SCALAR_COLUMNS, Record, rows_from_columns
from elboverse.training.step import Step

__all__ = ["Loop", "Observer", "Plan"]


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
        record_every: steps between two recorded rows.
        betas: the KL weight of every step, shape (T,).
    """

    total_steps: int
    steps_per_epoch: int
    evaluate_every: int
    record_every: int
    betas: npt.NDArray[np.float64]


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
        dimension: D.
        dtype: of the rows.
        device: where the rows are collected.
    """

    def __init__(
        self,
        plan: Plan,
        step: Step,
        batches: Batches,
        observers: Sequence[Observer],
        closed_form: tuple[Evaluator, VarianceParameters] | None,
        *,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.done = 0
        self._step = step
        self._batches = batches
        self._observers = tuple(observers)
        self._closed_form = closed_form
        self._dimension = dimension
        self._dtype = dtype
        self._device = device
        self._stopping = False
        self._evaluated_start = False

    def stop(self) -> None:
        """Ask the loop to end after the step that it is in; safe to call from a signal handler."""
        self._stopping = True

    @property
    def finished(self) -> bool:
        """Whether all steps of the plan are done."""
        return self.done >= self.plan.total_steps

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the parameters, buffers and optimiser moments by path, each of shape (R, ...), on the host."""
        return {path: tensor.detach().cpu().numpy().copy() for path, tensor in self._step.tensors().items()}

    def load(self, state: Mapping[str, npt.NDArray[Any]], done: int) -> None:
        """Go on from a state that was saved after `done` steps.

        Args:
            state: of `state`.
            done: how many steps had been done.

        Raises:
            RunFileError: the state does not fit the model.
        """
        self._step.load(state)
        self.done = done
        self._evaluated_start = True

    def rounds(self) -> Iterator[list[Record]]:
        """Train to the end of the plan, or until stopped, and yield what was recorded, a list per chunk of steps.

        Between two rounds everything up to `done` has been yielded, so that is when `state` may be saved.

        Raises:
            NonFiniteError: a recorded term is infinite or not a number; the rows before it have been yielded.
        """
        if not self._evaluated_start:
            self._evaluated_start = True
            yield self._evaluate()
        while not self.finished and not self._stopping:
            records, complaint = self._chunk()
            if complaint is not None:
                yield records
                raise complaint
            if self.done % self.plan.evaluate_every == 0 or self.finished:
                records += self._evaluate()
            yield records

    def _chunk_end(self) -> int:
        plan, chunk = self.plan, self._batches.chunk
        until_evaluation = (self.done // plan.evaluate_every + 1) * plan.evaluate_every
        until_noise = (self.done // chunk + 1) * chunk
        return min(plan.total_steps, until_evaluation, until_noise)

    def _chunk(self) -> tuple[list[Record], NonFiniteError | None]:
        first, count = self.done, self._chunk_end() - self.done
        drawn = self._batches.draw(first, count)
        betas = torch.as_tensor(self.plan.betas[first : first + count], dtype=self._dtype).to(self._device)
        rows: list[Tensor] = []
        recorded: list[int] = []
        step, record_every, last = self._step, self.plan.record_every, self.plan.total_steps - 1
        for index, (x, beta) in enumerate(zip(drawn.x, betas.unbind(0), strict=True)):
            columns = step(x, None if drawn.noise is None else drawn.noise[index], beta)
            number = first + index
            if number % record_every == 0 or number == last:
                rows.append(columns)
                recorded.append(number)
            self.done = number + 1
            if self._stopping:
                break
        return self._report(recorded, torch.stack(rows).cpu().numpy()) if rows else ([], None)

    def _report(self, recorded: list[int], columns: npt.NDArray[Any]) -> tuple[list[Record], NonFiniteError | None]:
        columns = columns.reshape(len(recorded), self._step.replicas, -1)
        steps = np.asarray(recorded, dtype=np.int64)
        bad = ~np.isfinite(columns).all((1, 2))
        good = int(np.argmax(bad)) if bad.any() else len(recorded)
        rows: list[Record] = (
            [rows_from_columns(steps[:good], self.plan.betas[steps[:good]], columns[:good], self._dimension)]
            if good
            else []
        )
        return rows, self._complaint(recorded, columns, good) if good < len(recorded) else None

    def _complaint(self, recorded: list[int], columns: npt.NDArray[Any], first_bad: int) -> NonFiniteError:
        replica, column = (int(index) for index in np.argwhere(~np.isfinite(columns[first_bad]))[0])
        width = len(SCALAR_COLUMNS)
        if column < width:
            term = SCALAR_COLUMNS[column]
        else:
            kind, latent = divmod(column - width, (columns.shape[-1] - width) // len(LATENT_COLUMNS))
            term = f"{LATENT_COLUMNS[kind]} of latent {latent}"
        where = f" of replica {replica}" if self._step.replicas > 1 else ""
        before = f"the last good row is step {recorded[first_bad - 1]}" if first_bad else "no row of this chunk is good"
        return NonFiniteError(
            f"step {recorded[first_bad]}: {term}{where} is {columns[first_bad, replica, column]}; {before}. "
            "Everything before it is saved. Lower training.learning_rate, or raise the initial log-variances."
        )

    def _evaluate(self) -> list[Record]:
        if self._closed_form is not None and self.done > 0:
            evaluator, names = self._closed_form
            self._step.set_closed_form(evaluator.closed_form(self._step, names))
        epoch = self.done // self.plan.steps_per_epoch
        return [observer.evaluate(self._step, self.done, epoch) for observer in self._observers]
