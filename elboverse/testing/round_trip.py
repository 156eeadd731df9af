"""All checks of a plugin's components, and a whole round trip: train, replicas, resume, analyse, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from elboverse.analysis.making import takes_several
from elboverse.components.registry import Registered, Registry, attributed
from elboverse.errors import ElboverseError, PluginError
from elboverse.running.runs import resume, train
from elboverse.testing.analysis import check_analysis
from elboverse.testing.component import selection
from elboverse.testing.constraint import check_constraint
from elboverse.testing.dataset import check_dataset
from elboverse.testing.model import check_model
from elboverse.testing.network import check_network
from elboverse.testing.schedule import check_schedule

__all__ = ["Checked", "check_plugin"]

SHAPES: Final = ((5,), (8, 8), (1, 8, 8))
"""Points on which a model or a network is tried, until one fits it."""

TABLE_OF: Final = {"model": "model", "dataset": "dataset", "constraint": "constraint", "annealing": "annealing"}
LEARNING: Final[dict[str, Any]] = {"epochs": 2, "batch_size": 16, "evaluate_every": 1, "device": "cpu"}


@attrs.frozen
class Checked:
    """One check and how it ended.

    Args:
        what: what was checked.
        fault: what is wrong, with what to change; empty if nothing is.
    """

    what: str
    fault: str = ""


def check_plugin(registry: Registry, name: str) -> Iterator[Checked]:
    """Yield the checks of every component of a plugin as they are made, each with its result.

    Args:
        registry: of all plugins.
        name: the plugin's name, or that of its distribution.

    Raises:
        PluginError: there is no such plugin.
    """
    plugins = [plugin for plugin in registry.plugins if name in {plugin.name, plugin.distribution}]
    if not plugins:
        known = ", ".join(plugin.name for plugin in registry.plugins)
        raise PluginError(f"no plugin {name!r} is installed. Installed: {known}.")
    for plugin in plugins:
        yield Checked(f"plugin {plugin}: loads", plugin.failure or "; ".join(plugin.problems))
        for by_name in registry.components.values():
            for registered in by_name.values():
                if (registered.plugin.name, registered.plugin.distribution) == (plugin.name, plugin.distribution):
                    yield from _component(registered)


def _component(registered: Registered) -> Iterator[Checked]:
    what = f"{registered.kind} {registered.name}"
    kind, name = registered.kind, registered.name
    checks: dict[str, Callable[[], object]] = {
        "model": lambda: _on_some_shape(lambda shape: check_model(name, data_shape=shape)),
        "network": lambda: _on_some_shape(lambda shape: check_network(name, data_shape=shape)),
        "dataset": lambda: check_dataset(name),
        "constraint": lambda: check_constraint(name),
        "annealing": lambda: check_schedule(name),
    }
    fault = _fault(checks[kind], registered) if kind in checks else ""
    if kind in checks:
        yield Checked(f"{what}: contract", fault)
    if not fault:
        yield from _round_trip(registered)


def _on_some_shape(check: Callable[[tuple[int, ...]], object]) -> None:
    """Try shapes until one fits; the first refusal is told where none does."""
    faults: list[Exception] = []
    for shape in SHAPES:
        try:
            check(shape)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may be made for images alone
            faults.append(error if isinstance(error, Exception) else PluginError(f"it exits: {error}"))
        else:
            return
    raise faults[0]


def _round_trip(registered: Registered) -> Iterator[Checked]:
    what = f"{registered.kind} {registered.name}"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        table = _config(registered)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("train", lambda: train(table, out=run).close()),
            ("resume", lambda: resume(run, overrides=["training.epochs=3"]).close()),
        ]
        if registered.kind != "analysis":
            several = {**table, "training": {**LEARNING, "replicas": 2}}
            steps.append(("replicas", lambda: train(several, out=Path(folder) / "replicas").close()))
        analysis = registered.name if registered.kind == "analysis" else "bounds"
        if registered.kind != "analysis" or not takes_several(registered):
            steps.append(("analyse", lambda: check_analysis(analysis, run)))
        for step, action in steps:
            fault = _fault(action, registered)
            yield Checked(f"{what}: {step}", fault)
            if fault:
                return


def _config(registered: Registered) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": "check",
        "model": {"name": "vae-1", "network": {"name": "mlp", "hidden": [8]}},
        "dataset": {"name": "circle", "points": 64},
        "training": dict(LEARNING),
    }
    if registered.kind == "network":
        table["model"]["network"] = {"name": registered.name}
    elif registered.kind in TABLE_OF:
        table[registered.kind] = {"name": registered.name}
    if registered.kind == "constraint":
        table["model"]["name"] = "vae-2"
    return table


def _fault(action: Callable[[], object], registered: Registered) -> str:
    try:
        with attributed([selection(registered.kind, registered.name, {})]):
            action()
    except ElboverseError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
        return f"{type(error).__name__}: {error}"
    return ""
