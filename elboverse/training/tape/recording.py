"""Recording: which operations a computation runs, on which memory.

Operations are seen where they arrive at last, below automatic differentiation and below `torch.func.vmap`: a backward
pass and a vectorised model are nothing but further operations there. Tensors are known by the memory that they lie in,
so views cost nothing, an operation in place is what it says, and buffers that change (those of batch normalisation) are
memory like any other. Memory is not kept alive by being recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Call", "Loop", "Recorder", "Ref", "Storage", "Untraceable", "each", "overlap_free"]

MOST_CONSTANT_BYTES: Final = 1 << 20
"""Results that depend on nothing are kept up to this size; larger ones are made again in every replay."""

FROM_SHAPE: Final = ("empty", "zeros", "ones", "full")
"""Operations whose names contain these, and end in ``_like`` or begin with ``new_``, look only at an input's shape."""


class Untraceable(Exception):  # noqa: N818 - a reason, never shown as an error
    """A computation whose operations depend on its numbers, so that no recording stands for it."""


@attrs.frozen
class Ref:
    """A tensor by what it shows of which memory.

    Args:
        storage: the number of the memory in the recording.
        dtype: of the numbers.
        size: its shape.
        stride: in numbers.
        offset: in numbers, from the start of the memory.
    """

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@attrs.define(eq=False)
class Storage:
    """A piece of memory.

    Args:
        nbytes: its length.
        device: where it lies.
        external: whether it was there before the recording began.
        value: a tensor in it, which keeps it: of external memory, and of constants.
    """

    nbytes: int
    device: torch.device
    external: bool
    value: Tensor | None

    @property
    def is_constant(self) -> bool:
        """Whether its contents are the same in every replay."""
        return not self.external and self.value is not None


@attrs.frozen(eq=False)
class Call:
    """An operation as it was run, with `Ref` in place of tensors.

    Args:
        func: the operation.
        args: positional arguments.
        kwargs: keyword arguments.
        outputs: its results, flat; None for one that is not a tensor.
        fresh: numbers of the memory that it allocated.
        writes: numbers of memory that was there and that it wrote to.
        reads: numbers of the memory of all its arguments.
    """

    func: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Ref | None, ...]
    fresh: tuple[int, ...]
    writes: tuple[int, ...]
    reads: tuple[int, ...]


@attrs.frozen(eq=False)
class Loop:
    """Calls that are replayed once for each of several parts of a tensor.

    Args:
        start: the first call.
        end: the one after the last.
        slot: where the calls find a part.
        parts: the parts, one per turn.
    """

    start: int
    end: int
    slot: Ref
    parts: tuple[Ref, ...]


class Recorder(TorchDispatchMode):
    """Records what runs while it is active, which runs as ever.

    Attributes:
        calls: the operations, in order.
        storages: the memory that they touched.
        loops: which calls stand for several turns.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.storages: list[Storage] = []
        self.loops: list[Loop] = []
        self._numbers: dict[int, int] = {}
        self._known: list[StorageWeakRef] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return that nothing is compiled here, so that the compiler need not be loaded, which takes two seconds."""
        return False

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and write it down."""
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise Untraceable(f"{func} makes what follows depend on the numbers")
        given_args, given_kwargs = tree_map(self._ref_of, (tuple(args), kwargs))
        before = len(self.storages)
        written = tuple(dict.fromkeys(self.ref(tensor).storage for tensor in _mutated(func, args, kwargs)))
        result = func(*args, **kwargs)
        results = tree_leaves(result)
        outputs = tuple(self.ref(one) if isinstance(one, Tensor) else None for one in results)
        fresh = tuple(range(before, len(self.storages)))
        reads = tuple(
            dict.fromkeys(ref.storage for ref in tree_leaves((given_args, given_kwargs)) if isinstance(ref, Ref))
        )
        self.calls.append(Call(func, given_args, given_kwargs, outputs, fresh, written, reads))
        self._keep_constants(func, results, reads, fresh, written)
        return result

    def ref(self, tensor: Tensor) -> Ref:
        """Return which memory a tensor shows, and how."""
        if tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
            raise Untraceable(f"a tensor of layout {tensor.layout}")
        storage = tensor.untyped_storage()
        number = self._numbers.get(storage._cdata)
        if number is None:
            number = self._numbers[storage._cdata] = len(self.storages)
            self._known.append(StorageWeakRef(storage))  # the address is not given to another while this is kept
            self.storages.append(Storage(storage.nbytes(), tensor.device, external=False, value=None))
        return Ref(number, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))

    def _ref_of(self, value: Any) -> Any:
        """Return a `Ref` in place of a tensor of the arguments; one that no call has made was there before."""
        if not isinstance(value, Tensor):
            return value
        before = len(self.storages)
        ref = self.ref(value)
        if ref.storage >= before:
            self.storages[ref.storage].external = True
            self.storages[ref.storage].value = value.detach()
        return ref

    def _keep_constants(
        self, func: OpOverload, results: list[Any], reads: Sequence[int], fresh: Sequence[int], written: Sequence[int]
    ) -> None:
        sources = [number for number in reads if number not in written]
        constant = _looks_at_shapes_only(func) or all(self.storages[number].is_constant for number in sources)
        if torch.Tag.nondeterministic_seeded in func.tags:
            constant = False
        for result in results:
            if not isinstance(result, Tensor):
                continue
            storage = self.storages[self.ref(result).storage]
            if constant and self.ref(result).storage in fresh and storage.nbytes <= MOST_CONSTANT_BYTES:
                storage.value = result.detach()
        if not constant:
            for number in written:
                if not self.storages[number].external:
                    self.storages[number].value = None

    def end_loop(self, start: int, slot: Tensor, parts: Sequence[Tensor]) -> None:
        """Write down that the calls since `start` stand for a turn of each part."""
        refs = tuple(self.ref(part) for part in parts)
        self.loops.append(Loop(start, len(self.calls), self.ref(slot), refs))


def each(parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the parts; to a recording, equal ones are the turns of a loop, whose body runs once.

    What the body hands from turn to turn, it must write in place to tensors made before the loop.

    Args:
        parts: tensors, all of one shape but the last few.
    """
    recorder = _get_current_dispatch_mode()
    alike = sum(part.shape == parts[0].shape and part.stride() == parts[0].stride() for part in parts)
    if not isinstance(recorder, Recorder) or alike < 3:
        yield from parts
        return
    slot = parts[0].clone()
    start = len(recorder.calls)
    yield slot
    recorder.end_loop(start, slot, parts[:alike])
    yield from parts[alike:]


def overlap_free(ref: Ref) -> bool:
    """Return whether a tensor has each number once and none between them that is not its own."""
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(ref.stride, ref.size, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _mutated(func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors that an operation writes to."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        yield from (one for one in tree_leaves(value) if isinstance(one, Tensor))


def _looks_at_shapes_only(func: OpOverload) -> bool:
    name = func._schema.name.removeprefix("aten::")
    return name.startswith("new_") or (name.endswith("_like") and name.startswith(FROM_SHAPE)) or name in FROM_SHAPE
