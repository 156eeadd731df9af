"""The polish: full-batch L-BFGS on the objective itself, after mini-batches have come near its optimum.

The objective is exact for a sampling-free model and has common random numbers for the others, so that every evaluation
is the same function and a line search means something. Each iteration is a step of its own. All state is in arrays, so
that a polish which is saved and loaded goes on bitwise.

Sources: Liu and Nocedal 1989; strong Wolfe line search as in Nocedal and Wright 2006, §3.5 (both in `torch.optim`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.training.averages import Averages
from elboverse.training.full_batch import FullBatch

__all__ = ["Polish"]

HISTORY: Final = 30
"""How many pairs of steps and gradient differences L-BFGS keeps."""

WINDOW: Final = 10
"""Over how many iterations the gain is looked at."""

REFRESHED: Final = 20
"""After how many iterations the curvature of all directions is worked out anew, where it is."""

_LABEL: Final = "polish"
_CARRIED: Final = ("d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")
_LISTS: Final = ("old_dirs", "old_stps", "ro")


class Polish:
    """L-BFGS on one replica.

    Args:
        objective: of the replica.
        tensors: the model's parameters and buffers by name, where it begins.
        start: false where `load` follows.
        closed_form: begin with the closed-form variances over all points.
    """

    def __init__(
        self, objective: FullBatch, tensors: Mapping[str, Any], *, start: bool = True, closed_form: bool = True
    ) -> None:
        self.objective = objective
        theta = objective.load(tensors)
        if start and closed_form:
            theta = objective.with_closed_form(theta, _LABEL)
        self._origin = theta
        self._scale = objective.scale(theta) if start else None
        self._phi = torch.zeros_like(theta).requires_grad_(True)
        self.values: list[float] = []
        self._anchor = theta.clone()
        self._checks = 0
        self._known: tuple[Tensor, Tensor, Tensor, Averages] | None = None
        self._optimizer = self._new_optimizer()

    @property
    def theta(self) -> Tensor:
        """The parameters, shape (P,)."""
        phi = self._phi.detach()
        return self._origin + (phi if self._scale is None else self._scale @ phi)

    @property
    def gain(self) -> float | None:
        """By how much the objective rose over the last `WINDOW` iterations; None before there were as many."""
        return None if len(self.values) <= WINDOW else self.values[-1] - self.values[-1 - WINDOW]

    @property
    def is_check_due(self) -> bool:
        """Whether `WINDOW` more iterations are done since the beginning, or since the samples became more."""
        return len(self.values) > WINDOW and (len(self.values) - 1) % WINDOW == 0

    def check(self) -> tuple[Tensor, float, float]:
        """Return the better point of now and of the last check, by how much the objective rose, and the standard error.

        Both are seen with samples that no iteration has used: what the iterations gain by fitting their own samples
        does not count.
        """
        now = self.theta
        rise, error = self.objective.paired_gain(self._anchor, now, "check", self._checks)
        better = now if rise >= 0 else self._anchor
        self._checks += 1
        self._anchor = now.clone()
        return better, rise, error

    def take_more_samples(self, theta: Tensor) -> None:
        """Double the samples of each point, and go on from some parameters."""
        self.objective.samples *= 2
        self.begin_at(theta)

    def step(self) -> Averages:
        """Do one iteration and return the terms of before it."""
        if len(self.values) % REFRESHED == REFRESHED - 1 and self._scale is not None:
            self._centre(self.theta)
        value, _, before = self._evaluated()
        if not self.values:
            self.values.append(-float(value))
        start = self.theta
        self._optimizer.step(self._closure)
        after, gradient, _ = self._evaluated()
        if not (torch.isfinite(after) and torch.isfinite(gradient).all() and after <= value):
            self._centre(start)  # the line search failed: begin anew from the best point with the gradient alone
            after = value
        self.values.append(-float(after))
        return before

    def begin_at(self, theta: Tensor) -> None:
        """Go to other parameters and forget the curvature."""
        self.values = []
        self._anchor = theta.clone()
        self._centre(theta)

    def terms(self) -> Averages:
        """Return the terms where it is."""
        return self._evaluated()[2]

    def gradient(self) -> Tensor:
        """Return the gradient of minus the objective where it is, shape (P,)."""
        return self._evaluated()[1]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that a later `load` needs, by name."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "origin": self._origin.cpu().numpy().copy(),
            "phi": self._phi.detach().cpu().numpy().copy(),
            "values": np.asarray(self.values, dtype=np.float64),
            "anchor": self._anchor.cpu().numpy().copy(),
            "looks": np.asarray([self._checks, self.objective.samples], dtype=np.int64),
        }
        state = self._optimizer.state[self._phi]
        if "n_iter" in state:
            arrays["counts"] = np.asarray([state["n_iter"], state["func_evals"]], dtype=np.int64)
        for name in _CARRIED:
            value = state.get(name)
            if name in _LISTS:
                value = torch.stack(list(value)) if value else None
            if value is not None:
                arrays[name] = torch.as_tensor(value, dtype=torch.float64).cpu().numpy().copy()
        return arrays

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        if "looks" in arrays:
            self._checks, self.objective.samples = (int(count) for count in arrays["looks"])
        self._centre(torch.as_tensor(arrays["origin"]))
        self._anchor = torch.as_tensor(arrays.get("anchor", arrays["origin"])).clone()
        with torch.no_grad():
            self._phi.copy_(torch.as_tensor(arrays["phi"]))
        self.values = [float(value) for value in arrays["values"]]
        if "counts" not in arrays:
            return
        state = self._optimizer.state[self._phi]
        state["n_iter"], state["func_evals"] = (int(count) for count in arrays["counts"])
        for name in _CARRIED:
            value = torch.as_tensor(arrays[name]).to(self._phi) if name in arrays else None
            if name in _LISTS:
                state[name] = [] if value is None else [part.clone() for part in value.unbind(0)]
            elif name in {"t", "prev_loss"}:
                state[name] = None if value is None else float(value)
            else:
                state[name] = value
        state["al"] = [None] * HISTORY

    def _centre(self, theta: Tensor) -> None:
        """Begin anew from parameters, with the curvature there."""
        self._known = None
        self._origin = theta.clone()
        self._scale = self.objective.scale(theta)
        self._phi = torch.zeros_like(theta).requires_grad_(True)
        self._optimizer = self._new_optimizer()

    def _new_optimizer(self) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [self._phi],
            max_iter=1,
            max_eval=20,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

    def _closure(self) -> Tensor:
        value, gradient, _ = self._evaluated()
        self._phi.grad = gradient.clone() if self._scale is None else self._scale.T @ gradient
        return value

    def _evaluated(self) -> tuple[Tensor, Tensor, Averages]:
        """Return value, gradient and terms here; the last point's are kept, since L-BFGS asks for them again."""
        theta = self.theta
        if self._known is None or not torch.equal(self._known[0], theta):
            value, gradient, terms = self.objective.value_and_gradient(theta, _LABEL)
            self._known = (theta, value, gradient, terms)
        return self._known[1:]
