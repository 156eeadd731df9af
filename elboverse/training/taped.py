"""Gradients from a tape where a model allows it, else from automatic differentiation, to the same numbers.

The tape is made at the first batch. Before it is used it is held against automatic differentiation on other numbers;
where they differ, where operations depend on numbers, or where a model changes itself from call to call, the readable
way stays, and `obstacle` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import torch
from torch import Tensor, nn

from elboverse.training.family_gradients import FamilyGradients
from elboverse.training.flat import FlatGroup
from elboverse.training.gradients import Gradients
from elboverse.training.tape import Tape, Untraceable

__all__ = ["TapedGradients"]

THIN: Final = 256
"""Up to how many dimensions replicas' points are turned over once, rather than by every product that reads them."""

TOLERANCE: Final = 1e3
"""How far, in units of rounding, the gradients of the tape may be from those of automatic differentiation."""


@attrs.frozen(eq=False)
class _Recorded:
    """A tape, the tensors that feed it, and those that it fills."""

    tape: Tape
    x: Tensor
    noise: Tensor | None
    beta: Tensor
    columns: Tensor
    optima: list[Tensor]


class TapedGradients:
    """Writes ∂loss/∂θ to the flat gradients, and returns the columns of a row and the closed-form variances.

    Args:
        gradients: the readable way.
        parameters: the trained parameters by name; their `grad` is their place in the flat gradients.
        groups: the flat groups of these parameters.
        module: the model, whose buffers may change and whose attributes may not.
        buffers: the buffers that a step may change.
        taped: whether a tape is tried at all.

    Attributes:
        obstacle: why the tape is missing, in one line; empty while none is known.
    """

    def __init__(
        self,
        gradients: Gradients | FamilyGradients,
        parameters: Mapping[str, Tensor],
        groups: Sequence[FlatGroup],
        module: nn.Module,
        buffers: Sequence[Tensor],
        *,
        taped: bool,
    ) -> None:
        self._gradients = gradients
        self._parameters = dict(parameters)
        self._places = {name: value.grad for name, value in parameters.items()}
        self._flat = [group.gradients for group in groups]
        self._module = module
        self._buffers = list(buffers)
        self._taped = taped
        self._recorded: _Recorded | None = None
        self.obstacle = ""

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Fill in the gradients of one batch; what is returned is valid until the next call.

        Args:
            x: points, shape (B, D), with R in front for replicas.
            noise: (B, H) or (K, B, H), with R in front for replicas; None for a model that needs no samples.
            beta: the KL weight, shape ().
        """
        found = self._recorded
        if found is None and self._taped and not self.obstacle:
            found = self._recorded = self._record(x, noise, beta)
        if found is None or found.x.shape != x.shape or (noise is not None) != (found.noise is not None):
            return self._readable(x, noise, beta)
        found.x.copy_(x)
        if noise is not None and found.noise is not None:
            if noise.shape != found.noise.shape:
                return self._readable(x, noise, beta)
            found.noise.copy_(noise)
        found.beta.copy_(beta)
        found.tape()
        return found.columns, found.optima

    def _readable(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> tuple[Tensor, list[Tensor]]:
        for name, value in self._parameters.items():
            value.grad = self._places[name]
        for flat in self._flat:
            flat.zero_()
        return self._gradients(x, noise, beta)

    def _record(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> _Recorded | None:
        """Return the tape if there is one that gives the right numbers; the model is left as it was."""
        x, noise, beta = _fed(x), None if noise is None else noise.clone(), beta.clone()
        buffers = [buffer.clone() for buffer in self._buffers]
        generator = torch.get_rng_state()
        before = _attributes(self._module)
        try:
            recorded = self._recorded_on(x, noise, beta)
            self._restore(buffers)
            self._check(recorded, buffers, before)
        except Untraceable as error:
            self.obstacle = str(error)
        except Exception as error:  # noqa: BLE001 - whatever torch raises where an operation cannot be recorded
            self.obstacle = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        else:
            return recorded
        finally:
            self._restore(buffers)
            torch.set_rng_state(generator)
            for name, value in self._parameters.items():
                value.grad = self._places[name]
        return None

    def _recorded_on(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> _Recorded:
        counted = 0

        def run() -> list[Tensor]:
            nonlocal counted
            if self._gradients.in_parts(noise):  # what they hand from part to part is added up in place
                for flat in self._flat:
                    flat.zero_()
            columns, optima = self._gradients(x, noise, beta)
            counted = len(optima)
            filled = [] if self._gradients.in_parts(noise) else [value.grad for value in self._parameters.values()]
            return [columns, *optima, *(grad for grad in filled if grad is not None)]

        def places(results: Sequence[Tensor]) -> list[Tensor]:
            own = [torch.empty_like(result, memory_format=torch.contiguous_format) for result in results[: 1 + counted]]
            targets.extend(own)
            if not self._gradients.in_parts(noise):
                for name, value in self._parameters.items():
                    place = self._places[name]
                    assert place is not None  # noqa: S101 - `flattened` has set it
                    if value.grad is not None:
                        own.append(place)
            return own

        targets: list[Tensor] = []
        for name, value in self._parameters.items():
            value.grad = self._places[name] if self._gradients.in_parts(noise) else None
        for flat in self._flat:
            flat.zero_()
        tape = Tape.record(run, places)
        return _Recorded(tape, x, noise, beta, targets[0], targets[1:])

    def _check(self, recorded: _Recorded, buffers: Sequence[Tensor], attributes: list[dict[str, Any]]) -> None:
        """Hold the tape against automatic differentiation on the points in another order, with other noise and β."""
        if _attributes(self._module) != attributes:
            raise Untraceable("the model changes itself from step to step")
        with torch.no_grad():
            recorded.x.copy_(recorded.x.roll(1, -2))
            if recorded.noise is not None:
                recorded.noise.copy_(recorded.noise.flip(-2) * 0.9)
            recorded.beta.mul_(0.75)
        generator = torch.get_rng_state()
        columns, optima = self._readable(recorded.x, recorded.noise, recorded.beta)
        expected = [*(flat.clone() for flat in self._flat), columns, *optima, *(one.clone() for one in self._buffers)]
        self._restore(buffers)
        torch.set_rng_state(generator)
        recorded.tape()
        found = [*self._flat, recorded.columns, *recorded.optima, *self._buffers]
        for one, other in zip(found, expected, strict=True):
            if not _are_close(one, other):
                raise Untraceable("its numbers differ from those of automatic differentiation")

    def _restore(self, buffers: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for buffer, value in zip(self._buffers, buffers, strict=True):
                buffer.copy_(value)


def _fed(x: Tensor) -> Tensor:
    """Return the points that a tape reads; of replicas with features before points in memory, as layers write them."""
    return x.mT.contiguous().mT if x.ndim > 2 and x.shape[-1] <= THIN else x.clone()


def _are_close(found: Tensor, expected: Tensor) -> bool:
    if not found.is_floating_point():
        return torch.equal(found, expected)
    found, expected = found.detach(), expected.detach()
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite):
        return False
    scale = expected[finite].abs().max() if bool(finite.any()) else 0.0
    allowed = TOLERANCE * torch.finfo(found.dtype).eps * scale
    return bool(((found - expected)[finite].abs() <= allowed).all())


def _attributes(module: nn.Module) -> list[dict[str, Any]]:
    """Return what the parts of a model hold beside tensors and parts, as far as it can be compared."""
    plain = (int, float, str, bool, tuple, type(None))
    return [
        {
            name: len(value) if isinstance(value, (list, dict)) else value
            for name, value in vars(part).items()
            if isinstance(value, (list, dict, *plain)) and not (name.startswith("_") and isinstance(value, dict))
        }
        for part in module.modules()
    ]
