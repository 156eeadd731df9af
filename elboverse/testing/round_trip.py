"""All checks of a plugin's components, and a whole round trip: train, resume, replicas, analyse, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import torch

from elboverse.analysis.making import takes_several
from elboverse.components.registry import Registered, Registry, attributed, takes_conditions
from elboverse.errors import ElboverseError, PluginError
from elboverse.runfile import RUN_FILE, Run
from elboverse.running.runs import resume, train
from elboverse.running.sweep import train_sweep
from elboverse.seeding import generator
from elboverse.testing.analysis import check_analysis
from elboverse.testing.component import selection
from elboverse.testing.constraint import check_constraint
from elboverse.testing.dataset import check_dataset
from elboverse.testing.latent import check_posterior, check_prior
from elboverse.testing.launcher import check_launcher
from elboverse.testing.likelihood import check_likelihood
from elboverse.testing.model import check_model
from elboverse.testing.network import check_network
from elboverse.testing.optimiser import check_optimiser
from elboverse.testing.regulariser import check_regulariser
from elboverse.testing.schedule import check_schedule
from elboverse.testing.sink import check_sink

__all__ = ["Checked", "Report", "check_plugin"]

SHAPES: Final = ((5,), (8, 8), (1, 8, 8))
"""Points on which a model or a network is tried, until one fits it."""

POINTS: Final = 64
DIMENSION: Final = 6
CONDITIONS: Final = 2
LEARNING: Final[dict[str, Any]] = {"epochs": 2, "batch_size": 16, "evaluate_every": 1, "device": "cpu", "threads": 1}

ON_SHAPES: Final[Mapping[str, Callable[..., object]]] = {"model": check_model, "network": check_network}
CHECKS: Final[Mapping[str, Callable[[str], object]]] = {
    "likelihood": check_likelihood,
    "prior": check_prior,
    "posterior": check_posterior,
    "regulariser": check_regulariser,
    "dataset": check_dataset,
    "constraint": check_constraint,
    "annealing": check_schedule,
    "optimiser": check_optimiser,
    "launcher": check_launcher,
    "sink": check_sink,
}
"""The check of each kind; an analysis is checked on the run of its round trip."""

Report = Callable[[Path, str], object]
"""Writes the report of a run file, with an analysis of that name in it; raises where it cannot."""


@attrs.frozen
class Checked:
    """One check and how it ended.

    Args:
        what: what was checked.
        fault: what is wrong, with what to change; empty if nothing is.
    """

    what: str
    fault: str = ""


def check_plugin(
    registry: Registry, name: str, *, round_trip: bool = True, report: Report | None = None
) -> Iterator[Checked]:
    """Yield the checks of every component of a plugin as they are made, each with its result.

    Args:
        registry: of all plugins.
        name: the plugin's name, or that of its distribution.
        round_trip: also train, resume, train replicas and analyse with each component.
        report: also write a report, by this.

    Raises:
        PluginError: no such plugin exists.
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
                    yield from _component(registered, report, round_trip=round_trip)


def _component(registered: Registered, report: Report | None, *, round_trip: bool) -> Iterator[Checked]:
    kind, name = registered.kind, registered.name
    what = f"{kind} {name}"
    required = _required(registered)
    if required:
        yield Checked(f"{what}: left out, since its option {required!r} has no default; check it in the plugin's tests")
        return
    fault = ""
    shapes: list[tuple[int, ...]] = [SHAPES[0]]
    if kind in ON_SHAPES:
        fault = _fault(
            lambda: shapes.insert(0, _fitting_shape(lambda at: ON_SHAPES[kind](name, data_shape=at))), registered
        )
        yield Checked(f"{what}: contract", fault)
        if kind == "model" and not fault and takes_conditions(registered.target()):
            fault = _fault(lambda: check_model(name, data_shape=shapes[0], conditions=CONDITIONS), registered)
            yield Checked(f"{what}: contract, with conditions", fault)
    elif kind in CHECKS:
        fault = _fault(lambda: CHECKS[kind](name), registered)
        yield Checked(f"{what}: contract", fault)
    if round_trip and not fault:
        with tempfile.TemporaryDirectory() as folder:
            yield from _round_trip(registered, shapes[0], Path(folder), report)


def _required(registered: Registered) -> str:
    """Return an option that has no default; none where the options cannot even be imported, which is told later."""
    try:
        fields = attrs.fields(registered.config_class())
    except ElboverseError:
        return ""
    selected = ("elboverse.kind", "elboverse.default")
    lacking = (
        field.alias or field.name
        for field in fields
        if field.init and field.default is attrs.NOTHING and not any(key in field.metadata for key in selected)
    )
    return next(lacking, "")


