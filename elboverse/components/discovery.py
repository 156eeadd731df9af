"""Finding plugins: each entry point is loaded by itself, and what is wrong with one costs as little as can be.

A plugin that cannot be imported, or is written for another contract, offers nothing and says why. A hook that raises or
does not exist costs that hook; a component with an impossible name costs that component.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs
import pluggy

from elboverse.components.former import former_modules, told, where_moved
from elboverse.components.hookspecs import CONTRACT, HOOKS, OLDEST_CONTRACT, PROJECT, Component, HookSpecs
from elboverse.errors import PluginError, nearest

__all__ = [
    "Offer",
    "Plugin",
    "frames_of",
    "is_usable_name",
    "listed",
    "normalised",
    "offered_by",
    "offers",
]

BUILT_IN: Final = "elboverse.builtin"
LOAD_VARIABLE: Final = "ELBOVERSE_LOAD_PLUGINS"
SKIP_VARIABLE: Final = "ELBOVERSE_SKIP_PLUGINS"
STRICT_VARIABLE: Final = "ELBOVERSE_STRICT_PLUGINS"
DECLARATION: Final = "ELBOVERSE_CONTRACT"
"""The constant by which a plugin's module says what contract it is written for."""

SLOW: Final = 2.0
"""Seconds after which somebody who waits is told for which plugin."""

LONGEST_NAME: Final = 60


@attrs.frozen
class Plugin:
    """Who offers components.

    Args:
        name: its entry point's name.
        distribution: the installed package that it belongs to.
        version: that package's version.
        failure: why it could not be loaded, in one line; None if it could.
        trace: where that happened, innermost frame last; empty if it did not.
        problems: what else is wrong with it, a line each; the rest of it can be used.
        contract: the contract that it says it is written for; None if it does not say.
    """

    name: str
    distribution: str
    version: str
    failure: str | None = None
    trace: str = ""
    problems: tuple[str, ...] = ()
    contract: int | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@attrs.frozen
class Offer:
    """A plugin and the components that it offers, each with its kind.

    Attributes:
        plugin: the plugin.
        components: what it offers.
        file: the absolute path of a plugin that is a Python file without packaging; else empty.
    """

    plugin: Plugin
    components: tuple[tuple[str, Component], ...] = ()
    file: str = ""


def normalised(name: str) -> str:
    """Return a name as it is compared: without regard to case, ``_`` and ``-``, so that ``VAE-1`` finds ``vae_1``."""
    return name.casefold().replace("_", "").replace("-", "")


def is_usable_name(name: Any) -> bool:
    """Return whether something can be named on a command line and in a config: printable, without ``:`` or ``,``."""
    return (
        isinstance(name, str)
        and bool(normalised(name))
        and name.isprintable()
        and len(name) <= LONGEST_NAME
        and name == name.strip()
        and not name.startswith("-")
        and not set(name) & set(":,=/\\")
    )


def offers(environment: Mapping[str, str]) -> list[Offer]:
    """Return the built-in plugin and the installed ones that the environment asks for, with what they offer.

    Args:
        environment: where the three variables are looked up.

    Raises:
        PluginError: a variable names a plugin that is not installed.
    """
    strict = environment.get(STRICT_VARIABLE, "").strip() not in {"", "0", "false"}
    built_in = Plugin("built-in", PROJECT, importlib.import_module(PROJECT).__version__, contract=CONTRACT)
    found = [_offered(importlib.import_module(BUILT_IN), built_in, strict=strict)]
    entries = sorted(_entries(), key=lambda entry: (entry[0].name, entry[1]))
    skipped = _named(SKIP_VARIABLE, environment.get(SKIP_VARIABLE, ""), entries)
    wanted = entries
    if LOAD_VARIABLE in environment:
        wanted = _named(LOAD_VARIABLE, environment[LOAD_VARIABLE], entries)
    for entry, distribution, version in wanted:
        if (entry, distribution, version) not in skipped:
            found.append(_loaded(entry, Plugin(entry.name, distribution, version), strict=strict))
    return found


