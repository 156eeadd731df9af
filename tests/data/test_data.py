"""From raw points to `contracts.Data`: split, scaling, checks and fingerprint."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elboverse.contracts import Scaling
from elboverse.data import fingerprint, fit_scaling, prepare, require_finite, split
from elboverse.errors import DataError


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 60), fraction=st.floats(0, 0.99), seed=st.integers(0, 2**40))
def test_a_split_loses_and_doubles_no_point(count: int, fraction: float, seed: int) -> None:
    train, held_out = split(torch.arange(count)[:, None], fraction, seed)
    assert len(held_out) == int(count * fraction)
    assert sorted(torch.cat((train, held_out))[:, 0].tolist()) == list(range(count))


def test_the_seed_alone_decides_the_split() -> None:
    points = torch.arange(100)[:, None]
    assert torch.equal(split(points, 0.5, 3)[0], split(points, 0.5, 3)[0])
    assert not torch.equal(split(points, 0.5, 3)[0], split(points, 0.5, 4)[0])


def test_a_split_is_not_the_order_of_the_file() -> None:
    _, held_out = split(torch.arange(1000)[:, None], 0.5, 0)
    assert 400 < held_out.double().mean() < 600


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="no point is left to train on"):
        split(torch.zeros(4, 1), 1.0, 0)


@pytest.mark.parametrize("kind", ["min-max", "standard", "none"])
def test_undo_inverts_apply(kind: str) -> None:
    points = 5.0 + 3.0 * draws(40, 3)
    scaling = fit_scaling(kind, points)
    assert torch.allclose(scaling.undo(scaling.apply(points)), points, atol=1e-12)


def test_standard_scaling_gives_mean_zero_and_variance_one() -> None:
    points = 5.0 + 3.0 * draws(40, 3)
    scaled = fit_scaling("standard", points).apply(points)
    assert torch.allclose(scaled.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(scaled.var(0, correction=0), torch.ones(3, dtype=torch.float64))


def test_no_scaling_leaves_the_points_bit_for_bit() -> None:
    points = draws(40, 3)
    assert torch.equal(fit_scaling("none", points).apply(points), points)


@pytest.mark.parametrize("kind", ["min-max", "standard"])
def test_a_dimension_that_does_not_vary_is_shifted_to_zero(kind: str) -> None:
    points = torch.full((50, 1), 0.1, dtype=torch.float64)
    scaled = fit_scaling(kind, points).apply(points)
    assert torch.equal(scaled, torch.zeros_like(scaled))


@pytest.mark.parametrize("kind", ["min-max", "standard"])
def test_values_whose_range_overflows_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match="too large"):
        fit_scaling(kind, torch.tensor([[-1.7e308], [1.7e308]], dtype=torch.float64))


def test_an_unknown_scaling_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="got 'whiten'; expected 'min-max', 'standard' or 'none'"):
        fit_scaling("whiten", draws(4, 2))


def test_the_scaling_is_fitted_on_train_alone() -> None:
    train, held_out = draws(50, 2), 10.0 + draws(50, 2, seed=1)
    data = prepare(train, seed=0, held_out=held_out)
    assert data.train.max() == pytest.approx(1.0)
    assert data.held_out.min() > 1.0


def test_a_scaling_that_is_given_is_used_as_it_is() -> None:
    eight_bit = Scaling("min-max", torch.zeros(2, dtype=torch.float64), torch.full((2,), 255.0, dtype=torch.float64))
    data = prepare(torch.full((4, 2), 51.0, dtype=torch.float64), seed=0, scaling=eight_bit)
    assert data.scaling is eight_bit
    assert torch.allclose(data.train, torch.tensor(0.2, dtype=torch.float64))


def test_truth_is_the_mean_log_density_of_the_scaled_points() -> None:
    points = 2.0 + 3.0 * draws(200, 1)
    raw = torch.distributions.Normal(torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
    data = prepare(points, seed=0, scaling="standard", log_density=lambda x: raw.log_prob(x).sum(-1))
    mean, scale = data.scaling.offset, data.scaling.scale
    scaled = torch.distributions.Normal((2.0 - mean) / scale, 3.0 / scale)
    assert data.train_log_likelihood == pytest.approx(scaled.log_prob(data.train).mean().item(), abs=1e-12)
    assert data.held_out_log_likelihood == pytest.approx(scaled.log_prob(data.held_out).mean().item(), abs=1e-12)


def test_truth_is_open_where_nothing_is_held_out() -> None:
    data = prepare(draws(10, 1), seed=0, held_out=0.0, log_density=lambda x: -x.square().sum(-1))
    assert data.train_log_likelihood is not None
    assert data.held_out_log_likelihood is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_value_that_is_not_finite_is_located(bad: float) -> None:
    points = draws(10, 3)
    points[6, 2] = points[8, 0] = bad
    with pytest.raises(
        DataError, match=r"mine: 2 of 30 values are not finite, the first in row 6, column 2 .*: -?(nan|inf)"
    ):
        require_finite(points, "mine")


def test_opposite_infinities_do_not_hide_each_other() -> None:
    with pytest.raises(DataError, match="2 of 2 values are not finite"):
        require_finite(torch.tensor([[math.inf, -math.inf]]), "mine")


def test_finite_values_whose_sum_overflows_pass() -> None:
    require_finite(torch.full((3, 1), 1.7e308, dtype=torch.float64), "mine")


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (4,), (2, 2, 2)])
def test_points_must_be_a_table_that_is_not_empty(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected"):
        require_finite(torch.zeros(shape), "mine")


def test_held_out_points_are_checked_too() -> None:
    with pytest.raises(DataError, match="mine, held out: 1 of 2 values are not finite"):
        prepare(draws(4, 2), seed=0, held_out=torch.tensor([[0.0, math.nan]], dtype=torch.float64), what="mine")


def test_held_out_points_of_another_dimension_are_refused() -> None:
    with pytest.raises(DataError, match="2 dimensions in train, 3 held out"):
        prepare(draws(4, 2), seed=0, held_out=draws(4, 3))


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"points of shape \(2, 2\) have 4 values, not 3"):
        prepare(draws(4, 3), seed=0, shape=(2, 2))


def test_names_must_be_as_many_as_dimensions() -> None:
    with pytest.raises(DataError, match="1 names for 3 dimensions"):
        prepare(draws(4, 3), seed=0, names=("x",))


def test_the_fingerprint_sees_every_value_the_shape_and_the_type() -> None:
    points = draws(6, 2)
    changed = points.clone()
    changed[5, 1] = torch.nextafter(changed[5, 1], torch.tensor(9.0, dtype=torch.float64))
    others = [changed, points.reshape(4, 3), points.view(torch.int64), points.flip(0)]
    assert fingerprint(points) == fingerprint(points.clone())
    assert len({fingerprint(tensor) for tensor in (points, *others)}) == 5


def test_the_fingerprint_of_a_view_is_that_of_its_values() -> None:
    points = draws(6, 4)
    assert fingerprint(points[:, ::2]) == fingerprint(points[:, ::2].clone())


def test_the_number_of_dimensions_is_the_product_of_the_shape() -> None:
    assert prepare(draws(4, 6), seed=0, shape=(2, 3)).dimension == 6
