"""The check of an analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elboverse.analysis.making import analysed, numbers
from elboverse.components.hookspecs import Component
from elboverse.contracts import Result
from elboverse.runfile import Run
from elboverse.testing.component import selection

__all__ = ["check_analysis"]


def check_analysis(analysis: str | Component, run: str | Path, **options: Any) -> Result:
    """Check that an analysis of a run returns tables that can be shown, JSON and, if it says so, a figure.

    Args:
        analysis: its name, or its `Component`.
        run: a run's folder or its ``run.h5``.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers an analysis of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("analysis", analysis, options)
    path = Path(run)
    with Run.open(path / "run.h5" if path.is_dir() else path) as opened:
        result = analysed(chosen.registered, chosen.options, (opened,))
        numbers(chosen.registered, result)
        if result.draw is not None:
            result.draw()
    return result
