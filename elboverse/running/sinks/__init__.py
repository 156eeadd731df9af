"""Where records go: the run file, TensorBoard, and the progress display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from elboverse.contracts.records import Record

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes records in the order in which they happened."""

    def receive(self, record: Record) -> None:
        """Take one record."""
        ...

    def close(self) -> None:
        """Release everything; no record comes after."""
        ...
