"""Schedules meant for learning rates: what the rate of each step is multiplied by. This module imports no torch."""

from __future__ import annotations

import math

import attrs

from elboverse.config.structuring import in_range

__all__ = ["Cosine", "CosineOptions", "LinearWarmup", "LinearWarmupOptions", "Steps", "StepsOptions"]


@attrs.frozen(kw_only=True)
class LinearWarmupOptions:
    """Options of the linear warm-up.

    Args:
        steps: how many steps the rise from near 0 to 1 takes.
    """

    steps: int = attrs.field(default=500, validator=in_range(minimum=1))


@attrs.frozen
class LinearWarmup:
    """min(1, (t + 1)/n)."""

    options: LinearWarmupOptions

    def weight(self, step: int, total_steps: int) -> float:  # noqa: ARG002 - the kind's signature
        """Return the factor at step t."""
        return min(1.0, (step + 1) / self.options.steps)


@attrs.frozen(kw_only=True)
class CosineOptions:
    """Options of the cosine schedule.

    Args:
        end: what it falls to.
        warmup: steps of a linear rise before the fall.
    """

    end: float = attrs.field(default=0.0, validator=in_range(minimum=0, below=1))
    warmup: int = attrs.field(default=0, validator=in_range(minimum=0))


@attrs.frozen
class Cosine:
    """After n steps of warm-up, end + (1 − end) ½ (1 + cos(π (t − n)/(T − n))) (Loshchilov and Hutter 2017)."""

    options: CosineOptions

    def weight(self, step: int, total_steps: int) -> float:
        """Return the factor at step t of T."""
        warmup = min(self.options.warmup, total_steps - 1)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        position = (step - warmup) / (total_steps - warmup)
        return self.options.end + (1.0 - self.options.end) * 0.5 * (1.0 + math.cos(math.pi * position))


@attrs.frozen(kw_only=True)
class StepsOptions:
    """Options of the schedule in steps.

    Args:
        factor: what each step down multiplies by.
        count: how many steps down there are, evenly spaced through the run.
    """

    factor: float = attrs.field(default=0.1, validator=in_range(above=0, below=1))
    count: int = attrs.field(default=2, validator=in_range(minimum=1))


@attrs.frozen
class Steps:
    """factor^⌊t (c + 1)/T⌋."""

    options: StepsOptions

    def weight(self, step: int, total_steps: int) -> float:
        """Return the factor at step t of T."""
        return float(self.options.factor ** (step * (self.options.count + 1) // total_steps))