def offered_by(module: Any, plugin: Plugin) -> Offer:
    """Return what the hooks of a module or of any other object offer.

    Args:
        module: has functions marked `hookimpl`, and may declare the contract that it is written for.
        plugin: who offers it.

    Raises:
        PluginError: it is written for a contract that this version does not keep.
    """
    return _offered(module, attrs.evolve(plugin, contract=_contract(module, plugin)), strict=False)


def _entries() -> Iterator[tuple[metadata.EntryPoint, str, str]]:
    for entry in dict.fromkeys(metadata.entry_points(group=PROJECT)):
        dist = entry.dist
        yield (entry, dist.name, dist.version) if dist else (entry, "unknown", "unknown")


def _named(
    variable: str, value: str, entries: list[tuple[metadata.EntryPoint, str, str]]
) -> list[tuple[metadata.EntryPoint, str, str]]:
    """Return the entries that a comma list names: by plugin, by distribution, or as ``distribution:plugin``."""
    chosen: list[tuple[metadata.EntryPoint, str, str]] = []
    unknown = []
    for name in dict.fromkeys(part.strip() for part in value.split(",") if part.strip()):
        fitting = [one for one in entries if name in {one[0].name, one[1], f"{one[1]}:{one[0].name}"}]
        if not fitting:
            unknown.append(name)
        chosen += [one for one in fitting if one not in chosen]
    if unknown:
        installed = ", ".join(sorted({entry.name for entry, _, _ in entries})) or "none"
        raise PluginError(f"{variable}: no such plugin: {', '.join(sorted(unknown))}. Installed: {installed}.")
    return chosen


def _loaded(entry: metadata.EntryPoint, plugin: Plugin, *, strict: bool) -> Offer:
    """Return what an installed plugin offers; its failure, if it cannot be loaded."""
    printed = io.StringIO()
    started = time.monotonic()
    try:
        with _patience(plugin), _output_aside(), contextlib.redirect_stdout(printed), former_modules() as former:
            module = entry.load()
            offer = _offered(module, attrs.evolve(plugin, contract=_contract(module, plugin)), strict=strict)
    except (Exception, SystemExit) as error:  # isolation: a stranger's code may raise anything
        if strict:
            raise
        failure = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == PROJECT:
            failure += where_moved(error) or f"; it may be written for another version of elboverse than {_version()}"
        return Offer(attrs.evolve(plugin, failure=failure, trace=frames_of(error)))
    problems = [*offer.plugin.problems, *map(told, former)]
    if printed.getvalue().strip():
        problems.append(f"it prints when it is imported: {_line(printed.getvalue())!r}; nothing may be printed there")
    seconds = time.monotonic() - started
    if seconds > SLOW:
        problems.append(
            f"it took {seconds:.0f} s to import, at every command; give config and build as import paths, or leave it "
            f"out with {SKIP_VARIABLE}={plugin.name}"
        )
    return attrs.evolve(offer, plugin=attrs.evolve(offer.plugin, problems=tuple(problems)))


