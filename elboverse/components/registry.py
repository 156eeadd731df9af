"""Plugin discovery and isolation: (kind, name) → component. Immutable once built."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, MappingProxyType
from typing import Any, Final

import attrs

from elboverse.components.discovery import BUILT_IN, Offer, Plugin, frames_of, listed, normalised, offers
from elboverse.components.former import former_modules, told, where_moved
from elboverse.components.hookspecs import HOOKS, KINDS, PROJECT, Component
from elboverse.components.local import FILES_VARIABLE, LocalPlugin, local_offers
from elboverse.errors import ConfigError, ElboverseError, PluginError, UnknownNameError, nearest, out_of_memory
from elboverse.warning import warn

__all__ = ["Plugin", "Registered", "Registry", "Selection", "attributed", "discover", "normalised", "takes_conditions"]

FILE_VERSION: Final = "sha256:"
"""How the version of a plugin that is a file begins: its digest follows."""

KIND_OF: Final = {kind.name: kind for kind in KINDS}

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
class Registered:
    """A component, its kind and the plugin that offers it; whether other plugins offer that kind and name too."""

    kind: str
    component: Component
    plugin: Plugin
    clashes: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.component.name!r} of plugin {self.plugin}"

    @property
    def name(self) -> str:
        """The component's name as its plugin spells it, with its distribution where others offer that name too."""
        return self.qualified if self.clashes else self.component.name

    @property
    def qualified(self) -> str:
        """The name that no other distribution offers."""
        return f"{self.plugin.distribution}:{self.component.name}"

    @property
    def is_built_in(self) -> bool:
        """Whether it ships with elboverse."""
        return self.plugin.distribution == PROJECT

    @property
    def origin(self) -> tuple[str, str]:
        """The module of what builds the component, and its name there."""
        build = self.component.build
        module, _, name = build.partition(":") if isinstance(build, str) else (build.__module__, "", build.__qualname__)
        return module, name

    def config_class(self) -> type[Any]:
        """Return the attrs class of the component's options, importing it if need be.

        Raises:
            PluginError: it cannot be imported or is not an attrs class.
        """
        found = self._import(self.component.config)
        who = f"{self.kind} {self.name!r} of plugin {self.plugin}"
        if not (isinstance(found, type) and attrs.has(found)):
            raise PluginError(f"{who}: its config must be an attrs class, not {found!r}")
        if "name" in attrs.fields_dict(found):
            raise PluginError(f"{who}: its config has a field 'name', the key that selects the component; rename it")
        return found

    def build(self, options: Any, *arguments: Any) -> Any:
        """Make the component from its structured options and the arguments that its kind takes.

        Raises:
            PluginError: it cannot be imported, or what it returns lacks what its kind must have.
        """
        found = _called(self, self.target(), options, *arguments)
        kind = KIND_OF[self.kind]
        lacking = [member for member in kind.members if not hasattr(found, member)]
        if lacking:
            modules = {"__call__": "forward", "named_parameters": "parameters, so it is not a torch.nn.Module"}
            raise PluginError(
                f"{self}: build must return {kind.returns}; got {_described(found)}, which has no "
                f"{' and no '.join(modules.get(member, member) for member in lacking)}"
            )
        return found

    def target(self) -> Callable[..., Any]:
        """Return what makes the component, importing it if need be."""
        found: Callable[..., Any] = self._import(self.component.build)
        return found

    def _import(self, target: Any) -> Any:
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            with former_modules() as former:
                found = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # whatever a plugin's module raises at import
            raise PluginError(
                f"{self.kind} {self.name!r} of plugin {self.plugin}: cannot import {target!r}: "
                f"{type(error).__name__}: {error}{where_moved(error)}\n{frames_of(error)}".rstrip()
            ) from error
        for name in former:
            warn(f"{self}: {told(name)}")
        return found


