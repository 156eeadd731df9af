"""How a process ends that has something to save: at its exit, and at SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Leaving"]


class Leaving:
    """Calls a function before the process ends, unless it is dismissed before.

    SIGTERM is listened to where nobody else does, in the main thread; SIGINT is Python's KeyboardInterrupt. A signal
    that comes amid a write waits for its end.

    Args:
        close: called with how it ends.
    """

    def __init__(self, close: Callable[[Literal["finished", "interrupted", "failed"]], None]) -> None:
        self._close = close
        self._busy = self._pending = 0
        self._listens = False
        atexit.register(self._at_exit)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_signal)
            self._listens = True

    def begin(self) -> None:
        """Say that a write begins."""
        self._busy += 1

    def end(self) -> None:
        """Say that it has ended; a signal that has come meanwhile acts now."""
        self._busy -= 1
        if self._pending and not self._busy:
            self._leave(self._pending)

    def dismiss(self) -> None:
        """Listen no more."""
        atexit.unregister(self._at_exit)
        if self._listens:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._listens = False

    def _at_exit(self) -> None:
        failure = getattr(sys, "last_value", None)
        interrupted = isinstance(failure, KeyboardInterrupt)
        self._close("finished" if failure is None else "interrupted" if interrupted else "failed")

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self._busy:
            self._pending = number
        else:
            self._leave(number)

    def _leave(self, number: int) -> None:
        self._pending = 0
        self._close("interrupted")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
