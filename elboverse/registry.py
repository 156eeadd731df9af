"""Plugin discovery and isolation: (kind, name) → component. Immutable once built."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import attrs
import pluggy

from elboverse.errors import ElboverseError, PluginError, UnknownNameError, nearest, out_of_memory
from elboverse.hookspecs import HOOKS, PROJECT, Component, HookSpecs

__all__ = ["Plugin", "Registered", "Registry", "Selection", "attributed", "discover", "normalised"]

BUILT_IN = "elboverse.builtin"
LOAD_VARIABLE = "ELBOVERSE_LOAD_PLUGINS"
SKIP_VARIABLE = "ELBOVERSE_SKIP_PLUGINS"
STRICT_VARIABLE = "ELBOVERSE_STRICT_PLUGINS"

FOUND_IN = {
    ("dataset", "mnist"): "elboverse-images",
    ("dataset", "fashionmnist"): "elboverse-images",
    ("dataset", "celeba"): "elboverse-images",
    ("dataset", "imagefolder"): "elboverse-images",
    ("dataset", "susy"): "elboverse-susy",
    ("launcher", "ray"): "elboverse-ray",
    ("launcher", "slurm"): "elboverse-slurm",
}
"""What distributions of the project's own provide: (kind, normalised name) → distribution."""


@attrs.frozen
class Plugin:
    """Who offers components.

    Args:
        name: its entry point's name.
        distribution: the installed package that it belongs to.
        version: that package's version.
        failure: why it could not be loaded, in one line; None if it could.
        trace: where that happened, innermost frame last; empty if it did not.
    """

    name: str
    distribution: str
    version: str
    failure: str | None = None
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@attrs.frozen
class Registered:
    """A component, its kind and the plugin that offers it."""

    kind: str
    component: Component
    plugin: Plugin

    @property
    def name(self) -> str:
        """The component's name as its plugin spells it."""
        return self.component.name

    @property
    def origin(self) -> tuple[str, str]:
        """The module of what builds the component, and its name there."""
        build = self.component.build
        module, _, name = build.partition(":") if isinstance(build, str) else (build.__module__, "", build.__qualname__)
        return module, name

    def config_class(self) -> type[Any]:
        """Return the attrs class of the component's options, importing it if need be.

        Raises:
            PluginError: it cannot be imported or is no attrs class.
        """
        found = self._import(self.component.config)
        who = f"{self.kind} {self.name!r} of plugin {self.plugin}"
        if not (isinstance(found, type) and attrs.has(found)):
            raise PluginError(f"{who}: its config must be an attrs class, not {found!r}")
        if "name" in attrs.fields_dict(found):
            raise PluginError(f"{who}: its config has a field 'name', the key that selects the component; rename it")
        return found

    def build(self, options: Any, *arguments: Any) -> Any:
        """Make the component from its structured options and the arguments that its kind takes."""
        return self._import(self.component.build)(options, *arguments)

    def _import(self, target: Any) -> Any:
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # whatever a plugin's module raises at import
            raise PluginError(
                f"{self.kind} {self.name!r} of plugin {self.plugin}: cannot import {target!r}: "
                f"{type(error).__name__}: {error}\n{_frames(error)}".rstrip()
            ) from error


@attrs.frozen
class Selection:
    """A component that a config selected, with its structured options."""

    registered: Registered
    options: Any

    @property
    def name(self) -> str:
        """The component's name."""
        return self.registered.name

    def build(self, *arguments: Any) -> Any:
        """Make the component; the arguments are those of its kind (see `hookspecs.Component`)."""
        return self.registered.build(self.options, *arguments)


