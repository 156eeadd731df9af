"""The hooks through which plugins offer components, and `Component`, the record that they return.

A plugin is a module (or any object) named in the entry-point group ``elboverse`` that implements some of these
hooks. Each hook takes nothing and returns an iterable of `Component`; it must have no side effects, and no
order among plugins may be assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import pluggy

__all__ = [
    "CONTRACT",
    "HOOKS",
    "KINDS",
    "OLDEST_CONTRACT",
    "PROJECT",
    "Component",
    "HookSpecs",
    "Kind",
    "hookimpl",
    "selects",
]

PROJECT: Final = "elboverse"

CONTRACT: Final = 2
"""The number of the contracts between elboverse and plugins. It grows where a plugin may have to change.

A plugin says what it is written for by ``ELBOVERSE_CONTRACT = 2`` in its module; one that does not is taken to be
written for any. What changed: 2 refuses models that would train silently wrong, and the method `misfits` of options is
called `conflicts`.
"""

OLDEST_CONTRACT: Final = 1
"""The oldest contract that is still kept."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@attrs.frozen
class Kind:
    """A kind of component: what a config calls it, which hook offers it, how its `build` is called.

    Args:
        name: also its table's key in a config.
        hook: the hook that offers components of the kind.
        arguments: what `build` is called with, in order.
        returns: what `build` returns, as messages and the documentation say it.
        plural: what several of them are called.
        members: what that must have, where no later check looks for it.
    """

    name: str
    hook: str
    arguments: tuple[str, ...]
    returns: str
    plural: str
    members: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """How `build` is called, such as ``build(options, seed)``."""
        return f"build({', '.join(self.arguments)})"


KINDS: Final = (
    Kind("model", "elboverse_models", ("options", "data_shape"), "a `contracts.Model`", "VAE types"),
    Kind(
        "network",
        "elboverse_networks",
        ("options", "data_shape", "latent_dim"),
        "a `contracts.Network`",
        "networks",
        ("encoder", "encoder_features", "decoder", "decoder_features", "build_output", "output_activation"),
    ),
    Kind(
        "likelihood",
        "elboverse_likelihoods",
        ("options", "data_shape"),
        "a `contracts.Likelihood`",
        "likelihoods",
        ("outputs", "support", "theorem", "__call__", "named_parameters"),
    ),
    Kind(
        "prior",
        "elboverse_priors",
        ("options", "latent_dim", "data_shape"),
        "a `contracts.PriorModule`",
        "priors",
        ("theorem", "__call__", "named_parameters"),
    ),
    Kind(
        "posterior",
        "elboverse_posteriors",
        ("options", "latent_dim"),
        "a `contracts.Posterior`",
        "posteriors",
        ("width", "initial_bias", "__call__", "named_parameters"),
    ),
    Kind(
        "regulariser",
        "elboverse_regularisers",
        ("options",),
        "a `contracts.Regulariser`",
        "regularisers",
        ("extra",),
    ),
    Kind("dataset", "elboverse_datasets", ("options", "seed"), "a `contracts.Data`", "datasets"),
    Kind(
        "constraint",
        "elboverse_weight_constraints",
        ("options",),
        "a `contracts.Projection` or `contracts.Penalty`",
        "weight constraints",
    ),
    Kind(
        "annealing",
        "elboverse_annealing_schedules",
        ("options",),
        "a `contracts.AnnealingSchedule`",
        "annealing schedules",
    ),
    Kind("optimiser", "elboverse_optimisers", ("options",), "a `contracts.optimiser.Optimiser`", "optimisers"),
    Kind("analysis", "elboverse_analyses", ("options", "run"), "a `contracts.Result`", "analyses"),
    Kind(
        "sink",
        "elboverse_sinks",
        ("options",),
        "a `contracts.Sink`",
        "sinks",
        ("begin", "receive", "saved", "end"),
    ),
    Kind(
        "launcher",
        "elboverse_launchers",
        ("options",),
        "a `contracts.Launcher`",
        "launchers of studies",
        ("check", "launch", "stop"),
    ),
)
"""Every kind of component. A new kind is a line here, a line in `builtin` and a line in docs/plugins.md."""

HOOKS: Final = {kind.name: kind.hook for kind in KINDS}
"""The name of each kind and the hook that offers it."""


@attrs.frozen
class Component:
    """One thing that a plugin offers under a name.

    Args:
        name: how a config names it. Case, ``_`` and ``-`` do not matter when it is looked up.
        config: the attrs class of its options, or its import path ``"package.module:Class"``.
        build: what makes it, or its import path. It is called with the structured options first, then by kind:
            see `KINDS`. An analysis whose options class has ``several_runs = True`` is given a tuple of runs.
        summary: one line for ``elboverse plugins``.
        kind: a key of `HOOKS`, for a component that is handed over by itself, in ``plugins=[…]``; a hook says it else.
    """

    name: str
    config: type[Any] | str
    build: Callable[..., Any] | str
    summary: str
    kind: str | None = None


def _specification(kind: Kind) -> Callable[..., Any]:
    def offer(self: Any) -> Iterable[Component]:  # noqa: ARG001 - pluggy wants the name
        raise AssertionError("a specification is never called")

    offer.__name__ = kind.hook
    offer.__qualname__ = f"HookSpecs.{kind.hook}"
    offer.__doc__ = f"Offer {kind.plural}; `{kind.call}` returns {kind.returns}."
    return hookspec(offer)


HookSpecs: Final = type(
    "HookSpecs", (), {"__doc__": "The hooks.", **{kind.hook: _specification(kind) for kind in KINDS}}
)
"""The hooks, one per kind of component; none takes an argument, and each returns an iterable of `Component`."""


def selects(kind: str, default: str | None = None, *, several: bool = False, help: str = "") -> Any:  # noqa: A002 - as in click
    """Return an attrs field that selects a component of another kind, as a model selects its network.

    In a config it is a table with a ``name`` and the options of the component so named. In the structured
    options it is a `registry.Selection`, whose `build` makes the component.

    Args:
        kind: a key of `HOOKS`.
        default: name of the component that is taken where the table is missing; None makes it required.
        several: whether a list of tables selects several of them; the field then holds a tuple.
        help: one line on what it is for.

    Example:
        >>> @attrs.frozen(kw_only=True)
        ... class MyOptions:
        ...     network: "Selection" = selects("network", default="mlp")
    """
    if kind not in HOOKS:
        raise ValueError(f"kind is one of {', '.join(HOOKS)}, not {kind!r}")
    metadata = {"elboverse.kind": kind, "elboverse.default": default, "elboverse.several": several, "help": help}
    return attrs.field(metadata=metadata)