def _fitting_shape(check: Callable[[tuple[int, ...]], object]) -> tuple[int, ...]:
    """Return the first shape of points that fits; the first refusal is told where none does."""
    faults: list[Exception] = []
    for shape in SHAPES:
        try:
            check(shape)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may be made for images alone
            faults.append(error if isinstance(error, Exception) else PluginError(f"it exits: {error}"))
        else:
            return shape
    raise faults[0]


def _round_trip(
    registered: Registered, shape: tuple[int, ...], folder: Path, report: Report | None
) -> Iterator[Checked]:
    what = f"{registered.kind} {registered.name}"
    for step, action in _steps(registered, shape, folder, report):
        fault = _fault(action, registered)
        yield Checked(f"{what}: {step}", fault)
        if fault:
            return


def _steps(
    registered: Registered, shape: tuple[int, ...], folder: Path, report: Report | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what a user does with a component: the name of each step, and what it does."""
    run = folder / "run"
    table = _config(registered, shape, folder)
    if registered.kind == "launcher":
        study = {**table, "sweep": {"training.learning_rate": [1e-3, 1e-2]}}
        yield "study", lambda: train_sweep(study, out=run, launcher={"name": registered.name})
        return
    longer = {**table, "training": {**LEARNING, "epochs": 3}}
    yield "train", lambda: train(table, out=run).close()
    yield "resume", lambda: resume(run, overrides=["training.epochs=3"]).close()
    if registered.kind not in {"annealing", "analysis"}:  # a schedule keeps the length that it was laid out for
        yield "resume bitwise", lambda: _require_same(run, train(longer, out=folder / "whole"), registered)
    if registered.kind != "analysis":
        several = {**table, "training": {**LEARNING, "replicas": 2}}
        yield "replicas", lambda: train(several, out=folder / "replicas").close()
    analysis = registered.name if registered.kind == "analysis" else "bounds"
    if registered.kind != "analysis" or not takes_several(registered):
        yield "analyse", lambda: check_analysis(analysis, run)
        if report is not None:
            yield "report", lambda: report(run / RUN_FILE, analysis)


def _require_same(run: Path, whole: Run, registered: Registered) -> None:
    """Check that a run that was resumed holds bitwise the numbers of one that never stopped."""
    with whole, Run.open(run / RUN_FILE) as resumed:
        found = {name: (resumed.series(name), whole.series(name)) for name in resumed.stored}
        found |= {
            f"{split} {name}": (resumed.evaluation(split, name)[-1:], whole.evaluation(split, name)[-1:])
            for split in resumed.splits
            for name in resumed.evaluation_names(split, stored=True)
        }
    for name, (ours, theirs) in found.items():
        if not np.array_equal(ours, theirs, equal_nan=True):
            raise PluginError(
                f"{registered}: a run that was resumed has another {name} than one that never stopped; something is "
                "kept that no checkpoint holds, or drawn from a generator of its own"
            )


def _config(registered: Registered, shape: tuple[int, ...], folder: Path) -> dict[str, Any]:
    kind, chosen = registered.kind, {"name": registered.name}
    table: dict[str, Any] = {
        "name": "check",
        "model": {"name": "vae-1", "network": {"name": "mlp", "hidden": [8]}},
        "dataset": {"name": "circle", "points": POINTS},
        "training": dict(LEARNING),
    }
    if kind == "network":
        table["model"]["network"] = chosen
    elif kind in {"likelihood", "prior", "posterior"}:
        table["model"] = {"name": "vae", "network": {"name": "mlp", "hidden": [8]}, kind: chosen}
    elif kind in {"model", "dataset", "constraint", "regulariser", "annealing", "optimiser"}:
        table[kind] = chosen
    elif kind == "sink":
        table["sinks"] = [chosen]
    if kind == "constraint":
        table["model"]["name"] = "vae-2"
    support = "unit" if kind in ON_SHAPES else ""
    if kind == "likelihood":
        support, shape = str(selection(kind, registered.name, {}).build((DIMENSION,)).support), (DIMENSION,)
    if support:
        np.save(folder / "points.npy", _points(support, shape))
        table["dataset"] = {"name": "array", "path": str(folder / "points.npy"), "scaling": "none"}
    return table


def _points(support: str, shape: tuple[int, ...]) -> Any:
    """Return points of a shape that a likelihood of that support is defined on."""
    stream = generator(0, "check_plugin", support)
    uniform = torch.rand(POINTS, *shape, generator=stream, dtype=torch.float64).clamp(1e-3, 1 - 1e-3)
    made = {
        "real": 4 * uniform - 2,
        "binary": uniform.round(),
        "one-hot": torch.nn.functional.one_hot(uniform.argmax(-1), shape[-1]),
        "positive": uniform + 0.5,
        "counts": (9 * uniform).floor(),
    }
    return made.get(support, uniform).numpy()


def _fault(action: Callable[[], object], registered: Registered) -> str:
    try:
        with attributed([selection(registered.kind, registered.name, {})]):
            action()
    except ElboverseError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
        return f"{type(error).__name__}: {error}"
    return ""
