"""The check of an annealing schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from elboverse.components import conformance
from elboverse.components.hookspecs import Component
from elboverse.contracts import AnnealingSchedule
from elboverse.errors import ConfigError
from elboverse.testing.component import refuse_options, require, selection

__all__ = ["check_schedule"]

RUN_LENGTHS: Final = (1, 2, 3, 10, 1000)


def check_schedule(
    schedule: str | Component | AnnealingSchedule, *, run_lengths: Sequence[int] = RUN_LENGTHS, **options: Any
) -> None:
    """Check that an annealing schedule gives the same finite β ≥ 0 each time, in every step of runs of several lengths.

    A schedule may refuse a run that is too short for it with a `ConfigError`, but not all of them.

    Args:
        schedule: its name, its `Component`, or a schedule that was built already.
        run_lengths: numbers of steps T to try, each at least 1.
        options: its options; none for a built schedule.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a schedule of that name.
        PluginError: the contract is broken.
    """
    if isinstance(schedule, str | Component):
        chosen = selection("annealing", schedule, options)
        who, built = f"annealing {chosen.name!r}", chosen.build()
    else:
        refuse_options(schedule, options)
        who, built = type(schedule).__name__, schedule
    refusal: ConfigError | None = None
    accepted = 0
    for length in run_lengths:
        try:
            first, again = (conformance.require_betas(built, length, who) for _ in range(2))
        except ConfigError as error:
            refusal = error
            continue
        accepted += 1
        require((first == again).all(), f"{who}: a run of {length} steps gets other weights the second time")
    require(accepted, f"{who}: it refuses every run of {', '.join(map(str, run_lengths))} steps: {refusal}")