@contextmanager
def attributed(selections: Sequence[Selection]) -> Iterator[None]:
    """Turn what a component's code raises into a `PluginError` that names component and plugin and shows its frames.

    What is raised on purpose, as an `ElboverseError`, passes, and so does what no component's code has part in. That
    memory is short is nobody's fault, and said in a sentence.

    Args:
        selections: the components that are at work.

    Raises:
        PluginError: a component raised anything else.
        OutOfMemoryError: there is not enough memory.
    """
    try:
        yield
    except ElboverseError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        if short := out_of_memory(error):
            raise short from error
        frames = list(traceback.walk_tb(error.__traceback__))
        culprit = _culprit([frame for frame, _ in reversed(frames)], selections)
        if culprit is None:
            raise
        shown = [one for one in frames if one is frames[-1] or any(_in_package(one[0], own) for own in selections)]
        trace = _listed(traceback.StackSummary.extract(shown))
        raise PluginError(
            f"{culprit.registered.kind} {culprit.name!r} of plugin {culprit.registered.plugin} failed: "
            f"{type(error).__name__}: {error}\n{trace}"
        ) from error


def _culprit(frames: Sequence[FrameType], selections: Sequence[Selection]) -> Selection | None:
    """Return the component whose code the first frame belongs to: the very thing, else its module, else its package."""
    for belongs in (_in_object, _in_module, _in_package):
        for frame in frames:
            for selection in selections:
                if belongs(frame, selection):
                    return selection
    return None


def _in_object(frame: FrameType, selection: Selection) -> bool:
    name = frame.f_code.co_qualname.partition(".")[0]
    return (_module_of(frame), name) == selection.registered.origin


def _in_module(frame: FrameType, selection: Selection) -> bool:
    return _module_of(frame) == selection.registered.origin[0]


def _in_package(frame: FrameType, selection: Selection) -> bool:
    home = selection.registered.origin[0]
    package = BUILT_IN if home.startswith(f"{BUILT_IN}.") else home.partition(".")[0]
    return f"{_module_of(frame)}.".startswith(f"{package}.")


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def normalised(name: str) -> str:
    """Return a name as it is compared: without regard to case, ``_`` and ``-``, so that ``VAE-1`` finds ``vae_1``."""
    return name.casefold().replace("_", "").replace("-", "")


@attrs.frozen
class Registry:
    """All components that could be found.

    Args:
        plugins: every plugin, also those that failed.
        components: kind → normalised name → component.
    """

    plugins: tuple[Plugin, ...]
    components: Mapping[str, Mapping[str, Registered]]

    def names(self, kind: str) -> list[str]:
        """Return the names of all components of a kind, sorted."""
        return sorted(registered.name for registered in self.components[kind].values())

    def find(self, kind: str, name: str) -> Registered:
        """Return the component of that kind and name.

        Args:
            kind: a key of `hookspecs.HOOKS`.
            name: any spelling; case, ``_`` and ``-`` do not matter.

        Raises:
            UnknownNameError: there is none. The message lists those that exist, the nearest one, and every plugin
                that failed to load, since one of them might have offered it.
        """
        found = self.components[kind].get(normalised(name))
        if found is not None:
            return found
        known = self.names(kind)
        hint = nearest(name, known)
        message = f"unknown {kind} {name!r}{f' ({hint})' if hint else ''}. Known: {', '.join(known)}."
        elsewhere = FOUND_IN.get((kind, normalised(name)))
        if elsewhere is not None:
            message += f" {elsewhere} provides it: pip install {elsewhere}."
        for plugin in self.plugins:
            if plugin.failure is not None:
                message += f"\nPlugin {plugin} might offer it but could not be loaded: {plugin.failure}\n{plugin.trace}"
        raise UnknownNameError(message.rstrip())


