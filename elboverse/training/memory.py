"""Memory that a step gives back, kept for the next step."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""The names of glibc's `mallopt`."""

KEPT_BYTES: Final = 512 << 20
"""How much freed memory the process keeps at most."""

LARGEST_KEPT_BLOCK: Final = 32 << 20
"""Larger blocks go back to the system at once; every glibc takes this bound, older ones no larger one."""


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to half a gigabyte, where it would hand it back to the system.

    A step frees megabytes of activations, and the next one asks for as many. Handed back in between, every page of them
    is mapped and zeroed anew at its first touch, which costs as much as the arithmetic of a replicated step. Applies to
    the whole process, and only to glibc; where ``MALLOC_TRIM_THRESHOLD_`` or ``GLIBC_TUNABLES`` is set in the
    environment, it is left as that says.
    """
    if sys.platform != "linux" or not {"MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}.isdisjoint(os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc alone has it
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
