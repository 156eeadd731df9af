"""Signals that end a run in order: SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Caught", "stop_on_signals"]


class Caught:
    """Which signal came, if any."""

    number: int | None = None


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[Caught]:
    """Call `stop` at the first SIGINT or SIGTERM; a second one acts as if nobody listened.

    Outside the main thread, where Python allows no handlers, nothing is caught.

    Args:
        stop: asks the work to end soon; called inside the signal handler.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: FrameType | None) -> None:
        caught.number = number
        restore()
        stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield caught
    finally:
        restore()
