"""The sink that tells a study how far one of its runs is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from elboverse.contracts.records import Record, Rows
from elboverse.running.sinks.progress import describe_rows

__all__ = ["ReportSink"]

SECONDS_BETWEEN_REPORTS: Final = 0.5


class ReportSink:
    """Calls a function with the steps done and a line of numbers, now and then.

    Args:
        report: called with (steps done, steps of the run, a line of numbers).
        total_steps: length of the run.
    """

    def __init__(self, report: Callable[[int, int, str], None], total_steps: int) -> None:
        self._report = report
        self._total = total_steps
        self._last = 0.0
        self._rows: Rows | None = None

    def receive(self, record: Record) -> None:
        """Take one record; only rows are told of."""
        if isinstance(record, Rows):
            self._rows = record
            if time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS:
                self._tell()

    def close(self) -> None:
        """Tell the last state."""
        self._tell()

    def _tell(self) -> None:
        if self._rows is not None:
            self._last = time.monotonic()
            self._report(int(self._rows.step[-1]) + 1, self._total, describe_rows(self._rows))
            self._rows = None
