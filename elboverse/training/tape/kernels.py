"""How to call an operation so that it writes its results where they are wanted, at the least cost of the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload

__all__ = ["Kernel", "build_kernels", "is_elementwise"]

Kernel = Callable[[], Any]
"""A call with everything bound."""

ELEMENTWISE: Final = frozenset(
    {"leaky_relu_backward", "threshold_backward", "elu_backward", "gelu_backward", "silu_backward", "softplus_backward"}
    | {"sigmoid_backward", "tanh_backward", "hardtanh_backward", "hardsigmoid_backward", "hardswish_backward"}
)
"""Elementwise operations that torch does not tag as such."""

ARITHMETIC: Final = frozenset({"add", "sub", "mul", "div"})

EMPTY: Final = frozenset({"empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided"})


@cache
def is_elementwise(func: OpOverload) -> bool:
    """Return whether an operation works number by number, so that it may write over an input."""
    name = func._schema.name.removeprefix("aten::")
    return torch.Tag.pointwise in func.tags or name in ELEMENTWISE


def build_kernels(
    func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any], outs: Sequence[Tensor | None]
) -> list[Kernel]:
    """Return the calls that stand for an operation; each is tried at once, on the numbers that are there.

    Args:
        func: the operation.
        args: positional arguments, with the tensors of the tape.
        kwargs: keyword arguments.
        outs: where its results go; empty for an operation that writes to its arguments.
    """
    name = func._schema.name.removeprefix("aten::")
    if name.rstrip("_") in ARITHMETIC:
        func, args = _with_tensor_operand(func, args)
    if not outs:
        return [_tried(_in_place(name, func, args, kwargs), partial(func._op, *args, **kwargs))]
    targets = [out for out in outs if out is not None]
    special = SPECIAL.get(name)
    if special is not None:
        kernels = special(args, kwargs, targets)
        for kernel in kernels:
            kernel()
        return kernels
    out = _out_overload(func)
    if out is None or torch.Tag.generated in out.tags or len(targets) < len(outs):
        return [_tried(partial(_copied, func._op, args, kwargs, outs), None)]
    names = [argument.name for argument in out._schema.arguments if argument.is_out]
    plain = partial(out._op, *args, **kwargs, **dict(zip(names, targets, strict=True)))
    direct = _function(name)
    if direct is None:
        return [_tried(plain, None)]
    target = targets[0] if len(targets) == 1 else tuple(targets)
    return [_tried(partial(direct, *args, **kwargs, out=target), plain)]


def _with_tensor_operand(func: OpOverload, args: Sequence[Any]) -> tuple[OpOverload, Sequence[Any]]:
    """Return a product, a sum or the like with a tensor in place of a number, which is passed faster."""
    first, second = args[0], args[1]
    if not isinstance(first, Tensor) or not first.is_floating_point() or not isinstance(second, (int, float)):
        return func, args
    return func.overloadpacket.Tensor, [first, torch.tensor(second, dtype=first.dtype, device=first.device), *args[2:]]


def _copied(
    call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], outs: Sequence[Tensor | None]
) -> None:
    """Run an operation that can only allocate, and copy its results."""
    results = call(*args, **kwargs)
    for out, result in zip(outs, results if isinstance(results, (tuple, list)) else (results,), strict=True):
        if out is not None:
            out.copy_(result)


def _tried(kernel: Kernel, otherwise: Kernel | None) -> Kernel:
    """Return the kernel if it runs, else the other; a function of torch may want its arguments in another way."""
    if otherwise is None:
        kernel()
        return kernel
    try:
        kernel()
    except (TypeError, RuntimeError, ValueError):
        otherwise()
        return otherwise
    return kernel


def _in_place(name: str, func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> Kernel:
    method = getattr(args[0], name, None) if name.endswith("_") and args and isinstance(args[0], Tensor) else None
    return partial(func._op, *args, **kwargs) if method is None else partial(method, *args[1:], **kwargs)


@cache
def _function(name: str) -> Callable[..., Any] | None:
    """Return torch's own function of an operation, which parses its arguments faster than the operation itself."""
    for owner in (torch, torch._C._nn):
        found: Any = getattr(owner, name, None)
        if type(found).__name__ == "builtin_function_or_method":
            function: Callable[..., Any] = found
            return function
    return None


@cache
def _out_overload(func: OpOverload) -> OpOverload | None:
    """Return the variant of an operation that writes its results to tensors that it is given."""
    wanted = [(argument.name, str(argument.type)) for argument in func._schema.arguments]
    for overload in func.overloadpacket.overloads():
        candidate: OpOverload = getattr(func.overloadpacket, overload)
        arguments = candidate._schema.arguments
        outs = [argument for argument in arguments if argument.is_out]
        given = [(argument.name, str(argument.type)) for argument in arguments if not argument.is_out]
        if outs and given == wanted and len(outs) == len(func._schema.returns):
            return candidate
    return None


def _copy(args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    source, target = args[0], outs[0]
    if source.data_ptr() == target.data_ptr() and source.stride() == target.stride() and source.dtype == target.dtype:
        return []
    return [partial(target.copy_, source)]


def _zeros(_args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    return [outs[0].zero_]


def _ones(_args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    return [partial(outs[0].fill_, 1)]


def _full(args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    return [partial(outs[0].fill_, args[-1])]


def _nothing(_args: Sequence[Any], _kwargs: dict[str, Any], _outs: Sequence[Tensor]) -> list[Kernel]:
    return []


def _reversed_difference(args: Sequence[Any], kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    subtrahend, minuend, *rest = args
    factor = rest[0] if rest else kwargs.get("alpha", 1)
    if not isinstance(minuend, Tensor):
        minuend = torch.tensor(minuend, dtype=subtrahend.dtype, device=subtrahend.device)
    return [partial(torch.sub, minuend, subtrahend, alpha=factor, out=outs[0])]


def _select_backward(args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    gradient, _sizes, dim, index = args
    return [outs[0].zero_, partial(outs[0].select(dim, index).copy_, gradient)]


def _slice_backward(args: Sequence[Any], _kwargs: dict[str, Any], outs: Sequence[Tensor]) -> list[Kernel]:
    gradient, _sizes, dim, start, end, step = args
    part = torch.ops.aten.slice.Tensor(outs[0], dim, start, end, step)
    return [outs[0].zero_, partial(part.copy_, gradient)]


SPECIAL: Final[dict[str, Callable[[Sequence[Any], dict[str, Any], Sequence[Tensor]], list[Kernel]]]] = {
    "clone": _copy,
    "_to_copy": _copy,
    "rsub": _reversed_difference,
    "zeros": _zeros,
    "zeros_like": _zeros,
    "new_zeros": _zeros,
    "ones": _ones,
    "ones_like": _ones,
    "new_ones": _ones,
    "full": _full,
    "full_like": _full,
    "new_full": _full,
    "select_backward": _select_backward,
    "slice_backward": _slice_backward,
    **dict.fromkeys(EMPTY, _nothing),
}
"""Operations whose own variants allocate, or for which less is enough."""
