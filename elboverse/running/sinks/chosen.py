"""The sinks that a config names or a caller gives: each by itself, so that one that fails is switched off alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from elboverse.components.registry import Selection
from elboverse.contracts import Ending, Record, RunDescription, Sink
from elboverse.errors import ConfigError, ElboverseError, PluginError, out_of_memory
from elboverse.warning import warn

__all__ = ["ChosenSinks", "chosen_sinks"]


@attrs.define(eq=False)
class _Chosen:
    """A sink that is at work, and whose it is."""

    who: str
    sink: Sink


class ChosenSinks:
    """Passes on what happens to every sink. One that raises is named with its plugin and switched off.

    Args:
        chosen: the sinks.
    """

    def __init__(self, chosen: Iterable[_Chosen]) -> None:
        self._chosen = list(chosen)

    def begin(self, run: RunDescription) -> None:
        """Tell every sink of the run."""
        self._each("begin(run)", lambda sink: sink.begin(run))

    def receive(self, record: Record) -> None:
        """Pass a record on, its arrays closed to writing."""
        if self._chosen:
            closed = _closed(record)
            self._each("receive(record)", lambda sink: sink.receive(closed))

    def saved(self, steps: int) -> None:
        """Tell every sink how many steps are in the run file."""
        self._each("saved(steps)", lambda sink: sink.saved(steps))

    def end(self, status: Ending) -> None:
        """Let every sink finish."""
        self._each("end(status)", lambda sink: sink.end(status))

    def _each(self, what: str, call: Callable[[Sink], None]) -> None:
        for one in tuple(self._chosen):
            try:
                call(one.sink)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
                self._chosen.remove(one)
                told = str(out_of_memory(error) or " ".join(f"{type(error).__name__}: {error}".split()))
                warn(
                    f"{one.who}: {what} failed: {told}. It is switched off; training goes on, and run.h5 will hold "
                    "everything."
                )


def chosen_sinks(selections: Sequence[Selection], given: Iterable[Any] = ()) -> ChosenSinks:
    """Return the sinks of a config, built, and those that a caller gives.

    Args:
        selections: of the config.
        given: objects with the methods of `contracts.Sink`.

    Raises:
        ConfigError: an object that is given is not a sink.
        ElboverseError: a sink says that it cannot work, or is none.
    """
    chosen = []
    for selection in selections:
        try:
            chosen.append(_Chosen(str(selection.registered), selection.build()))
        except ElboverseError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            raise PluginError(f"{selection.registered} failed: {type(error).__name__}: {error}") from error
    for sink in given:
        lacking = [name for name in ("begin", "receive", "saved", "end") if not callable(getattr(sink, name, None))]
        if lacking:
            raise ConfigError(
                f"sinks: got {sink!r}, which has no {' and no '.join(lacking)}; expected a contracts.Sink"
            )
        chosen.append(_Chosen(f"sink {type(sink).__name__}", sink))
    return ChosenSinks(chosen)


def _closed(record: Record) -> Record:
    """Return a record whose arrays are views that cannot be written to."""
    changed: dict[str, Any] = {}
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            changed[field.name] = _view(value)
        elif isinstance(value, Mapping):
            changed[field.name] = {name: _view(part) for name, part in value.items()}
    return attrs.evolve(record, **changed)


def _view(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view
