"""The tape itself: a flat list of calls with everything bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._pytree import tree_map

from elboverse.training.tape.kernels import Kernel, build_kernels
from elboverse.training.tape.planning import Layout, plan
from elboverse.training.tape.recording import Call, Recorder, Ref, Untraceable
from elboverse.training.tape.rewriting import use_results_in_place

__all__ = ["Tape"]


class Tape:
    """A computation on fixed memory, recorded once.

    What the computation reads and was there before, the tape reads from where it was: to feed a tape is to write there,
    and parameters and buffers are used in place. Its results go to the tensors named when it was recorded.

    Args:
        kernels: the calls.
        layout: where their results lie.
    """

    def __init__(self, kernels: Sequence[Kernel], layout: Layout) -> None:
        self._kernels = tuple(kernels)
        self.kernels = len(kernels)
        self.nbytes = layout.nbytes

    @classmethod
    def record(
        cls, function: Callable[[], Sequence[Tensor]], destinations: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> Tape:
        """Return the tape of a function, which is run once for the recording and once more for the trial of its calls.

        Args:
            function: of tensors that stay where they are, to its results.
            destinations: given the results, the tensors that replays write them to, of the same shapes and not read by
                the function.

        Raises:
            Untraceable: what the function does depends on the numbers.
        """
        recorder = Recorder()
        with _unvalidated(), recorder:
            results = list(function())
        outputs = [recorder.ref(result) for result in results]
        wanted = destinations(results)
        use_results_in_place(recorder.calls)
        layout = plan(recorder, list(zip(outputs, wanted, strict=True)))
        return cls(_kernels(recorder, layout), layout)

    def __call__(self) -> None:
        """Run the calls."""
        for kernel in self._kernels:
            kernel()


@contextmanager
def _unvalidated() -> Iterator[None]:
    """Keep `torch.distributions` from looking at the numbers that it is given."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _kernels(recorder: Recorder, layout: Layout) -> list[Kernel]:
    """Return the calls in order, those of a loop as one."""
    kept: dict[Ref, Tensor] = {}

    def placed(value: object) -> object:
        if not isinstance(value, Ref):
            return value
        if value not in kept:
            kept[value] = layout.tensor(value)
        return kept[value]

    def built(start: int, end: int) -> list[Kernel]:
        found: list[Kernel] = []
        for number in range(start, end):
            if number in layout.calls:
                found += _kernels_of(recorder.calls[number], placed)
        return found

    kernels: list[Kernel] = []
    position = 0
    with torch.no_grad():
        for loop in layout.loops:
            kernels += built(position, loop.start)
            slot = layout.tensor(loop.slot)
            body = built(loop.start, loop.end)
            kernels.append(_repeated(body, slot, [layout.tensor(part) for part in loop.parts]))
            position = loop.end
        kernels += built(position, len(recorder.calls))
        copies = [(layout.tensor(ref), wanted) for ref, wanted in layout.copies]
        for result, wanted in copies:
            wanted.copy_(result)
    return kernels + [_copying(result, wanted) for result, wanted in copies]


def _kernels_of(call: Call, placed: Callable[[object], object]) -> list[Kernel]:
    if not call.fresh and not call.writes:
        return []  # a view, of memory that is where it was
    args, kwargs = tree_map(placed, (call.args, call.kwargs))
    outs = [placed(ref) for ref in call.outputs] if call.fresh else []
    if any(out is None for out in outs) and len([out for out in outs if out is not None]) == 0:
        raise Untraceable(f"{call.func} returns no tensor")
    return build_kernels(call.func, args, kwargs, outs)  # type: ignore[arg-type]


def _repeated(body: Sequence[Kernel], slot: Tensor, parts: Sequence[Tensor]) -> Kernel:
    body = tuple(body)

    def run() -> None:
        for part in parts:
            slot.copy_(part)
            for kernel in body:
                kernel()

    return run


def _copying(source: Tensor, target: Tensor) -> Kernel:
    def run() -> None:
        target.copy_(source)

    return run