@contextlib.contextmanager
def _output_aside() -> Iterator[None]:
    """Let what is written to the standard output without Python, as C code does, go to the standard error."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # no such output exists
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _patience(plugin: Plugin) -> Iterator[None]:
    """Say for whom everybody waits, where it takes long."""

    def tell() -> None:
        sys.stderr.write(
            f"Waiting for plugin {plugin}, which takes long to import; {SKIP_VARIABLE}={plugin.name} leaves it out.\n"
        )

    timer = threading.Timer(SLOW, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _contract(module: Any, plugin: Plugin) -> int | None:
    """Return the contract that a plugin declares.

    Raises:
        PluginError: it is none that this version keeps.
    """
    declared = getattr(module, DECLARATION, None)
    if declared is None:
        return None
    if type(declared) is not int:
        raise PluginError(f"{DECLARATION} is {declared!r}; expected an integer such as {CONTRACT}")
    if declared > CONTRACT:
        raise PluginError(
            f"it is written for contract {declared}, and elboverse {_version()} has contract {CONTRACT}: "
            f"pip install --upgrade elboverse, or install an older {plugin.distribution}"
        )
    if declared < OLDEST_CONTRACT:
        raise PluginError(
            f"it is written for contract {declared}, which elboverse {_version()} no longer keeps (it keeps "
            f"{OLDEST_CONTRACT} to {CONTRACT}): pip install --upgrade {plugin.distribution}, or an older elboverse"
        )
    return declared


def _offered(module: Any, plugin: Plugin, *, strict: bool) -> Offer:
    """Return what a module's hooks offer; a hook that fails, or that does not exist, costs that hook alone."""
    # A manager for each plugin: what a broken one leaves behind in a shared one would be blamed on the next.
    manager = pluggy.PluginManager(PROJECT)
    problems: list[str] = []
    trace = ""
    offered: list[tuple[str, Component]] = []
    kinds = {hook: kind for kind, hook in HOOKS.items()}
    marked = [name for name in dir(module) if manager.parse_hookimpl_opts(module, name) is not None]
    if not marked:
        problems.append("it has no function such as elboverse_models that is marked @hookimpl, so it offers nothing")
    order = list(kinds)
    for hook in sorted(marked, key=lambda name: order.index(name) if name in kinds else len(order)):
        if hook not in kinds:
            hint = nearest(hook, kinds)
            problems.append(
                f"unknown hook {hook!r} is left out: elboverse {_version()} (contract {CONTRACT}) has none of that name"
                f"{f'; {hint}' if hint else ''}; a newer elboverse may have it. The hooks are {', '.join(kinds)}"
            )
            continue
        try:
            offered += _components(hook, kinds[hook], getattr(module, hook), problems)
        except (Exception, SystemExit) as error:  # isolation: a stranger's code may raise anything
            if strict:
                raise
            problems.append(f"its hook {hook!r} failed and is left out: {_line(f'{type(error).__name__}: {error}')}")
            trace = trace or frames_of(error)
    if problems and not offered:
        return Offer(attrs.evolve(plugin, failure="; ".join(problems), trace=trace))
    return Offer(attrs.evolve(plugin, problems=tuple(problems)), tuple(offered))


def _components(hook: str, kind: str, implementation: Any, problems: list[str]) -> list[tuple[str, Component]]:
    expected = inspect.signature(getattr(HookSpecs, hook)).parameters.keys() - {"self"}
    unexpected = [name for name in inspect.signature(implementation).parameters if name not in expected]
    if unexpected:
        raise PluginError(f"it takes {set(unexpected)}, and hooks take no argument")
    found = implementation()
    if isinstance(found, Component) or not isinstance(found, Iterable):
        raise PluginError(f"it must return an iterable of elboverse.Component records, not {found!r}")
    usable = []
    for component in found:
        if not isinstance(component, Component):
            raise PluginError(f"it must return elboverse.Component records, not {component!r}")
        complaint = _complaint(component)
        if complaint:
            problems.append(f"a {kind} is left out: {complaint}")
        else:
            usable.append((kind, attrs.evolve(component, summary=_line(component.summary))))
    return usable


def _complaint(component: Any) -> str:
    """Return why a component cannot be listed or named; it may hold anything."""
    if not is_usable_name(component.name):
        return (
            f"its name {component.name!r} cannot be used; expected at most {LONGEST_NAME} printable characters that do "
            "not begin with a dash and have no colon, comma, equals sign, slash or blank at an end"
        )
    if not isinstance(component.summary, str):
        return f"the summary of {component.name!r} is {component.summary!r}; expected a line of text"
    for what, value in (("config", component.config), ("build", component.build)):
        if not (isinstance(value, str) or callable(value)):
            return f"the {what} of {component.name!r} is {value!r}; expected it, or its import path"
    return ""


def _version() -> str:
    return str(importlib.import_module(PROJECT).__version__)


def _line(text: str) -> str:
    return " ".join(text.split())


def frames_of(error: BaseException) -> str:
    """Return where an error arose in a plugin's own files, without our frames and those of Python's import system."""
    ours = (
        __file__, str(Path(__file__).with_name("registry.py")), str(Path(pluggy.__file__).parent), contextlib.__file__,
        "<frozen importlib", str(Path(importlib.__file__).parent),
    )  # fmt: skip
    return listed(frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours))


def listed(frames: Iterable[traceback.FrameSummary]) -> str:
    """Return frames as indented lines, innermost last."""
    return "\n".join(f"    {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames)
