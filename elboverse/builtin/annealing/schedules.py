"""The four schedules, each a formula in the step t of T. This module imports no torch."""

from __future__ import annotations

import math
from typing import Any

import attrs

from elboverse.config.structuring import in_range
from elboverse.errors import ConfigError

__all__ = [
    "Constant",
    "ConstantOptions",
    "Cyclical",
    "CyclicalOptions",
    "Linear",
    "LinearOptions",
    "Sigmoid",
    "SigmoidOptions",
]


def _weight(default: float) -> Any:
    return attrs.field(default=default, validator=in_range(minimum=0))


def _require_change(start: float, end: float) -> None:
    if start == end:
        raise ValueError(
            f'start and end are both {start:g}, so the schedule changes nothing; use name = "constant" for a fixed β'
        )


@attrs.frozen(kw_only=True)
class ConstantOptions:
    """Options of the constant schedule.

    Args:
        weight: β.
    """

    weight: float = _weight(1.0)


@attrs.frozen
class Constant:
    """β is the same in every step."""

    options: ConstantOptions

    def weight(self, step: int, total_steps: int) -> float:  # noqa: ARG002 - the kind's signature
        """Return β."""
        return self.options.weight


@attrs.frozen(kw_only=True)
class LinearOptions:
    """Options of the linear schedule; by default the paper's, 0 → 1 over the first 30 % of the run.

    Args:
        start: β at the first step.
        end: β from the end of the rise on.
        fraction: the share of the run that the rise takes, 0 < f ≤ 1.
    """

    start: float = _weight(0.0)
    end: float = _weight(1.0)
    fraction: float = attrs.field(default=0.3, validator=in_range(above=0, maximum=1))

    def __attrs_post_init__(self) -> None:
        _require_change(self.start, self.end)


@attrs.frozen
class Linear:
    """β = start + (end − start) min(1, t/max(1, f (T − 1))), so that the rise ends within the run."""

    options: LinearOptions

    def weight(self, step: int, total_steps: int) -> float:
        """Return β at step t of T; `end` is reached in the last step at the latest.

        Raises:
            ConfigError: the run has one step only, in which nothing can rise.
        """
        if total_steps < 2:
            raise ConfigError('annealing: got "linear", but the run has one step only; train longer or use "constant"')
        rise = max(1.0, self.options.fraction * (total_steps - 1))
        return self.options.start + (self.options.end - self.options.start) * min(1.0, step / rise)


@attrs.frozen(kw_only=True)
class CyclicalOptions:
    """Options of the cyclical schedule; the defaults are those of Fu et al. 2019.

    Args:
        start: β at the start of each cycle.
        end: β from the end of each rise on.
        cycles: M, the number of cycles.
        fraction: the share of a cycle that its rise takes, 0 < f ≤ 1.
    """

    start: float = _weight(0.0)
    end: float = _weight(1.0)
    cycles: int = attrs.field(default=4, validator=in_range(minimum=1))
    fraction: float = attrs.field(default=0.5, validator=in_range(above=0, maximum=1))

    def __attrs_post_init__(self) -> None:
        _require_change(self.start, self.end)


@attrs.frozen
class Cyclical:
    """β = start + (end − start) min(1, τ/f), τ = (t mod L)/L, L = ⌈T/M⌉ (Fu et al. 2019, equations 6 and 7).

    With f = 1 a cycle ends one step short of `end`.
    """

    options: CyclicalOptions

    def weight(self, step: int, total_steps: int) -> float:
        """Return β at step t of T.

        Raises:
            ConfigError: the cycles have one step each, in which nothing can rise.
        """
        if total_steps <= self.options.cycles:
            raise ConfigError(
                f"annealing.cycles: got {self.options.cycles}, but the run has {total_steps} steps; "
                f"expected at most {total_steps - 1}, so that β can rise; use fewer cycles or train longer"
            )
        length = math.ceil(total_steps / self.options.cycles)
        position = (step % length) / length
        return self.options.start + (self.options.end - self.options.start) * min(1.0, position / self.options.fraction)


@attrs.frozen(kw_only=True)
class SigmoidOptions:
    """Options of the sigmoid schedule.

    Args:
        end: β that the curve approaches.
        midpoint: m, where β is half of `end`, as a share of the run.
        steepness: k, slope of the logistic function per run; the rise takes about 8/k of the run. k (1 − m) must be
            at least 3, so that β comes within 5 % of `end`.
    """

    end: float = attrs.field(default=1.0, validator=in_range(above=0))
    midpoint: float = attrs.field(default=0.15, validator=in_range(above=0, below=1))
    steepness: float = attrs.field(default=40.0, validator=in_range(above=0))

    def __attrs_post_init__(self) -> None:
        reached = self.steepness * (1.0 - self.midpoint)
        if reached < 3.0:
            raise ValueError(
                f"got steepness {self.steepness:g} and midpoint {self.midpoint:g}, so β does not come near its end "
                f"within the run: steepness × (1 − midpoint) is {reached:.3g}; expected at least 3"
            )


@attrs.frozen
class Sigmoid:
    """β = end / (1 + exp(−k (t/T − m))) (Bowman et al. 2016, §3.1)."""

    options: SigmoidOptions

    def weight(self, step: int, total_steps: int) -> float:
        """Return β at step t of T."""
        exponent = -self.options.steepness * (step / total_steps - self.options.midpoint)
        return self.options.end / (1.0 + math.exp(min(exponent, 700.0)))
