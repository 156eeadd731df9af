"""The launcher of a study: chosen by name, and held to its contract while it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from elboverse.components.registry import Registry, Selection, attributed, discover
from elboverse.config.structuring import Faults, build_converter, structure_selection
from elboverse.config.sweeps import LAUNCHER
from elboverse.contracts.launcher import Job, Launcher, Outcome, Perform, Progress, Status
from elboverse.errors import ConfigError, PluginError
from elboverse.runfile import RUN_FILE

__all__ = ["build_launcher"]


def build_launcher(table: Mapping[str, Any] | str, registry: Registry | None = None) -> Launcher:
    """Return a launcher, once it has been checked that it can work.

    What its plugin raises is told with the plugin, and what it tells of runs is checked.

    Args:
        table: its name, or a table of its name and options.
        registry: the components; those of all installed plugins by default.

    Raises:
        ElboverseError: there is none, its options are not usable, or it cannot work.
    """
    registry = discover() if registry is None else registry
    try:
        selection = structure_selection(build_converter(registry), registry, LAUNCHER, table)
    except Faults as faults:
        raise ConfigError(faults.below(LAUNCHER)) from None
    with attributed([selection]):
        launcher = _Held(selection, selection.build())
        launcher.check()
    return launcher


class _Held:
    """A launcher whose failures and tales are its plugin's."""

    def __init__(self, selection: Selection, launcher: Launcher) -> None:
        self._selection = selection
        self._launcher = launcher
        self._stopping = False

    def check(self) -> None:
        with attributed([self._selection]):
            self._launcher.check()

    def stop(self) -> None:
        self._stopping = True
        with attributed([self._selection]):
            self._launcher.stop()

    def launch(self, jobs: Sequence[Job], perform: Perform) -> Iterator[Progress | Outcome]:
        folders = {job.name: job.folder for job in jobs}
        who = self._selection.registered
        untold = dict.fromkeys(folders)
        with attributed([self._selection]):
            found = self._launcher.launch(jobs, perform)
            if not isinstance(found, Iterator):
                raise PluginError(f"{who}: launch must yield Progress and Outcome records; got {found!r}")
            for told in found:
                if not isinstance(told, Progress | Outcome):
                    raise PluginError(f"{who}: launch yields {told!r}; expected Progress or Outcome records")
                if told.name not in folders:
                    known = ", ".join(folders)
                    raise PluginError(f"{who}: it tells of a run {told.name!r}; expected one of {known}")
                if isinstance(told, Outcome):
                    untold.pop(told.name, None)
                    if told.status not in get_args(Status):
                        expected = ", ".join(map(repr, get_args(Status)))
                        raise PluginError(f"{who}: run {told.name} has status {told.status!r}; expected {expected}")
                    if told.status == "finished" and not (folders[told.name] / RUN_FILE).is_file():
                        yield Outcome(
                            name=told.name,
                            status="failed",
                            message=f"{who} says that it is finished, but it left no run file; perform(job) trains it",
                        )
                        continue
                yield told
        for name in () if self._stopping else untold:
            yield Outcome(name=name, status="failed", message=f"{who} never told how it ended")
