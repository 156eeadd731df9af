"""The board of a study: one table of the progress of all its runs, or plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from elboverse.contracts.launcher import Outcome, Progress

__all__ = ["Board"]

SECONDS_BETWEEN_LINES: Final = 5.0


class Board:
    """Shows which runs wait, run, are finished or failed, and the numbers of those that run.

    Args:
        console: where to; it knows whether it is a terminal.
        names: of the runs to be trained, in order.
        finished: how many runs of the study were finished before.
    """

    def __init__(self, console: Console, names: Sequence[str], finished: int = 0) -> None:
        self._console = console
        self._names = tuple(names)
        self._before = finished
        self._progress: dict[str, Progress] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._last_line = time.monotonic()
        self._live = (
            Live(get_renderable=self._table, console=console, transient=True, refresh_per_second=4)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def take(self, told: Progress | Outcome) -> None:
        """Show progress or an outcome."""
        if isinstance(told, Progress):
            self._progress[told.name] = told
            self._say_now_and_then()
            return
        self._outcomes[told.name] = told
        shown = self._progress.get(told.name)
        text = f"  {shown.text}" if shown is not None and shown.text and told.status == "finished" else ""
        reason = f": {told.message.splitlines()[0]}" if told.message and told.status == "failed" else ""
        status = {"unfit": "its seeds become runs of their own"}.get(told.status, told.status)
        self._console.print(f"{self._counted()}  {told.name}  {status}{reason}{text}", soft_wrap=True, markup=False)
        for warning in told.warnings:
            self._console.print(f"  Warning: {warning}", soft_wrap=True, markup=False)

    def _counted(self) -> str:
        return f"[{self._before + len(self._outcomes)}/{self._before + len(self._names)}]"

    def _running(self) -> list[Progress]:
        return [one for name, one in self._progress.items() if name not in self._outcomes]

    def _say_now_and_then(self) -> None:
        if self._live is not None or time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        shares = ", ".join(f"{one.name} {_percent(one):z.0f} %" for one in self._running())
        self._console.print(f"{self._counted()}  running: {shares}", soft_wrap=True, markup=False)

    def _table(self) -> Table:
        running = self._running()
        waiting = len(self._names) - len(self._outcomes) - len(running)
        failed = sum(one.status == "failed" for one in self._outcomes.values())
        caption = f"{self._before + len(self._outcomes) - failed} finished, {failed} failed, {waiting} waiting"
        table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left", show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=2)
        table.add_column(width=16)
        table.add_column(justify="right", width=5)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=3)
        for one in running[: max(1, self._console.height - 3)]:
            bar = ProgressBar(total=max(1, one.total), completed=one.done, width=16)
            table.add_row(one.name, bar, f"{_percent(one):z.0f} %", one.text)
        return table


def _percent(one: Progress) -> float:
    return 100 * one.done / max(1, one.total)
