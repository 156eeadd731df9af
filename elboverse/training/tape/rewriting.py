"""Rewriting: the same numbers from calls that need less memory."""

from __future__ import annotations

import attrs

from elboverse.training.tape.recording import Call, Ref

__all__ = ["use_results_in_place"]

MOST_ARGUMENTS = 4
"""Of the backward pass of a leaky rectifier: gradient, input or result, slope, and which of the two it is."""


def use_results_in_place(calls: list[Call]) -> None:
    """Let the backward pass of each leaky rectifier look at its result, which has the input's sign.

    The input is then needed no longer than its rectifier, whose result can take its place.
    """
    written = {storage for call in calls for storage in call.writes}
    results: dict[Ref, Ref] = {}
    for number, call in enumerate(calls):
        name = call.func._schema.name.removeprefix("aten::")
        if name == "leaky_relu" and isinstance(call.args[0], Ref) and isinstance(call.outputs[0], Ref):
            results[call.args[0]] = call.outputs[0]
        elif name == "leaky_relu_backward" and len(call.args) == MOST_ARGUMENTS:
            gradient, given, slope, is_result = call.args
            result = results.get(given)
            if result is None or is_result or slope <= 0 or {result.storage, given.storage} & written:
                continue
            reads = tuple(result.storage if one == given.storage else one for one in call.reads)
            if given.storage == getattr(gradient, "storage", None):
                continue
            calls[number] = attrs.evolve(call, args=(gradient, result, slope, True), reads=reads)
