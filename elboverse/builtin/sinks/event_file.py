"""An event file of TensorBoard, written in the caller's own thread.

TensorBoard's `EventFileWriter` writes in a thread of its own, which prints a traceback and dies where the disk is full;
here that is an ordinary `OSError` for the caller.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

__all__ = ["SUFFIX", "EventFile"]

SUFFIX: Final = ".elboverse"
"""What tells our event files from those of other programs in the same folder."""


class EventFile:
    """Writes events to a new file, whose name sorts behind those of earlier ones and ends in `SUFFIX`.

    Args:
        folder: where to; made if need be.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{rest:09d}.{socket.gethostname()}.{os.getpid()}{SUFFIX}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self.write(file_version="brain.Event:2")

    def write(self, **content: Any) -> None:
        """Add an event with the present time.

        Args:
            content: the event's other fields.

        Raises:
            OSError: it cannot be written.
        """
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def flush(self) -> None:
        """Hand what was written to the operating system, so that it survives the end of this process.

        Raises:
            OSError: it cannot be written.
        """
        self._file.flush()

    def close(self) -> None:
        """Write what is left and close the file, also where that fails.

        Raises:
            OSError: what was left cannot be written.
        """
        self._file.close()
