"""The attributes by which netCDF packs values: fill values, scale and offset (CF conventions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.findings import Finding

__all__ = ["unpacked"]


def unpacked(values: NDArray[Any], attributes: Mapping[str, Any], findings: list[Finding]) -> NDArray[Any]:
    """Return values with what marks missing ones as NaN, times ``scale_factor``, plus ``add_offset``."""
    marks = [np.ravel(attributes[name]) for name in ("_FillValue", "missing_value") if name in attributes]
    scale, offset = (
        float(np.ravel(attributes.get(name, [plain]))[0])
        for name, plain in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    missing = np.isin(values, np.concatenate(marks)) if marks and values.dtype.kind in "fiu" else np.zeros(0, bool)
    packed = (scale, offset) != (1.0, 0.0)
    if not missing.any() and not packed:
        return values
    wide = values.astype(np.float64)
    if missing.any():
        wide[missing] = np.nan
        findings.append(Finding("missing", f"{int(missing.sum()):,} values equal the fill value, so they are missing"))
    if packed:
        wide = wide * scale + offset
        findings.append(
            Finding("numbers", f"values are unpacked: times {scale:g} plus {offset:g}, as their attributes say")
        )
    return wide
