"""From raw points to `Data`: checks, seeded split, scaling, fingerprint, and the user's cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elboverse.faces import found_in

if TYPE_CHECKING:
    from elboverse.data.binarising import binarised
    from elboverse.data.cache import PREPARED, cache_folder, prepared_folder, replacing, unwritable
    from elboverse.data.preparing import fingerprint, fit_scaling, prepare, require_finite, split, split_order

__all__ = [
    "PREPARED",
    "binarised",
    "cache_folder",
    "fingerprint",
    "fit_scaling",
    "prepare",
    "prepared_folder",
    "replacing",
    "require_finite",
    "split",
    "split_order",
    "unwritable",
]

_HOMES = {
    "PREPARED": "elboverse.data.cache",
    "binarised": "elboverse.data.binarising",
    "cache_folder": "elboverse.data.cache",
    "fingerprint": "elboverse.data.preparing",
    "fit_scaling": "elboverse.data.preparing",
    "prepare": "elboverse.data.preparing",
    "prepared_folder": "elboverse.data.cache",
    "replacing": "elboverse.data.cache",
    "require_finite": "elboverse.data.preparing",
    "split": "elboverse.data.preparing",
    "split_order": "elboverse.data.preparing",
    "unwritable": "elboverse.data.cache",
}


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
