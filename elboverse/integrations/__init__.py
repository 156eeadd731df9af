"""Doors for models and loops that elboverse did not train: recording, judging, and other libraries' trainers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elboverse.integrations.recording import Recording, record

__all__ = ["Recording", "record"]

_HOMES = {"Recording": "recording", "record": "recording"}


def __getattr__(name: str) -> Any:
    # Imported at first use: they import torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'elboverse.integrations' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"elboverse.integrations.{_HOMES[name]}"), name)
