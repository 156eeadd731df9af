"""The regimes of a stream as steps of a run: which stretch of the training saw which distribution."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import attrs

from elboverse.analysis.reading import Array, at
from elboverse.errors import AnalysisError
from elboverse.runfile import Run

__all__ = ["Regime", "Span", "Timeline"]


@attrs.frozen(kw_only=True)
class Regime:
    """Points of one distribution.

    Args:
        name: what it is called; those of the same name are numbered.
        points: N, how many of them a pass has.
        latents: how many latents generate it; None if that is not known.
        log_likelihood: its expected log-likelihood under the generating density in nats per point, or None.
        covariance_eigenvalues: of the generating density, falling, D of them; None if they are not known.
    """

    name: str
    points: int
    latents: int | None = None
    log_likelihood: float | None = None
    covariance_eigenvalues: tuple[float, ...] | None = None


@attrs.frozen
class Span:
    """The steps first … end − 1, whose batches begin in one regime: its number in the timeline."""

    regime: int
    first: int
    end: int


@attrs.frozen
class Timeline:
    """Which step is in which regime; passes repeat the regimes.

    Args:
        regimes: of one pass, in order.
        first_steps: the step of a pass that each begins with, never falling.
        steps_per_pass: how many steps a pass has; None where there is one regime, without an end.
    """

    regimes: tuple[Regime, ...]
    first_steps: tuple[int, ...]
    steps_per_pass: int | None

    @classmethod
    def of(cls, run: Run, batch_size: int) -> Timeline:
        """Return the timeline of a run; data that are no stream are one regime, the whole run.

        Args:
            run: whose data may be a stream.
            batch_size: B. The regime of a step is that of its batch's first point.

        Raises:
            AnalysisError: the run's description of its stream makes no sense.
        """
        stream = at(run.data, "stream")
        if stream is None:
            points = at(run.data, "train_points")
            whole = Regime(name="whole run", points=points if isinstance(points, int) and points > 0 else batch_size)
            return cls((whole,), (0,), None)
        points, entries = at(stream, "points_per_pass"), at(stream, "regimes")
        starts = [at(entry, "first_point") for entry in entries] if isinstance(entries, list) else []
        if not (_is_count(points, batch_size) and _ascends_from_zero(starts, points)):
            raise AnalysisError(
                f"{run.path}: /documents/data: its stream has points_per_pass {points!r} and regimes with first_point "
                f"{starts!r}; expected at least {batch_size} points, a batch, and ascending starts below them, "
                f"the first one 0"
            )
        lengths = [end - start for start, end in zip(starts, [*starts[1:], points], strict=True)]
        names = _numbered([str(entry.get("name", f"regime {number}")) for number, entry in enumerate(entries)])
        dimension = at(run.data, "dimension")
        return cls(
            tuple(
                _regime(entry, name, length, dimension)
                for entry, name, length in zip(entries, names, lengths, strict=True)
            ),
            tuple(min(-(-start // batch_size), points // batch_size) for start in starts),
            points // batch_size,
        )

    def spans(self, steps: Array) -> list[Span]:
        """Return the spans that hold recorded steps, in order; the last one may end later than they do.

        Only these are walked: what lies between two recorded steps may be any number of passes.

        Args:
            steps: those that are recorded, increasing, at least one, shape (T,).
        """
        if self.steps_per_pass is None:
            return [Span(0, 0, int(steps[-1]) + 1)]
        ends = [*self.first_steps[1:], self.steps_per_pass]
        spans: list[Span] = []
        row = 0
        while row < len(steps):
            within = int(steps[row]) % self.steps_per_pass
            start = int(steps[row]) - within
            regime = bisect.bisect_right(self.first_steps, within) - 1
            spans.append(Span(regime, start + self.first_steps[regime], start + ends[regime]))
            row = bisect.bisect_left(steps, spans[-1].end, lo=row)
        return spans


def _is_count(value: Any, minimum: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _ascends_from_zero(starts: Sequence[Any], points: int) -> bool:
    if not starts or not all(isinstance(start, int) for start in starts):
        return False
    return starts[0] == 0 and all(one < next_one for one, next_one in zip(starts, [*starts[1:], points], strict=True))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names, those that occur several times with a number each, as in ``2 latents (1)``."""
    several = {name: itertools.count(1) for name, count in Counter(names).items() if count > 1}
    return [f"{name} ({next(several[name])})" if name in several else name for name in names]


def _regime(entry: Mapping[str, Any], name: str, points: int, dimension: Any) -> Regime:
    latents, log_likelihood = entry.get("latents"), entry.get("log_likelihood")
    eigenvalues = entry.get("covariance_eigenvalues")
    known = isinstance(eigenvalues, list) and len(eigenvalues) == dimension and all(map(_is_number, eigenvalues))
    return Regime(
        name=name,
        points=points,
        latents=latents if _is_count(latents, 0) else None,
        log_likelihood=float(log_likelihood) if _is_number(log_likelihood) else None,
        covariance_eigenvalues=tuple(sorted(map(float, eigenvalues or []), reverse=True)) if known else None,
    )
