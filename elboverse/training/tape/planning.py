"""Planning: which calls of a recording are needed, and where in memory everything lies.

A result that nobody needs is not computed. Memory is given to whoever needs it next as soon as its last reader is done,
so that a step stays in the processor's cache; an elementwise result takes the place of an operand that dies with it;
and what was asked for is written where it was asked for. Calls in a loop keep what was made before it to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from elboverse.training.tape.kernels import is_elementwise
from elboverse.training.tape.recording import Call, Loop, Recorder, Ref, Storage, overlap_free

__all__ = ["Layout", "plan"]

ALIGNMENT: Final = 64
"""Of each piece of memory, in bytes: a line of the processor's cache."""


@attrs.frozen(eq=False)
class Layout:
    """What is to be run, and where its tensors lie.

    Args:
        calls: the numbers of the calls that are needed.
        loops: which of them are repeated.
        copies: results that could not be written where they are wanted, as (result, where to).
        storages: of the recording.
        pins: memory of the recording → (the tensor it stands for, as the recording shows it, and the one wanted).
        addresses: memory of the recording → the arena that it lies in and at which byte.
    """

    calls: frozenset[int]
    loops: tuple[Loop, ...]
    copies: tuple[tuple[Ref, Tensor], ...]
    storages: Sequence[Storage]
    pins: dict[int, tuple[Ref, Tensor]]
    addresses: dict[int, tuple[Tensor, int]]

    @property
    def nbytes(self) -> int:
        """How much memory the results of the calls take."""
        return sum({id(arena): arena.nbytes for arena, _ in self.addresses.values()}.values())

    def tensor(self, ref: Ref) -> Tensor:
        """Return the tensor of a recording as it lies in the planned memory."""
        storage = self.storages[ref.storage]
        offset, stride = ref.offset, ref.stride
        if ref.storage in self.pins:
            shown, wanted = self.pins[ref.storage]
            mapped = _restrided(ref, shown, wanted)
            assert mapped is not None  # noqa: S101 - checked before the pin was set
            memory, stride = wanted.untyped_storage(), mapped
            offset = int(wanted.storage_offset())
        elif storage.value is not None:
            memory = storage.value.untyped_storage()
        else:
            arena, address = self.addresses[ref.storage]
            memory = arena.untyped_storage()
            offset += address // ref.dtype.itemsize
        return torch.empty(0, dtype=ref.dtype, device=storage.device).set_(memory, offset, ref.size, stride)


def plan(recorder: Recorder, outputs: Sequence[tuple[Ref, Tensor]]) -> Layout:
    """Return which calls to run, on which memory.

    Args:
        recorder: what has been recorded.
        outputs: results, and the tensors that they are to be written to.
    """
    needed = _needed(recorder, {ref.storage for ref, _ in outputs})
    pins, copies = _pins(recorder, needed, outputs)
    spans = _spans(recorder, needed, {ref.storage for ref, _ in copies})
    owned = [
        number
        for number in spans
        if number not in pins and recorder.storages[number].value is None and not recorder.storages[number].external
    ]
    slots = _merged(recorder, needed, spans, set(owned))
    return Layout(
        calls=frozenset(needed),
        loops=tuple(loop for loop in recorder.loops if any(loop.start <= number < loop.end for number in needed)),
        copies=tuple(copies),
        storages=recorder.storages,
        pins=pins,
        addresses=_placed(recorder.storages, spans, slots),
    )


def _needed(recorder: Recorder, wanted: set[int]) -> list[int]:
    """Return the numbers of the calls that outputs or outer memory depend on, ascending."""
    storages, needed, kept = recorder.storages, set(wanted), set[int]()
    needed |= {part.storage for loop in recorder.loops for part in loop.parts}
    while True:  # again, since in a loop a call may read what a later one has written in the turn before
        known = len(needed)
        for number in range(len(recorder.calls) - 1, -1, -1):
            call = recorder.calls[number]
            touched = call.fresh + call.writes
            if any(storages[one].external or one in needed for one in touched) and not all(
                storages[one].is_constant for one in touched
            ):
                kept.add(number)
                needed.update(call.reads)
        if len(needed) == known:
            return sorted(kept)


def _pins(
    recorder: Recorder, needed: Sequence[int], outputs: Sequence[tuple[Ref, Tensor]]
) -> tuple[dict[int, tuple[Ref, Tensor]], list[tuple[Ref, Tensor]]]:
    """Return which memory can be that of an output, and which outputs are to be copied."""
    shown_by: dict[int, list[Ref]] = {}
    for number in needed:
        for ref in _refs(recorder.calls[number]):
            shown_by.setdefault(ref.storage, []).append(ref)
    pins: dict[int, tuple[Ref, Tensor]] = {}
    copies = []
    counts = [ref.storage for ref, _ in outputs]
    for ref, wanted in outputs:
        storage = recorder.storages[ref.storage]
        fits = (
            counts.count(ref.storage) == 1
            and storage.value is None
            and ref.dtype == wanted.dtype
            and ref.offset == 0
            and overlap_free(ref)
            and storage.nbytes == wanted.numel() * wanted.dtype.itemsize
            and all(_restrided(other, ref, wanted) is not None for other in shown_by.get(ref.storage, ()))
        )
        if fits:
            pins[ref.storage] = (ref, wanted)
        else:
            copies.append((ref, wanted))
    return pins, copies


