"""What a look at a model leaves as it was, and must not find changed: attributes, buffers, random states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from elboverse.errors import PluginError

__all__ = [
    "is_same",
    "kept_attributes",
    "kept_buffers",
    "numpy_state",
    "require_registered",
    "restored",
    "what_changed",
]

TORCHS: Final = frozenset(vars(nn.Module()))
"""Attributes that torch keeps in every module."""


def require_registered(model: nn.Module, who: str) -> None:
    """Check that no trainable part hides in a list, a tuple or a dict, where torch does not see it."""
    registered = {id(value) for value in model.parameters()}
    for where, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_"):
                continue
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            for part in parts:
                inside = list(part.parameters()) if isinstance(part, nn.Module) else [part]
                if any(isinstance(one, nn.Parameter) and id(one) not in registered for one in inside):
                    path = f"{where}.{name}" if where else name
                    raise PluginError(
                        f"{who}: {path!r} is a {type(value).__name__} with parameters in it, which torch does not see, "
                        "so they would never train; take nn.ModuleList, nn.ModuleDict or nn.ParameterList"
                    )


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give back buffers, attributes, mode and every random state, whatever happens within."""
    attributes = {name: _own(module) for name, module in model.named_modules()}
    training = {name: module.training for name, module in model.named_modules()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a plugin may use
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002
            for name, module in model.named_modules():
                module.training = training.get(name, module.training)
                before = attributes.get(name, {})
                for attribute in _own(module).keys() - before.keys():
                    del vars(module)[attribute]
                vars(module).update(before)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers and buffer.shape == buffers[name].shape:
                        buffer.copy_(buffers[name])


def numpy_state() -> tuple[Any, ...]:
    """Return NumPy's global random state, as something that can be compared."""
    state = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002 - what a plugin may use
    return tuple(part.tobytes() if isinstance(part, np.ndarray) else part for part in state)


def kept_attributes(model: nn.Module) -> dict[str, Any]:
    """Return what modules hold beside parameters, buffers and submodules; lists and dicts as they are now."""
    return {
        f"{where}.{name}" if where else name: value.copy() if isinstance(value, list | dict) else value
        for where, module in model.named_modules()
        for name, value in _own(module).items()
    }


def _own(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are none of torch's own."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(module).items()
        if name not in TORCHS and not name.endswith("_hooks") and "_hooks_" not in name
    }


def kept_buffers(model: nn.Module) -> dict[str, Any]:
    """Return copies of a model's buffers by name."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def what_changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the name of something that is new or different; an empty one where nothing is."""
    for name, other in after.items():
        if name not in before:
            return name
        one = before[name]
        if one is other:
            continue
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if not is_same(one, other):
                return name
            continue
        try:
            equal = type(one) is type(other) and bool(one == other)
        except (RuntimeError, ValueError, TypeError):
            equal = False
        if not equal:
            return name
    return ""


def is_same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one shape, one type and equal values."""
    return one.shape == other.shape and one.dtype == other.dtype and bool(torch.equal(one, other))
