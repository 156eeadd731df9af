"""What a fault of a value is while it is structured, and validators of values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from elboverse.errors import Fault, nearest

__all__ = ["Faults", "InRange", "in_range", "not_one_of", "one_of"]


class Faults(ValueError):  # noqa: N818 - it is many errors
    """Faults found while structuring one value, each with its path inside that value."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))

    @classmethod
    def misfit(cls, given: str, expected: str, hint: str = "") -> Faults:
        """Return one fault of the value itself: what was given, what was expected, and what helps."""
        return cls([Fault(given=given, expected=expected, hint=hint)])

    @classmethod
    def single(cls, problem: str) -> Faults:
        """Return one fault of the value itself, in words."""
        return cls([Fault(problem=problem)])

    def below(self, *keys: str) -> list[Fault]:
        """Return the faults with their paths below `keys`."""
        return [fault.below(*keys) for fault in self.faults]


@attrs.frozen
class InRange:
    """An attrs validator for a number or each number of a tuple; None and texts pass. Made by `in_range`.

    Args:
        bounds: each a sign and a number, such as ``("≥", 1)``.
    """

    bounds: tuple[tuple[str, float], ...]

    def __call__(self, _instance: Any, _attribute: Any, value: Any) -> None:
        """Refuse what lies outside.

        Raises:
            Faults: with what was given and what is expected.
        """
        for number in value if isinstance(value, tuple) else (value,):
            if number is None or isinstance(number, str):
                continue
            if not all(_WITHIN[sign](number, bound) for sign, bound in self.bounds):
                raise Faults.misfit(repr(number), f"a number {self}")

    def __str__(self) -> str:
        """Return the range in words, such as ``≥ 1 and ≤ 10``."""
        return " and ".join(f"{sign} {bound:g}" for sign, bound in self.bounds)


_WITHIN: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
}


def in_range(
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> InRange:
    """Return an attrs validator for a number or each number of a tuple; None passes.

    Args:
        above: exclusive lower bound.
        minimum: inclusive lower bound.
        maximum: inclusive upper bound.
        below: exclusive upper bound.

    Example:
        >>> str(in_range(minimum=1, maximum=10))
        '≥ 1 and ≤ 10'
    """
    given = ((">", above), ("≥", minimum), ("≤", maximum), ("<", below))
    return InRange(tuple((sign, bound) for sign, bound in given if bound is not None))


def one_of(*allowed: str) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator for one of some strings."""

    def validate(_instance: Any, _attribute: Any, value: Any) -> None:
        if value not in allowed:
            raise not_one_of(value, allowed)

    return validate


def not_one_of(value: Any, allowed: Iterable[Any]) -> Faults:
    """Return the fault of a value that is not one of those allowed."""
    allowed = tuple(allowed)
    hint = nearest(value, [str(item) for item in allowed]) if isinstance(value, str) else ""
    return Faults.misfit(repr(value), ", ".join(map(repr, allowed)), hint)
