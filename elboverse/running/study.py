"""A study at work: its runs trained by a launcher or in this process, and what failed told at the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import tomli_w
from rich.console import Console

from elboverse.components.local import UNPACKAGED
from elboverse.components.registry import Registry
from elboverse.config import ExperimentConfig, to_table
from elboverse.config.sweeps import expand, split_seeds
from elboverse.contracts import Sink
from elboverse.contracts.launcher import Job, Launcher, Outcome, Status
from elboverse.errors import (
    ConfigError,
    ElboverseError,
    Interrupted,
    PluginError,
    ReplicasDifferError,
    RunFileError,
    StudyError,
    out_of_memory,
)
from elboverse.files import replaced
from elboverse.runfile import RUN_FILE, Run
from elboverse.running.board import Board
from elboverse.running.interrupts import stop_on_signals

__all__ = ["SWEEP_FILE", "Announce", "Study", "write_study"]

SWEEP_FILE: Final = "sweep.toml"

MOST_TOLD: Final = 20
"""How many runs that failed are told of one by one at the end."""

Announce = Callable[[str, ExperimentConfig], None]
"""Called with the name and the config of a run before it begins."""


@attrs.define
class Study:
    """A study at work.

    Args:
        folder: of the study.
        table: its raw config; changed where the seeds of a run become runs of their own.
        console: where progress is shown.
        announce: see `train_sweep`.
        threads: of each run.
        registry: the components.
        launcher: what trains the runs; None for this process.
        sinks: what follows each run that is trained in this process.
    """

    folder: Path
    table: dict[str, Any]
    console: Console | None
    announce: Announce | None
    threads: int
    registry: Registry | None
    launcher: Launcher | None
    sinks: tuple[Sink, ...] = ()

    def train(self, unreadable: Mapping[str, Outcome]) -> None:
        """Train what is not finished, and tell at the end what failed.

        Args:
            unreadable: outcomes of runs that are left alone.
        """
        outcomes = dict(unreadable)
        while True:
            configs = expand(self.table, self.registry)
            todo = {
                name: config
                for name, config in configs.items()
                if name not in outcomes and not self._is_done(name, config)
            }
            if todo:
                attempt = self._one_by_one if self.launcher is None else self._launched
                outcomes |= attempt(todo, len(configs) - len(todo))
            unfit = [name for name, outcome in outcomes.items() if outcome.status == "unfit"]
            if not unfit:
                break
            for name in unfit:
                self.table = split_seeds(self.table, name)
                del outcomes[name]
            write_study(self.folder, self.table)
        failed = [outcome for outcome in outcomes.values() if outcome.status == "failed"]
        if failed:
            raise StudyError(self._told(failed, len(configs)))

    def _is_done(self, name: str, config: ExperimentConfig) -> bool:
        path = self.folder / name / RUN_FILE
        if not path.exists():
            return False
        with Run.open(path) as run:
            return run.status == "finished" and run.config["training"]["epochs"] == config.training.epochs

    def _one_by_one(self, todo: Mapping[str, ExperimentConfig], _done: int) -> dict[str, Outcome]:
        """Train runs in this process, and return how they ended."""
        import torch  # as above

        from elboverse.running.job import waiting_for_its_end

        outcomes: dict[str, Outcome] = {}
        threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            for name, config in todo.items():
                if self.announce is not None:
                    self.announce(name, config)
                status: Status = "finished"
                message = ""
                try:
                    waiting_for_its_end(partial(self._start, name, config), 30.0)
                except Interrupted as error:
                    resume = shlex.quote(str(self.folder))
                    told = f"{error}\nTo resume the whole sweep:\n  elboverse train --resume {resume}"
                    raise Interrupted(told, error.signal_number) from error
                except ReplicasDifferError as error:
                    status, message = "unfit" if "seeds" in self.table["sweep"] else "failed", str(error)
                except (ElboverseError, MemoryError) as error:
                    status, message = "failed", str(out_of_memory(error) or error)
                outcomes[name] = Outcome(name=name, status=status, message=message)
        finally:
            torch.set_num_threads(threads_before)
        return outcomes

    def _start(self, name: str, config: ExperimentConfig) -> None:
        from elboverse.running.runs import resume, train  # torch, as above

        path = self.folder / name / RUN_FILE
        if not path.exists():
            train(config, out=path.parent, console=self.console, sinks=self.sinks).close()
            return
        with Run.open(path) as run:
            longer = run.config["training"]["epochs"] < config.training.epochs
        overrides = [f"training.epochs={config.training.epochs}"] if longer else []
        resume(path, overrides=overrides, console=self.console, registry=self.registry, sinks=self.sinks).close()

    def _launched(self, todo: Mapping[str, ExperimentConfig], done: int) -> dict[str, Outcome]:
        """Train runs by the launcher, and return how they ended."""
        from elboverse.running.job import perform  # torch, as above

        assert self.launcher is not None  # noqa: S101 - for the type checker
        folder = self.folder.absolute()
        plugins = self._plugin_files()
        jobs = [
            Job(name=name, folder=folder / name, config=to_table(config), threads=self.threads, plugins=plugins)
            for name, config in todo.items()
        ]
        outcomes: dict[str, Outcome] = {}
        console = self.console or Console(quiet=True)
        with stop_on_signals(self.launcher.stop) as caught, Board(console, list(todo), done) as board:
            try:
                for told in self.launcher.launch(jobs, perform):
                    if isinstance(told, Outcome):
                        alone = told.status == "unfit" and "seeds" not in self.table["sweep"]
                        outcomes[told.name] = attrs.evolve(told, status="failed") if alone else told
                    board.take(told)
            except PluginError as error:
                if not any((job.folder / RUN_FILE).exists() for job in jobs):
                    raise
                resume = f"elboverse train --resume {shlex.quote(str(self.folder))}"
                raise PluginError(f"{error}\nWhat was trained is kept; resume it with:\n  {resume}") from error
        if caught.number is not None:
            raise Interrupted(self._stopped(outcomes, done, len(todo)), caught.number)
        for name in todo.keys() - outcomes.keys():
            outcomes[name] = Outcome(name=name, status="failed", message="the launcher never told how it ended")
        return outcomes

    def _plugin_files(self) -> tuple[str, ...]:
        """Return the plugin files that other processes have to load.

        Raises:
            ConfigError: a plugin was handed over as an object, which no other process has.
        """
        if self.registry is None:
            return ()
        lost = [one.plugin.name for one in self.registry.offers if one.plugin.version == UNPACKAGED and not one.file]
        if lost:
            raise ConfigError(
                f"plugins: got {lost[0]} as an object, which runs in processes of their own do not have; give a Python "
                "file, or train without jobs and launcher"
            )
        return self.registry.files

    def _stopped(self, outcomes: Mapping[str, Outcome], done: int, todo: int) -> str:
        counts = {status: sum(one.status == status for one in outcomes.values()) for status in ("finished", "failed")}
        begun = len(outcomes) - sum(counts.values())
        resume = shlex.quote(str(self.folder))
        return (
            f"Interrupted: {done + counts['finished']} of {done + todo} runs are finished, {counts['failed']} failed, "
            f"{begun} are saved on their way, and {todo - len(outcomes)} have not begun. To resume the whole "
            f"sweep:\n  elboverse train --resume {resume}"
        )

    def _told(self, failed: Sequence[Outcome], runs: int) -> str:
        listed = [f"  {outcome.name}: {outcome.message}" for outcome in failed[:MOST_TOLD]]
        if len(failed) > MOST_TOLD:
            listed.append(f"  and {len(failed) - MOST_TOLD} more")
        others = {0: "none is finished", 1: "the other one is finished"}.get(
            runs - len(failed), f"the other {runs - len(failed)} are finished"
        )
        begun = any(path.exists() for path in self.folder.glob(f"*/{RUN_FILE}"))
        advice = ["To try again what failed:", f"  elboverse train --resume {shlex.quote(str(self.folder))}"]
        return "\n".join([f"{len(failed)} of the {runs} runs failed; {others}:", *listed, *(advice if begun else [])])


def write_study(folder: Path, table: Mapping[str, Any]) -> None:
    """Write the raw config of a study into its folder, in one step.

    Args:
        folder: made if need be.
        table: the raw config.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(folder / SWEEP_FILE, durable=True) as temporary:
            temporary.write_text(tomli_w.dumps(dict(table)), encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"{folder / SWEEP_FILE}: cannot be written: {error.strerror}") from error
