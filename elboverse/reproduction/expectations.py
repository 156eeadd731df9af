"""What is expected of an experiment's runs: numbers of analyses, each with its limits and where these come from.

They lie beside the config, ``verification-a.expected.toml`` beside ``verification-a.toml``, and are structured as
strictly as it is. Limits come from theory or from published figures, never from a run of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from elboverse.components.registry import Registry
from elboverse.config import EXPECTED_SUFFIX, read_table
from elboverse.config.structuring import build_converter, in_range, structure
from elboverse.errors import AnalysisError

__all__ = ["Expectation", "Expected", "Figure", "Limits", "expected_file", "found_at", "load_expected"]


@attrs.frozen(kw_only=True)
class Limits:
    """What a number must be: a value within a tolerance, or at least one bound, or between two.

    Args:
        value: what is expected.
        tolerance: how far from `value` it may be, in the same unit.
        at_least: lower bound.
        at_most: upper bound.
    """

    value: float | None = None
    tolerance: float | None = attrs.field(default=None, validator=in_range(minimum=0))
    at_least: float | None = None
    at_most: float | None = None

    def __attrs_post_init__(self) -> None:
        around = self.value is not None and self.tolerance is not None
        bounded = self.at_least is not None or self.at_most is not None
        if around == bounded or (self.value is None) != (self.tolerance is None):
            raise ValueError("expected value and tolerance together, or at_least, at_most or both of these")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"got at_least = {self.at_least:g} and at_most = {self.at_most:g}, which nothing meets")

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The lower and the upper bound; None where there is none."""
        if self.value is not None and self.tolerance is not None:
            return self.value - self.tolerance, self.value + self.tolerance
        return self.at_least, self.at_most

    def holds(self, number: float | None) -> bool:
        """Return whether a number is within the limits, which are inside; what is not finite, None, never is."""
        low, high = self.interval
        return number is not None and (low is None or number >= low) and (high is None or number <= high)

    def __str__(self) -> str:
        if self.value is not None and self.tolerance is not None:
            return f"{self.value:g} ± {self.tolerance:g}" if self.tolerance else f"{self.value:g}"
        low, high = self.interval
        if low is not None and high is not None:
            return f"{low:g} … {high:g}"
        return f"≥ {low:g}" if low is not None else f"≤ {high:g}"


@attrs.frozen(kw_only=True)
class Expectation(Limits):
    """A number that an analysis gives, and what it must be.

    Args:
        what: the number, in words.
        analysis: which analysis gives it.
        options: of that analysis, as on its command line.
        path: where it is in the data that ``elboverse analyze --json`` prints, such as
            ``quantities.name=ELBO.trained``: keys, and in lists positions (−1 for the last) or ``key=value``.
        minus: where a number is that is subtracted from it.
        over: where a number is that it is divided by.
        every_replica: whether it is the number of each replica, by the analysis' option ``replica``; all must meet it.
        source: where the limits come from: a figure or table of the paper, an equation.
        quick: limits for the scaled-down experiment, where others hold.
        in_quick: whether it is expected of the scaled-down experiment at all.
    """

    what: str
    analysis: str
    options: dict[str, Any] = attrs.field(factory=dict)
    path: str
    minus: str | None = None
    over: str | None = None
    every_replica: bool = False
    source: str
    quick: Limits | None = None
    in_quick: bool = True

    def limits(self, *, quick: bool) -> Limits:
        """Return what holds for the experiment, or for the scaled-down one."""
        return self.quick if quick and self.quick is not None else self

    def measured(self, data: Mapping[str, Any]) -> float | None:
        """Return the number in the data of the analysis; None if it, or a part of it, is not finite.

        Raises:
            AnalysisError: a path holds no number.
        """
        number, minus, over = (
            None if path is None else found_at(data, path, self.analysis) for path in (self.path, self.minus, self.over)
        )
        if number is None or (minus is None) != (self.minus is None) or (over is None) != (self.over is None):
            return None
        difference = number - (0.0 if minus is None else minus)
        if over is None:
            return difference
        return difference / over if over else None


@attrs.frozen(kw_only=True)
class Figure:
    """The figure of an experiment.

    Args:
        analysis: which one draws it.
        options: of that analysis, as on its command line.
    """

    analysis: str
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Expected:
    """What is expected of an experiment.

    Args:
        minutes: how long it takes on two processor cores.
        quick: the settings that scale it down to less than two minutes, each as after ``--set``.
        figure: what it is drawn as.
        expect: the numbers.
    """

    minutes: float = attrs.field(validator=in_range(above=0))
    quick: tuple[str, ...] = ()
    figure: Figure
    expect: tuple[Expectation, ...]


def expected_file(config: Path) -> Path:
    """Return where the expectations of a config's runs are: ``name.expected.toml`` beside it."""
    return config.with_name(config.stem + EXPECTED_SUFFIX)


def load_expected(file: Path, registry: Registry) -> Expected:
    """Return the expectations in a file.

    Raises:
        ConfigError: it cannot be read, or with every fault in it.
    """
    expected: Expected = structure(build_converter(registry), read_table(file), Expected, file.name)
    return expected


def found_at(data: Any, path: str, analysis: str) -> float | None:
    """Return the number at a path into the data of an analysis; None where it is not finite.

    Args:
        data: JSON values.
        path: keys, positions and ``key=value``, joined by dots.
        analysis: its name, for messages.

    Raises:
        AnalysisError: there is nothing, or no number.
    """
    inner = data
    for depth, part in enumerate(parts := path.split(".")):
        place = ".".join(parts[:depth]) or "its data"
        try:
            inner = _below(inner, part)
        except LookupError as error:
            raise AnalysisError(f"{analysis}: no {part!r} in {place}; there is {error.args[0]}") from None
    if inner is None or (isinstance(inner, int | float) and not isinstance(inner, bool)):
        return inner
    raise AnalysisError(f"{analysis}: {path} is {str(inner)[:60]!r}, and a number is expected")


def _below(inner: Any, part: str) -> Any:
    """Return what is at one part of a path.

    Raises:
        LookupError: nothing is; its argument says what is there instead.
    """
    if isinstance(inner, Mapping):
        if part in inner:
            return inner[part]
        raise LookupError(", ".join(map(str, inner)) or "nothing")
    if isinstance(inner, list):
        key, separator, wanted = part.partition("=")
        if separator:
            tables = [item for item in inner if isinstance(item, Mapping)]
            found = [item for item in tables if str(item.get(key)) == wanted]
            if found:
                return found[0]
            raise LookupError(f"{key} = {', '.join(str(item.get(key)) for item in tables)}")
        if part.lstrip("-").isdecimal() and -len(inner) <= int(part) < len(inner):
            return inner[int(part)]
        raise LookupError(f"a list of {len(inner)}")
    raise LookupError(repr(inner))
