from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from elboverse.errors import ConfigError
from elboverse.training.batches import Batches
from elboverse.training.noise import LONGEST_CHUNK, NOISE_BYTES, Noise, chunk_length

POINTS, BATCH, CHUNK = 23, 5, 8
STEPS = 40
NUMBERED = torch.arange(POINTS, dtype=torch.float64)[:, None]
NOISE = (3, BATCH, 2)


def batches(seeds: tuple[int, ...] = (7,), train: Tensor = NUMBERED, noise: tuple[int, ...] | None = NOISE) -> Batches:
    return Batches(train, seeds, BATCH, noise_of(noise, seeds, train.dtype))


def noise_of(shape: tuple[int, ...] | None, seeds: tuple[int, ...] = (7,), dtype: torch.dtype = torch.float64) -> Noise:
    return Noise(shape, seeds, CHUNK, dtype, torch.device("cpu"))


def one_by_one(source: Batches, count: int = STEPS) -> tuple[list[Tensor], list[Tensor]]:
    """Return the points and the noise of the first steps, each drawn by itself."""
    points, noise = [], []
    for step in range(count):
        chunk = source.draw(step, 1)
        assert chunk.noise is not None
        points.append(next(chunk.x))
        noise.append(chunk.noise[0])
    return points, noise


def epochs(seed: int = 7, count: int = 6) -> list[list[int]]:
    """Return the numbers of the points that each epoch visits."""
    source = batches((seed,))
    points, _ = one_by_one(source, count * source.steps_per_epoch)
    per_epoch = torch.stack(points).reshape(count, -1)
    return [[int(number) for number in epoch] for epoch in per_epoch]


def test_every_epoch_visits_distinct_points() -> None:
    for visited in epochs():
        assert len(visited) == (POINTS // BATCH) * BATCH
        assert len(set(visited)) == len(visited)


def test_the_points_left_over_differ_from_epoch_to_epoch_and_all_points_are_visited() -> None:
    left_over = [frozenset(range(POINTS)) - set(visited) for visited in epochs()]
    assert all(len(left) == POINTS % BATCH for left in left_over)
    assert len(set(left_over)) == len(left_over)
    assert set().union(*epochs()) == set(range(POINTS))


def test_the_order_differs_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    orders = [*epochs(seed=7), *epochs(seed=8)]
    assert len({tuple(order) for order in orders}) == len(orders)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_steps_drawn_directly_equal_those_drawn_in_sequence(data: st.DataObject) -> None:
    points, noise = one_by_one(batches())
    source = batches()
    for _ in range(4):
        first = data.draw(st.integers(0, STEPS - 1))
        count = data.draw(st.integers(1, min(CHUNK - first % CHUNK, STEPS - first)))
        chunk = source.draw(first, count)
        assert chunk.noise is not None
        drawn = tuple(chunk.x)
        assert len(drawn) == len(chunk.noise) == count
        for offset in range(count):
            assert torch.equal(drawn[offset], points[first + offset])
            assert torch.equal(chunk.noise[offset], noise[first + offset])


@pytest.mark.parametrize("own_points", [False, True])
def test_replica_sees_what_the_single_run_with_its_seed_sees(own_points: bool) -> None:
    seeds = (7, 8, 9)
    train = torch.stack([NUMBERED, NUMBERED + 100, NUMBERED + 200]) if own_points else NUMBERED
    points, noise = one_by_one(batches(seeds, train))
    for replica, seed in enumerate(seeds):
        single = batches((seed,), train[replica] if own_points else train)
        single_points, single_noise = one_by_one(single)
        for step in range(STEPS):
            assert torch.equal(points[step][replica], single_points[step])
            assert torch.equal(noise[step][replica], single_noise[step])


def test_noise_differs_from_step_to_step_and_from_seed_to_seed() -> None:
    draws = [tuple(draw.flatten().tolist()) for seed in (7, 8) for draw in one_by_one(batches((seed,)))[1]]
    assert len(set(draws)) == len(draws) == 2 * STEPS


def test_noise_is_standard_normal() -> None:
    source = Batches(NUMBERED, (0,), BATCH, noise_of((2000, BATCH, 2)))
    noise = torch.stack(one_by_one(source, 10)[1])
    count = noise.numel()
    assert abs(noise.mean().item()) < 4 / count**0.5
    assert abs(noise.var().item() - 1) < 4 * (2 / count) ** 0.5
    assert abs(noise.pow(4).mean().item() - 3) < 4 * (96 / count) ** 0.5


def test_noise_has_the_type_of_the_points() -> None:
    chunk = Batches(NUMBERED.float(), (0,), BATCH, noise_of(NOISE, dtype=torch.float32)).draw(0, 2)
    assert chunk.noise is not None
    assert {tensor.dtype for tensor in (*chunk.x, *chunk.noise)} == {torch.float32}


def test_a_model_that_needs_no_noise_gets_none() -> None:
    assert batches(noise=None).draw(0, 3).noise is None


def test_a_batch_of_all_points_is_one_step_per_epoch() -> None:
    source = Batches(NUMBERED, (7,), POINTS, noise_of(None))
    assert source.steps_per_epoch == 1
    for x in source.draw(0, 3).x:
        assert sorted(x.flatten().tolist()) == list(range(POINTS))


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: got 24; expected at most 23"):
        Batches(NUMBERED, (7,), POINTS + 1, noise_of(None))


@settings(deadline=None)
@given(
    samples=st.integers(1, 100), batch=st.integers(1, 10_000), latent=st.integers(1, 512), size=st.sampled_from([4, 8])
)
def test_chunk_is_the_longest_power_of_two_whose_noise_fits(samples: int, batch: int, latent: int, size: int) -> None:
    length = chunk_length(samples, batch, latent, size)
    one_step = samples * batch * latent * size
    assert length & (length - 1) == 0
    assert 1 <= length <= LONGEST_CHUNK
    assert length == 1 or length * one_step <= NOISE_BYTES
    assert length == LONGEST_CHUNK or 2 * length * one_step > NOISE_BYTES


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(0)
    state: Any = torch.get_rng_state()
    first = one_by_one(batches(), 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    second = one_by_one(batches(), 3)
    for ours, theirs in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        assert torch.equal(ours, theirs)
