"""The check of a dataset."""

from __future__ import annotations

from typing import Any

import torch

from elboverse.components import conformance
from elboverse.components.hookspecs import Component
from elboverse.contracts import Data, Stream
from elboverse.data import fingerprint
from elboverse.errors import PluginError
from elboverse.testing.component import refuse_options, require, selection

__all__ = ["check_dataset"]


def check_dataset(dataset: str | Component | Data, **options: Any) -> Data:
    """Check a dataset against `contracts.Data` and return what it builds for seed 0.

    Beyond shapes: a seed gives the same points bit for bit, whatever torch's global random state is; another seed
    gives other points or the same fixed ones, as many of them; the points of a stream follow from their position alone;
    the fingerprint is that of the points (`elboverse.data.fingerprint`); the held-out points are not those of training.

    Args:
        dataset: its name, its `Component`, or what it built, of which less can be checked.
        options: its options; none for built data.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a dataset of that name.
        PluginError: the contract is broken.
        DataError: it has no training points, or a value is not finite.
    """
    if isinstance(dataset, Data):
        refuse_options(dataset, options)
        return _checked_data(dataset, "data")
    chosen = selection("dataset", dataset, options)
    who = f"dataset {chosen.name!r}"
    with torch.random.fork_rng(devices=[]):
        built = []
        for global_seed, seed in enumerate((0, 0, 1)):
            torch.manual_seed(global_seed)
            built.append(_checked_data(chosen.build(seed), who))
    first, again, other = built
    if not _same_points(first, again) or not _same_stream(first.stream, again.stream):
        raise PluginError(
            f"{who}: seed 0 gives other points the second time; draw all numbers from elboverse.seeding.generator(seed)"
        )
    if first.stream is not None:
        _check_stream(first.stream, who)
    counts = [(data.shape, len(data.train), len(data.held_out)) for data in (first, other)]
    if counts[0] != counts[1]:
        raise PluginError(
            f"{who}: seeds 0 and 1 give (shape, train, held out) {counts[0]} and {counts[1]}; expected equal ones"
        )
    return first


def _checked_data(built: Any, who: str) -> Data:
    data = conformance.require_data(built, who)
    conditions = () if data.conditions is None else (data.conditions,)
    require(
        data.fingerprint == fingerprint(data.train, data.held_out, *conditions),
        f"{who}: its fingerprint is not elboverse.data.fingerprint(train, held_out) of its points, with the conditions "
        "as a third argument where there are some",
    )
    require(len(data.names) in {0, data.dimension}, f"{who}: {len(data.names)} names for {data.dimension} dimensions")
    offset, scale = data.scaling.offset, data.scaling.scale
    require(
        offset.shape == scale.shape == (data.dimension,) and bool((scale > 0).all()),
        f"{who}: its scaling must have an offset and a positive scale of shape ({data.dimension},)",
    )
    trained_on = {row.numpy().tobytes() for row in data.train.cpu()}
    seen = len(data.held_out) and all(row.numpy().tobytes() in trained_on for row in data.held_out.cpu())
    require(not seen, f"{who}: every held-out point is a training point as well")
    return data


def _check_stream(stream: Stream, who: str) -> None:
    """Check that points follow from their position alone, across the end of each regime and of the pass."""
    ends = [*(regime.first_point for regime in stream.regimes[1:]), stream.points_per_pass]
    for end in ends:
        first = max(0, end - 3)
        together = stream.points(first, end - first + 3)
        apart = torch.cat([stream.points(position, 1) for position in reversed(range(first, end + 3))]).flip(0)
        require(
            torch.equal(together, apart),
            f"{who}: stream.points({first}, {len(together)}) differs from the same points asked for one by one",
        )
        seen = {row.numpy().tobytes() for row in together.cpu()}
        shown = any(row.numpy().tobytes() in seen for row in stream.held_out(end - 1).cpu())
        require(not shown, f"{who}: stream.held_out({end - 1}) has points that the stream shows")


def _same_stream(one: Stream | None, other: Stream | None) -> bool:
    if one is None or other is None:
        return one is other
    last = one.points_per_pass - 1
    return torch.equal(one.points(last, 1), other.points(last, 1)) and torch.equal(
        one.held_out(last), other.held_out(last)
    )


def _same_points(one: Data, other: Data) -> bool:
    return torch.equal(one.train, other.train) and torch.equal(one.held_out, other.held_out)
