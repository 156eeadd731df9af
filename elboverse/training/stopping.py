"""Training until it is stationary: mini-batches, learning rates lowered on a stall, a polish, the certificate.

`UntilStationary` drives a `Loop` and looks like one to whoever walks a run. A replica goes through three phases:

    mini-batches  →  polish (full-batch L-BFGS, a step of its own per iteration)  →  ended, with its certificate

Each replica passes from one to the next for itself; one that waits keeps its parameters. Decisions are made at
evaluations alone and follow from what was recorded, and all that they depend on is in `state`, so that a run which is
interrupted anywhere ends bitwise as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt
import torch

from elboverse.config import TrainingConfig
from elboverse.contracts.records import Evaluation, Record, Rows
from elboverse.theory import identities
from elboverse.theory.certificate import Certificate
from elboverse.theory.identities import LOG_VAR_FLOOR
from elboverse.training.averages import Averages
from elboverse.training.certifying import certify
from elboverse.training.full_batch import FullBatch
from elboverse.training.loop import Loop, Plan
from elboverse.training.polish import Polish

__all__ = ["UntilStationary", "certificates_of"]

FACTOR: Final = 3.0
"""By how much the learning rates are lowered on a stall."""

MOST_LOWERED: Final = 3
"""How often they are lowered before mini-batches have done what they can."""

PATIENCE: Final = 8
"""How many evaluations are averaged, before and after, to see a trend; what the learning rate makes them scatter by is
often more than what they gain, so that it must not count as a stall."""

EXACT_GAIN: Final = 1e-10
"""The gain in nats over a window of the polish at which an exact objective is at its optimum."""

TIMES_FITTED: Final = 3.0
"""How many times the gain on fresh samples the gain on its own may be before a polish takes more samples."""

MOST_ROWS: Final = 1 << 17
"""Points times samples up to which a polish takes more samples."""

MOST_RESTARTS: Final = 3
"""How often the dead latents of a replica are begun anew."""

DIVERGED: Final = 1e4
"""A weight above which weights are said to diverge."""

MINIBATCH, POLISH, ENDED = 0, 1, 2
_OWN: Final = "until/"
_POLISH: Final = "polish/"


class UntilStationary:
    """Runs a loop until the training certificate holds.

    Args:
        loop: the mini-batch loop; its plan allows as many steps as mini-batches may take.
        objective: returns the full-batch objective of a replica.
        settings: tolerance, polish_steps and dtype are used.
    """

    def __init__(
        self,
        loop: Loop,
        objective: Callable[[int], FullBatch],
        settings: TrainingConfig,
    ) -> None:
        self._loop = loop
        self._objectives: dict[int, FullBatch] = {}
        self._objective = objective
        self._tolerance = settings.tolerance
        self._polish_steps = settings.polish_steps
        self._dtype = settings.dtype
        self._most = loop.plan.total_steps
        replicas = loop.step.replicas
        self._phase = np.zeros(replicas, dtype=np.int64)
        self._polished = np.zeros(replicas, dtype=np.int64)
        self._restarts = np.zeros(replicas, dtype=np.int64)
        self._decided = 0
        self._lowered = 0
        self._history: list[list[float]] = []
        self._polishes: dict[int, Polish] = {}
        self._frozen: dict[str, npt.NDArray[Any]] = {}
        self._frozen_rows: dict[int, dict[str, Any]] = {}
        self.certificates: dict[int, Certificate] = {}
        loop.settle = self._settle

    @property
    def plan(self) -> Plan:
        """What is the most that may come: mini-batch steps and then those of a polish."""
        plan = self._loop.plan
        return attrs.evolve(plan, total_steps=self._most + self._polish_steps)

    @property
    def step(self) -> Any:
        """What holds the parameters."""
        return self._loop.step

    @property
    def done(self) -> int:
        """How many steps are done, those of the polish among them."""
        return self._loop.done

    @property
    def finished(self) -> bool:
        """Whether every replica has ended."""
        return bool((self._phase == ENDED).all())

    def stop(self) -> None:
        """Ask it to end after the step that it is in; safe to call from a signal handler."""
        self._loop.stop()

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return parameters and optimiser as a loop does, and what decisions depend on, by path."""
        arrays = self._loop.state()
        arrays[f"{_OWN}phase"] = self._phase.copy()
        arrays[f"{_OWN}polished"] = self._polished.copy()
        arrays[f"{_OWN}restarts"] = self._restarts.copy()
        arrays[f"{_OWN}counts"] = np.asarray([self._decided, self._lowered], dtype=np.int64)
        if self._history:
            arrays[f"{_OWN}history"] = np.asarray(self._history, dtype=np.float64)
        for replica, rows in self._frozen_rows.items():
            for name, array in rows.items():
                arrays[f"{_OWN}rows/{replica}/{name}"] = np.asarray(array)
        for replica, polish in self._polishes.items():
            for name, array in polish.state().items():
                arrays[f"{_POLISH}{replica}/{name}"] = array
        return arrays

    def load(self, state: Mapping[str, npt.NDArray[Any]], done: int) -> None:
        """Go on from a state that was saved after `done` steps, of a run with or without this.

        Raises:
            RunFileError: the state does not fit the model.
        """
        own = {path: array for path, array in state.items() if path.startswith((_OWN, _POLISH))}
        self._loop.load({path: array for path, array in state.items() if path not in own}, done)
        if f"{_OWN}phase" not in own:
            return
        self._phase = np.array(own[f"{_OWN}phase"])
        self._polished = np.array(own[f"{_OWN}polished"])
        self._restarts = np.array(own.get(f"{_OWN}restarts", np.zeros_like(self._phase)))
        self._decided, self._lowered = (int(count) for count in own[f"{_OWN}counts"])
        self._history = [list(row) for row in own.get(f"{_OWN}history", [])]
        self._loop.step.scale_learning_rates(FACTOR**-self._lowered)
        for replica in np.flatnonzero(self._phase == POLISH).tolist():
            prefix = f"{_POLISH}{replica}/"
            arrays = {path.removeprefix(prefix): array for path, array in own.items() if path.startswith(prefix)}
            if arrays:
                polish = Polish(self._full(replica), self._tensors(replica), start=False)
                polish.load(arrays)
                self._polishes[replica] = polish
        self._freeze()
        for replica, rows in self._frozen_rows.items():
            prefix = f"{_OWN}rows/{replica}/"
            rows.update({path.removeprefix(prefix): a for path, a in own.items() if path.startswith(prefix)})

    def extend(self) -> bool:
        """Let replicas that ended without the certificate go on, where there are steps left; return whether any do."""
        for replica in np.flatnonzero(self._phase == ENDED):
            if self._polished[replica] < self._polish_steps:
                self._restarts[replica] = 0
                self._phase[replica] = POLISH
        return not self.finished

    def rounds(self) -> Iterator[list[Record]]:
        """Train and yield what was recorded, as a loop does.

        Raises:
            NonFiniteError: a recorded or evaluated term is infinite or not a number.
        """
        if (self._phase == MINIBATCH).any():
            for records in self._loop.rounds():
                self._still(records)
                yield records
                self._decide(records)
                if not (self._phase == MINIBATCH).any():
                    break
            if self._loop.is_stopping and self._loop.done < self._most and (self._phase == MINIBATCH).any():
                return
            self._phase[self._phase == MINIBATCH] = POLISH
        while not self.finished and not self._loop.is_stopping:
            yield self._polish_round()

    def document(self) -> dict[str, Any]:
        """Return the certificates of all replicas for the run file."""
        return certificates_of(self.certificates, self.done)

    def _decide(self, records: Sequence[Record]) -> None:
        """Look at the evaluation on training points, if there is one, and let replicas pass on or lower the rates."""
        for record in records:
            if not isinstance(record, Evaluation) or record.split != "train" or record.step <= self._decided:
                continue
            self._decided = record.step
            elbo = np.asarray(record.scalars["elbo"], dtype=np.float64)
            mismatch = 2 * np.abs(np.asarray(record.per_latent["prior_residual"])).max(-1)
            self._history.append([*elbo, *mismatch])
            waiting = self._phase == MINIBATCH
            if self._full(0).is_exact:
                self._phase[waiting] = POLISH
            elif self._has_stalled():
                if self._lowered < MOST_LOWERED:
                    self._lowered += 1
                    self._history = self._history[-1:]
                    self._loop.step.scale_learning_rates(FACTOR**-self._lowered)
                else:
                    self._phase[waiting] = POLISH
            self._freeze()

    def _has_stalled(self) -> bool:
        """Return whether no replica that still trains has risen by what the tolerance is worth, on average."""
        waiting = np.flatnonzero(self._phase == MINIBATCH)
        if len(self._history) <= 2 * PATIENCE or len(waiting) == 0:
            return False
        elbo = np.asarray(self._history)[:, waiting]
        before, after = elbo[-2 * PATIENCE : -PATIENCE], elbo[-PATIENCE:]
        return bool((after.mean(0) - before.mean(0) <= self._worth()).all())

    def _worth(self) -> float:
        """Return what mismatches of the tolerance in all variances cost, in nats."""
        full = self._full(0)
        return 0.25 * self._tolerance**2 * (full.dimension + full.latent_dim)

    def _polish_round(self) -> list[Record]:
        """Do one iteration for every replica that is polished, and return the row, and the evaluations of the end."""
        step = self._loop.done
        averages: list[Averages] = []
        for replica in range(len(self._phase)):
            if self._phase[replica] == ENDED:
                averages.append(self._full(replica).terms(self._theta(replica), "polish"))
                continue
            if replica not in self._polishes:
                self._polishes[replica] = Polish(self._full(replica), self._tensors(replica))
            averages.append(self._polishes[replica].step())
            self._polished[replica] += 1
        self._loop.done = step + 1
        for replica, polish in list(self._polishes.items()):
            self._end_if_done(replica, polish)
        self._write_back()
        records: list[Record] = [self._row(step, averages)]
        if self.finished:
            records += self._loop.look()
        return records

    def _end_if_done(self, replica: int, polish: Polish) -> None:
        full, last = polish.objective, self._polished[replica] >= self._polish_steps
        theta, gain = polish.theta, (polish.gain or 0.0, 0.0)
        if full.is_exact:
            if not last and (polish.gain is None or polish.gain > EXACT_GAIN):
                return
        elif last or polish.is_check_due:
            theta, *rise = polish.check()
            gain = (rise[0], rise[1])
            if not last and self._goes_on(polish, theta, gain[0]):
                return
            theta = full.with_closed_form(theta, "end", within=0.25 * self._tolerance)
        else:
            return
        found = certify(full, theta, self._tolerance, gain=gain)
        last = last or (bool(found.saddle) and self._restarts[replica] >= MOST_RESTARTS)
        if found.verdict != "stationary" and not last:
            if found.saddle:
                self._restarts[replica] += 1
                polish.begin_at(full.restarted(theta, sorted(found.saddle)))
            return
        if found.verdict != "stationary":
            found = attrs.evolve(found, obstacle=self._obstacle(found, replica, theta))
        self.certificates[replica] = found
        polish.begin_at(theta)
        self._phase[replica] = ENDED

    def _goes_on(self, polish: Polish, theta: torch.Tensor, rise: float) -> bool:
        """Return whether the polish has more to gain; take more samples where it gains on its own ones alone.

        Args:
            polish: at a check.
            theta: the better point of this check and the one before.
            rise: of the objective between them, on samples of neither.
        """
        full, worth, own = polish.objective, 0.5 * self._worth(), polish.gain or 0.0
        fits_samples = own > worth and own > TIMES_FITTED * rise
        if fits_samples and 2 * full.samples * full.count <= MOST_ROWS:
            polish.take_more_samples(theta)
            return True
        return rise > worth

    def _obstacle(self, found: Certificate, replica: int, theta: torch.Tensor) -> str:
        """Return what kept a replica from its certificate."""
        spent = f"the {self._polish_steps} iterations of the polish are spent"
        if found.saddle:
            return f"dead latents were begun anew {self._restarts[replica]} times and collapsed again"
        low = self._full(replica).terms(theta, "end").decoder_log_var
        if low <= LOG_VAR_FLOOR + 1e-6:
            return f"the decoder variance is held at its floor (ln σ² = {low:.3g}), where its residual cannot vanish"
        largest = float(theta.abs().max())
        if largest > DIVERGED:
            return f"weights diverge (the largest is {largest:.2g}): the ELBO has no maximum at finite weights"
        if found.is_rising:
            return f"{spent} and the ELBO still rises; allow more by training.max_epochs or training.polish_steps"
        if found.is_gain_unknown:
            return (
                f"{spent}, and what is still to gain is not known to the tolerance; allow more by training.polish_steps"
            )
        if found.verdict == "undecided":
            return f"{spent}, and {found.samples} Monte-Carlo samples of each point do not decide {found.largest.name}"
        return f"{spent}; allow more by training.polish_steps"

    def _write_back(self) -> None:
        """Put the parameters of all polishes where the loop has them."""
        tensors = {path: tensor.clone() for path, tensor in self._loop.step.tensors().items()}
        for replica, polish in list(self._polishes.items()):
            for name, value in polish.objective.tensors(polish.theta).items():
                tensors[f"model/{name}"][replica] = value.to(tensors[f"model/{name}"])
            if self._phase[replica] == ENDED:
                del self._polishes[replica]
        self._loop.step.load(tensors)

    def _row(self, step: int, averages: Sequence[Averages]) -> Rows:
        """Return the row of one iteration, in the series that a run has."""

        def stacked(name: str) -> npt.NDArray[Any]:
            return np.stack([np.asarray(getattr(one, name)) for one in averages])[None].astype(self._dtype)

        kl, log_likelihood, prior = stacked("kl"), stacked("log_likelihood"), stacked("prior_log_var")
        beta = self._full(0).beta
        return Rows(
            np.asarray([step]),
            {
                "beta": np.full_like(log_likelihood, beta),
                "elbo": identities.elbo(log_likelihood, kl),
                "log_likelihood": log_likelihood,
                "decoder_entropy": stacked("decoder_entropy"),
                "decoder_log_var": stacked("decoder_log_var"),
            },
            {
                "kl": kl,
                "encoder_entropy": stacked("encoder_entropy"),
                "prior_entropy": identities.gaussian_entropy(prior),
                "prior_log_var": prior,
            },
        )

    def _full(self, replica: int) -> FullBatch:
        if replica not in self._objectives:
            self._objectives[replica] = self._objective(replica)
        return self._objectives[replica]

    def _tensors(self, replica: int) -> dict[str, torch.Tensor]:
        return {
            path.removeprefix("model/"): tensor[replica].detach().clone()
            for path, tensor in self._loop.step.tensors().items()
            if path.startswith("model/")
        }

    def _theta(self, replica: int) -> torch.Tensor:
        return self._full(replica).load(self._tensors(replica))

    def _freeze(self) -> None:
        """Keep the parameters of replicas that wait for the others."""
        tensors = self._loop.state()
        for path, array in tensors.items():
            if not path.startswith("optimizer/step/"):
                kept = self._frozen.setdefault(path, array.copy())
                running = self._phase == MINIBATCH
                fresh = running | np.asarray([replica not in self._frozen_rows for replica in range(len(running))])
                kept[fresh] = array[fresh]
        for replica in np.flatnonzero(self._phase != MINIBATCH):
            self._frozen_rows.setdefault(int(replica), {})

    def _settle(self) -> None:
        """Give replicas that wait their parameters back, which a step of all together has moved."""
        waiting = np.flatnonzero(self._phase != MINIBATCH)
        if not len(waiting) or not self._frozen:
            return
        tensors = {path: tensor.clone() for path, tensor in self._loop.step.tensors().items()}
        for path, kept in self._frozen.items():
            tensors[path][waiting] = torch.as_tensor(kept[waiting]).to(tensors[path])
        self._loop.step.load(tensors)

    def _still(self, records: Sequence[Record]) -> None:
        """Record what a replica that waits was when it began to, not what a step of all together made of it."""
        for record in records:
            if not isinstance(record, Rows):
                continue
            series = {**record.scalars, **record.per_latent}
            for replica, rows in self._frozen_rows.items():
                for name, values in series.items():
                    if name == "beta":
                        continue
                    rows.setdefault(name, np.array(values[0, replica]))
                    values[:, replica] = rows[name]


def certificates_of(certificates: Mapping[int, Certificate], step: int) -> dict[str, Any]:
    """Return certificates by replica as a document of a run file.

    Args:
        certificates: by the number of the replica.
        step: number of updates done.
    """
    return {"step": step, "replicas": [certificates[replica].table() for replica in sorted(certificates)]}