def _called(registered: Registered, target: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call what makes a component; that it cannot be called so is told, in place of Python's own message."""
    try:
        return target(*arguments, **named)
    except TypeError as error:
        try:
            inspect.signature(target).bind(*arguments, **named)
        except TypeError as misfit:
            call = KIND_OF[registered.kind].call
            raise PluginError(f"{registered}: its build cannot be called as {call}: {misfit}") from error
        except ValueError:  # what is written in C may have no signature
            pass
        raise


def _described(value: Any) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"


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

    def build_given(self, conditions: int, *arguments: Any) -> Any:
        """Make a model for points with so many conditions each, C; see `contracts.Conditional`.

        Raises:
            ConfigError: the data have conditions, and its `build` takes none.
        """
        target = self.registered.target()
        if takes_conditions(target):
            return _called(self.registered, target, self.options, *arguments, conditions=conditions)
        if conditions:
            raise ConfigError(
                f"dataset.conditions: got {conditions} of them; expected none, since model {self.name!r} takes no "
                'conditions (model "vae" does)'
            )
        return _called(self.registered, target, self.options, *arguments)


def takes_conditions(target: Callable[..., Any]) -> bool:
    """Return whether what makes a model is given the number of conditions; see `contracts.Conditional`."""
    try:
        return "conditions" in inspect.signature(target).parameters
    except (TypeError, ValueError):  # what is written in C may have no signature
        return False


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
        trace = listed(traceback.StackSummary.extract(shown))
        who = f"{culprit.registered.kind} {culprit.name!r} of plugin {culprit.registered.plugin}"
        others = [str(own.registered) for own in selections if not own.registered.is_built_in]
        if culprit.registered.is_built_in and others:  # it may have been handed something by one of them
            who += f", with {', '.join(others)},"
        raise PluginError(f"{who} failed: {type(error).__name__}: {error}\n{trace}") from error


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


@attrs.frozen
class Registry:
    """All components that could be found.

    Args:
        plugins: every plugin, also those that failed.
        components: kind → key → component. The key is the normalised name, or, where several plugins offer one name,
            that of ``distribution:name`` for each.
        recorded: what a run file says of the components that it used: (kind, normalised name) → distribution, version.
        offers: what each plugin offers, as it was found.
    """

    plugins: tuple[Plugin, ...]
    components: Mapping[str, Mapping[str, Registered]]
    recorded: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType({})
    offers: tuple[Offer, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The Python files among the plugins, which another process has to load too."""
        return tuple(offer.file for offer in self.offers if offer.file)

    def names(self, kind: str) -> list[str]:
        """Return the names of all components of a kind, sorted."""
        return sorted(registered.name for registered in self.components[kind].values())

    def default(self, kind: str, name: str) -> str:
        """Return the name of a component that is taken where a config names none: the one that is built in.

        So a plugin that offers a name such as ``mlp`` too is met only where a config says that name.
        """
        own = f"{PROJECT}:{name}"
        return own if normalised(own) in self.components[kind] else name

    def as_recorded(self, used: Sequence[Any]) -> Registry:
        """Return a registry that prefers the plugins which a run used, where several offer one name.

        Args:
            used: the run's components, tables with kind, name, distribution and version.
        """
        recorded = {
            (str(part.get("kind")), normalised(str(part.get("name")))): (
                str(part.get("distribution")),
                str(part.get("version")),
            )
            for part in used
            if isinstance(part, dict)
        }
        return attrs.evolve(self, recorded=MappingProxyType(recorded))

    def joined(self, plugins: Iterable[LocalPlugin]) -> Registry:
        """Return the components with those of plugins without packaging: files, modules, `Component` records.

        Raises:
            PluginError: one of them cannot be loaded.
        """
        registry = _assembled([*self.offers, *local_offers(plugins)])
        return attrs.evolve(registry, recorded=self.recorded)

    def find(self, kind: str, name: str) -> Registered:
        """Return the component of that kind and name.

        Args:
            kind: a key of `hookspecs.HOOKS`.
            name: any spelling; case, ``_`` and ``-`` do not matter. ``distribution:name`` is that of one distribution.

        Raises:
            UnknownNameError: there is none. The message lists those that exist, the nearest one, and every plugin
                that failed to load, since one of them might have offered it.
            PluginError: several plugins offer it; the message names them, and how to write which one is meant.
        """
        wanted, _, plain = name.rpartition(":")
        offered = [one for one in self.components[kind].values() if normalised(one.component.name) == normalised(plain)]
        if wanted:
            offered = [one for one in offered if normalised(one.plugin.distribution) == normalised(wanted)]
        then = self.recorded.get((kind, normalised(name)))
        if len(offered) > 1 and then is not None:
            offered = [one for one in offered if one.plugin.distribution == then[0]] or offered
        if len(offered) == 1:
            _require_same_file(offered[0], then)
            return offered[0]
        if offered:
            owners = " and ".join(str(one.plugin) for one in offered)
            raise PluginError(
                f"several plugins offer a {kind} named {plain!r}: {owners}. Say which one is meant by the name "
                f"{' or '.join(repr(one.qualified) for one in offered)}"
            )
        raise UnknownNameError(self._unknown(kind, name, then))

    def _unknown(self, kind: str, name: str, then: tuple[str, str] | None) -> str:
        known = self.names(kind)
        hint = nearest(name, known)
        message = f"unknown {kind} {name!r}{f' ({hint})' if hint else ''}. Known: {', '.join(known)}."
        elsewhere = FOUND_IN.get((kind, normalised(name)))
        if then is not None and then[1].startswith(FILE_VERSION):
            message += (
                f" The run was made with the file {then[0]} ({then[1]}). A run file loads no code by itself: give "
                f"--plugin {then[0]}, or plugins=[{then[0]!r}] in Python."
            )
        elif then is not None and then[0] != PROJECT:
            message += (
                f" The run was made with {then[0]} {then[1]}, which is missing: pip install {then[0]}=={then[1]}."
            )
        elif elsewhere is not None:
            message += f" {elsewhere} provides it: pip install {elsewhere}."
        for plugin in self.plugins:
            if plugin.failure is not None:
                message += f"\nPlugin {plugin} might offer it but could not be loaded: {plugin.failure}\n{plugin.trace}"
            elif plugin.problems:
                message += f"\nPlugin {plugin} might offer it, but: {'; '.join(plugin.problems)}"
        return message.rstrip()


def _require_same_file(found: Registered, then: tuple[str, str] | None) -> None:
    """Refuse a plugin file that differs from what a run was made with."""
    version = found.plugin.version
    if then is None or not then[1].startswith(FILE_VERSION) or not version.startswith(FILE_VERSION):
        return
    if version != then[1]:
        raise PluginError(
            f"plugin file {found.plugin.distribution}: got {version[:19]}…; expected {then[1][:19]}…, the file "
            "that the run was made with. Restore it, or train a new run with the changed one."
        )


def discover(environment: Mapping[str, str] | None = None, plugins: Iterable[LocalPlugin] = ()) -> Registry:
    """Find the built-in and all installed plugins and return what they offer.

    Each entry point of the group ``elboverse`` is loaded by itself: one that fails is listed with its reason in
    `Registry.plugins`. ``ELBOVERSE_LOAD_PLUGINS`` limits which are loaded (unset: all; empty: none; a comma list:
    those) and ``ELBOVERSE_SKIP_PLUGINS``, a comma list, leaves some of them out; ``ELBOVERSE_STRICT_PLUGINS=1``
    re-raises the first failure at once.

    Args:
        environment: where the variables are looked up; the process' own by default.
        plugins: further ones, without packaging: files, modules, or `Component` records that name their kind.

    Raises:
        PluginError: a variable names a plugin that is not installed, or one without packaging cannot be loaded.
    """
    environment = os.environ if environment is None else environment
    found = offers(environment)
    files = [part for part in environment.get(FILES_VARIABLE, "").split(os.pathsep) if part]
    found += local_offers(list(dict.fromkeys(files)) + list(plugins))
    return _assembled(found)


def _assembled(found: Sequence[Offer]) -> Registry:
    """Return the registry of what plugins offer; a name that several offer is told apart by its distribution.

    A file that is given twice is one plugin.
    """
    found = list({offer.file or number: offer for number, offer in enumerate(found)}.values())
    every = [Registered(kind, component, offer.plugin) for offer in found for kind, component in offer.components]
    times = Counter((one.kind, normalised(one.component.name)) for one in every)
    components: dict[str, dict[str, Registered]] = {kind: {} for kind in HOOKS}
    problems: dict[Plugin, list[str]] = {}
    for one in every:
        key = normalised(one.component.name)
        several = times[one.kind, key] > 1
        registered = attrs.evolve(one, clashes=several)
        taken = components[one.kind].setdefault(normalised(registered.name) if several else key, registered)
        if taken is not registered:
            problems.setdefault(one.plugin, []).append(
                f"a {one.kind} is left out: {one.plugin.distribution} offers the name {one.component.name!r} twice"
            )
    plugins = tuple(
        attrs.evolve(offer.plugin, problems=(*offer.plugin.problems, *problems.get(offer.plugin, ())))
        for offer in found
    )
    return Registry(
        plugins,
        MappingProxyType({kind: MappingProxyType(by_name) for kind, by_name in components.items()}),
        offers=tuple(found),
    )