def _restrided(ref: Ref, shown: Ref, wanted: Tensor) -> tuple[int, ...] | None:
    """Return the strides of a tensor where memory that `shown` shows has become that of `wanted`; None if it has none.

    Args:
        ref: the tensor, in the same memory as `shown`.
        shown: a tensor that shows all of that memory.
        wanted: of the shape of `shown`.
    """
    if ref.dtype != shown.dtype or ref.offset != 0:
        return None
    if ref.stride == shown.stride == wanted.stride() and ref.size == shown.size:
        return ref.stride
    if shown.stride == wanted.stride():  # the memory is as it was, whatever is shown of it
        return ref.stride
    by_stride = {
        (size, stride): new
        for size, stride, new in zip(shown.size, shown.stride, wanted.stride(), strict=True)
        if size != 1
    }
    strides = []
    for size, stride in zip(ref.size, ref.stride, strict=True):
        if size == 1:
            strides.append(1)
        elif (size, stride) in by_stride:
            strides.append(by_stride[size, stride])
        else:
            return None
    return tuple(strides)


def _spans(recorder: Recorder, needed: Sequence[int], to_the_end: set[int]) -> dict[int, tuple[float, float]]:
    """Return from which call to which each piece of memory holds something that is needed."""
    spans: dict[int, tuple[float, float]] = {}
    for number in needed:
        call = recorder.calls[number]
        for storage in {*call.fresh, *call.writes, *call.reads, *(ref.storage for ref in _refs(call))}:
            spans[storage] = (spans.get(storage, (number, number))[0], number)
    for loop in recorder.loops:
        for storage, (first, last) in spans.items():
            if first < loop.start <= last < loop.end:
                spans[storage] = (first, loop.end - 0.5)
    end = len(recorder.calls)
    return {storage: (first, end if storage in to_the_end else last) for storage, (first, last) in spans.items()}


def _merged(
    recorder: Recorder, needed: Sequence[int], spans: dict[int, tuple[float, float]], owned: set[int]
) -> dict[int, int]:
    """Return the slot of each piece of memory: that of an operand where an elementwise result takes its place."""
    slots = {number: number for number in owned}
    for number in needed:
        call = recorder.calls[number]
        outputs = [ref for ref in call.outputs if ref is not None]
        if len(outputs) != 1 or call.fresh != (outputs[0].storage,) or not is_elementwise(call.func):
            continue
        result = outputs[0]
        if result.storage not in owned:
            continue
        operands = [ref for ref in tree_leaves((call.args, call.kwargs)) if isinstance(ref, Ref)]
        for operand in operands:
            same = [ref for ref in operands if ref.storage == operand.storage]
            if (
                operand.storage in owned
                and spans[operand.storage][1] == number
                and all(attrs.evolve(ref, storage=result.storage) == result for ref in same)
                and recorder.storages[operand.storage].nbytes == recorder.storages[result.storage].nbytes
            ):
                slots[result.storage] = slots[operand.storage]
                break
    return slots


def _placed(
    storages: Sequence[Storage], spans: dict[int, tuple[float, float]], slots: dict[int, int]
) -> dict[int, tuple[Tensor, int]]:
    """Return where each piece of memory lies: the largest first, each at the lowest place that is free all its life."""
    lives: dict[int, tuple[float, float]] = {}
    for number, slot in slots.items():
        first, last = spans[number]
        begun, ended = lives.get(slot, (first, last))
        lives[slot] = (min(begun, first), max(ended, last))
    places: dict[int, tuple[Tensor, int]] = {}
    for device in {storages[slot].device for slot in lives}:
        own = sorted(
            (slot for slot in lives if storages[slot].device == device), key=lambda slot: -storages[slot].nbytes
        )
        taken: dict[int, tuple[int, int]] = {}
        for slot in own:
            length = -(-storages[slot].nbytes // ALIGNMENT) * ALIGNMENT
            first, last = lives[slot]
            others = sorted(taken[other] for other in taken if lives[other][0] <= last and first <= lives[other][1])
            address = 0
            for begin, end in others:
                if address + length <= begin:
                    break
                address = max(address, end)
            taken[slot] = (address, address + length)
        total = max(end for _, end in taken.values())
        arena = torch.zeros(total, dtype=torch.uint8, device=device)
        places |= {slot: (arena, begin) for slot, (begin, _) in taken.items()}
    return {number: places[slot] for number, slot in slots.items()}


def _refs(call: Call) -> Iterator[Ref]:
    yield from (ref for ref in tree_leaves((call.args, call.kwargs)) if isinstance(ref, Ref))
    yield from (ref for ref in call.outputs if ref is not None)