def discover(environment: Mapping[str, str] | None = None) -> Registry:
    """Find the built-in and all installed plugins and return what they offer.

    Each entry point of the group ``elboverse`` is loaded by itself: one that fails is listed with its reason in
    `Registry.plugins`. ``ELBOVERSE_LOAD_PLUGINS`` limits which are loaded (unset: all; empty: none; a comma list:
    those) and ``ELBOVERSE_SKIP_PLUGINS``, a comma list, leaves some of them out; ``ELBOVERSE_STRICT_PLUGINS=1``
    re-raises the first failure at once.

    Args:
        environment: where the three variables are looked up; the process' own by default.

    Raises:
        PluginError: two plugins offer a component of one kind under one name or have one name themselves, or a
            variable names a plugin that is not installed.
    """
    environment = os.environ if environment is None else environment
    strict = environment.get(STRICT_VARIABLE, "").strip() not in {"", "0", "false"}
    found = _entry_points()
    offers: list[tuple[Plugin, list[tuple[str, Component]]]] = []
    own_version = importlib.import_module(PROJECT).__version__
    built_in = importlib.import_module(BUILT_IN)
    offers.append((Plugin("built-in", PROJECT, own_version), _components(built_in, "built-in")))

    skipped = _named(SKIP_VARIABLE, environment.get(SKIP_VARIABLE, ""), found)
    wanted = _named(LOAD_VARIABLE, environment[LOAD_VARIABLE], found) if LOAD_VARIABLE in environment else sorted(found)
    for name in (name for name in wanted if name not in skipped):
        entry = found[name]
        plugin = Plugin(name, *_distribution(entry))
        try:
            offers.append((plugin, _components(entry.load(), name)))
        except (Exception, SystemExit) as error:  # isolation: a stranger's code may raise anything
            if strict:
                raise
            failure = " ".join(f"{type(error).__name__}: {error}".split())
            offers.append((attrs.evolve(plugin, failure=failure, trace=_frames(error)), []))
    return _assembled(offers)


def _entry_points() -> dict[str, metadata.EntryPoint]:
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=PROJECT):
        other = found.setdefault(entry.name, entry)
        if other is not entry:
            owners = " and ".join(" ".join(_distribution(one)) for one in (other, entry))
            raise PluginError(f"two plugins are named {entry.name!r}, those of {owners}. Uninstall one of them.")
    return found


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown")


def _named(variable: str, value: str, found: Mapping[str, metadata.EntryPoint]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    unknown = sorted(set(names) - set(found))
    if unknown:
        installed = ", ".join(sorted(found)) or "none"
        raise PluginError(f"{variable}: no such plugin: {', '.join(unknown)}. Installed: {installed}.")
    return names


def _components(plugin: Any, name: str) -> list[tuple[str, Component]]:
    # A manager for each plugin: what a broken one leaves behind in a shared one would be blamed on the next.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        hooks = ", ".join(HOOKS.values())
        raise PluginError(f"{error}; the hooks are {hooks}") from error
    return [
        (kind, _checked(component, hook))
        for kind, hook in HOOKS.items()
        for implementation in getattr(manager.hook, hook).get_hookimpls()
        for component in implementation.function()
    ]


def _checked(component: Any, hook: str) -> Component:
    if not isinstance(component, Component):
        raise PluginError(f"{hook} must return elboverse.Component records, not {component!r}")
    if not (isinstance(component.name, str) and normalised(component.name)):
        raise PluginError(f"{hook} returned a component without a name")
    return component


def _assembled(offers: Iterable[tuple[Plugin, list[tuple[str, Component]]]]) -> Registry:
    components: dict[str, dict[str, Registered]] = {kind: {} for kind in HOOKS}
    plugins = []
    for plugin, offered in offers:
        plugins.append(plugin)
        for kind, component in offered:
            taken = components[kind].setdefault(
                normalised(component.name), registered := Registered(kind, component, plugin)
            )
            if taken is not registered:
                raise PluginError(
                    f"two plugins offer a {kind} named {component.name!r}: {taken.plugin} and {plugin}. "
                    f"Uninstall one of them, or leave one out with {SKIP_VARIABLE}."
                )
    return Registry(
        tuple(plugins),
        MappingProxyType({kind: MappingProxyType(by_name) for kind, by_name in components.items()}),
    )


def _frames(error: BaseException) -> str:
    """Return where an error arose in a plugin's own files, without our frames and those of Python's import system."""
    ours = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent))
    return _listed(frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours))


def _listed(frames: Iterable[traceback.FrameSummary]) -> str:
    return "\n".join(f"    {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames)
