"""Plugins without packaging: a Python file, a module, or `Component` records handed over directly.

A file is named by its path and by the SHA-256 digest of what it holds, both of which a run file records. No file runs
code that its reader did not ask for: a config's ``plugins`` are taken from its own folder alone, and a run file names
its plugins but never loads them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from elboverse.components.discovery import Offer, Plugin, offered_by
from elboverse.components.hookspecs import HOOKS, Component
from elboverse.errors import ConfigError, PluginError

__all__ = [
    "FILES_VARIABLE",
    "REFUSED_VARIABLE",
    "UNPACKAGED",
    "LocalPlugin",
    "file_digest",
    "files_of_config",
    "local_offers",
]

FILES_VARIABLE: Final = "ELBOVERSE_PLUGIN_FILES"
"""Plugin files to load beside the installed plugins, separated as ``PATH`` is; the option ``--plugin`` sets it for the
processes that a command starts."""

REFUSED_VARIABLE: Final = "ELBOVERSE_NO_LOCAL_PLUGINS"
"""Set by the option ``--no-local-plugins``: the plugins that a config names are refused."""

UNPACKAGED: Final = "unpackaged"
"""The version of a plugin that is neither a distribution nor a file."""

LocalPlugin = str | Path | ModuleType | Component | Any
"""What ``plugins=[…]`` takes: a file, a module or any object with hooks, a `Component`."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a plugin file, in hexadecimal.

    Raises:
        PluginError: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PluginError(f"plugin {path}: cannot be read: {error.strerror}") from error


def files_of_config(names: Any, folder: Path | None) -> list[Path]:
    """Return the files that the key ``plugins`` of a config names.

    Args:
        names: the key's value.
        folder: of the config; None where the config is not a file.

    Raises:
        ConfigError: a name leads out of the folder of the config, or no such file exists.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'plugins: got {names!r}; expected a list of file names such as ["my_model.py"]')
    if names and folder is None:
        raise ConfigError("plugins: this config is not a file, so it has no folder to take them from; give --plugin")
    found = []
    for name in names:
        path = (Path(folder or ".") / name).resolve()
        if path.parent != Path(folder or ".").resolve() or path.suffix != ".py":
            raise ConfigError(f"plugins: got {name!r}; expected the name of a .py file in the folder of the config")
        if not path.is_file():
            raise ConfigError(f"plugins: got {name!r}; no such file exists in {path.parent}")
        found.append(path)
    return found


def local_offers(plugins: Iterable[LocalPlugin]) -> list[Offer]:
    """Return what files, modules and components offer, one offer each; all components together are one.

    Raises:
        PluginError: a file cannot be loaded, or something is not a plugin.
    """
    given = list(plugins)
    components = [one for one in given if isinstance(one, Component)]
    offers = [
        _from_file(Path(one)) if isinstance(one, str | Path) else _from_module(one)
        for one in given
        if not isinstance(one, Component)
    ]
    if components:
        unclear = [one.name for one in components if one.kind not in HOOKS]
        if unclear:
            raise PluginError(
                f"plugins: component {unclear[0]!r} does not say of which kind it is; give it as "
                f"Component(…, kind=…) with one of {', '.join(HOOKS)}"
            )
        offers.append(Offer(Plugin("given", "given", UNPACKAGED), tuple((str(one.kind), one) for one in components)))
    return offers


def _from_file(path: Path) -> Offer:
    digest = file_digest(path)
    name = f"elboverse_local_{path.stem}_{digest[:12]}"
    plugin = Plugin(path.stem, path.name, f"sha256:{digest}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {path}: not a Python file; expected a name that ends in .py")
    if name not in sys.modules:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # attrs and torch look classes up by their module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise PluginError(f"plugin {path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return attrs.evolve(_checked(sys.modules[name], plugin), file=str(path.resolve()))


def _from_module(module: Any) -> Offer:
    name = getattr(module, "__name__", type(module).__name__)
    file = getattr(module, "__file__", None)
    version = f"sha256:{file_digest(Path(file))}" if file else UNPACKAGED
    offer = _checked(module, Plugin(name.rpartition(".")[2], Path(file).name if file else name, version))
    return attrs.evolve(offer, file=str(Path(file).resolve())) if file else offer


def _checked(module: Any, plugin: Plugin) -> Offer:
    offer = offered_by(module, plugin)
    if not offer.components:
        reason = offer.plugin.failure or "it offers no component"
        raise PluginError(f"plugin {plugin.distribution}: {reason}")
    return offer
