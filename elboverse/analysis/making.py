"""How an analysis is made of runs, and its numbers as JSON values: the same for every command that shows some."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from elboverse.components.registry import Registered
from elboverse.contracts import Result
from elboverse.errors import PluginError
from elboverse.runfile import Run

__all__ = ["analysed", "numbers", "owner", "takes_several"]


def analysed(registered: Registered, options: Any, runs: tuple[Run, ...]) -> Result:
    """Return what an analysis says of runs; one that takes a single run is given the first.

    Raises:
        AnalysisError: the runs lack what it needs.
        PluginError: it returns something else than a result.
    """
    result = registered.build(options, runs if takes_several(registered) else runs[0])
    if not isinstance(result, Result):
        raise PluginError(f"{owner(registered)}: build must return a contracts.Result, not {result!r}")
    return result


def takes_several(registered: Registered) -> bool:
    """Return whether an analysis takes several runs at once."""
    return bool(getattr(registered.config_class(), "several_runs", False))


def owner(registered: Registered) -> str:
    """Return whose an analysis is, for messages."""
    return f"analysis {registered.name!r} of plugin {registered.plugin}"


def numbers(registered: Registered, result: Result) -> dict[str, Any]:
    """Return the data of a result as JSON values; what is not finite becomes None.

    Raises:
        PluginError: they are no JSON values.
    """
    found = _finite(result.data)
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner(registered)}: its data is no JSON: {error}") from error
    return dict(found)


def _finite(value: Any) -> Any:
    """Return JSON values with every number that is not finite replaced by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
