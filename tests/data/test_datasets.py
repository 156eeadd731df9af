"""The generated datasets: their geometry, their randomness and their true densities."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor

from elboverse.builtin.datasets import DATASETS
from elboverse.builtin.datasets.generated import GeneratedOptions, require_size
from elboverse.builtin.datasets.manifold import ManifoldOptions, build_manifold, dependent_pairs
from elboverse.builtin.datasets.pca import PCAOptions, build_pca, build_pca_ring, generating_parameters
from elboverse.builtin.datasets.planar import (
    build_circle,
    build_cosine,
    build_eight,
    build_eight_gaussians,
    build_line,
)
from elboverse.builtin.datasets.surfaces import build_spiral, build_swiss_roll
from elboverse.components.registry import Plugin, Registered, Registry
from elboverse.config.structuring import build_converter, structure
from elboverse.contracts import Data
from elboverse.errors import ConfigError

DIMENSIONS = {
    "1dgauss": 1,
    "line": 2,
    "cosine": 2,
    "circle": 2,
    "8gauss": 2,
    "eight": 2,
    "swiss_roll": 3,
    "spiral_3D": 3,
    "manifold": 100,
    "pca": 10,
    "pca-ring": 10,
}
COMPONENTS = {
    component.name: Registered("dataset", component, Plugin("built-in", "elboverse", "0"))
    for component in DATASETS
    if component.name not in {"array", "family", "gaussian-stream", "in-memory"}
}
generated = pytest.mark.parametrize("name", list(DIMENSIONS))


def build(name: str, seed: int = 0, **options: object) -> Data:
    registered = COMPONENTS[name]
    data = registered.build(registered.config_class()(**options), seed)
    assert isinstance(data, Data)
    return data


NOISELESS = GeneratedOptions(points=4000, noise=0.0, held_out=0.0, scaling="none")


def faults(options: type[object], **table: object) -> str:
    with pytest.raises(ConfigError) as caught:
        structure(build_converter(Registry((), {})), table, options)
    return str(caught.value)


def entropy_bound_holds(value: float | None, entropy: float, spread: float, points: int) -> bool:
    """Whether a mean log-likelihood is minus the entropy within five standard errors."""
    return value is not None and abs(value + entropy) < 5 * spread / math.sqrt(points)


def test_every_generated_dataset_is_offered_and_tested() -> None:
    assert set(COMPONENTS) == set(DIMENSIONS)


@generated
def test_defaults_are_half_of_the_points_held_out(name: str) -> None:
    data = build(name)
    half = 10_000 if name.startswith("pca") else 25_000
    assert data.train.shape == data.held_out.shape == (half, DIMENSIONS[name])
    assert data.shape == (DIMENSIONS[name],)


@generated
def test_points_are_float64_and_finite(name: str) -> None:
    data = build(name, points=200)
    assert data.train.dtype == data.held_out.dtype == torch.float64
    assert torch.isfinite(data.train).all()


@generated
def test_a_seed_gives_the_same_points_bit_for_bit(name: str) -> None:
    first, second = build(name, seed=7, points=500), build(name, seed=7, points=500)
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.held_out, second.held_out)
    assert first.fingerprint == second.fingerprint


@generated
def test_the_number_of_threads_does_not_change_the_points(name: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = build(name, points=40_000).fingerprint
        torch.set_num_threads(2)
        second = build(name, points=40_000).fingerprint
    finally:
        torch.set_num_threads(threads)
    assert first == second


@generated
def test_another_seed_gives_other_points(name: str) -> None:
    assert build(name, seed=0, points=500).fingerprint != build(name, seed=1, points=500).fingerprint


@generated
def test_no_point_is_in_both_parts(name: str) -> None:
    data = build(name, points=1000, held_out=0.3)
    assert len(data.train) == 700
    assert len(data.held_out) == 300
    assert len(torch.cat((data.train, data.held_out)).unique(dim=0)) == 1000


@generated
def test_min_max_scaling_fills_the_unit_interval_in_train(name: str) -> None:
    train = build(name, points=500, scaling="min-max").train
    assert torch.allclose(train.amin(0), torch.zeros(1, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(train.amax(0), torch.ones(1, dtype=torch.float64), atol=1e-12)


@generated
def test_the_noise_is_drawn_after_the_structure(name: str) -> None:
    def raw(noise: float) -> Tensor:
        return build(name, points=300, noise=noise, held_out=0.0, scaling="none").train

    step, double_step = raw(0.01) - raw(0.0), raw(0.02) - raw(0.0)
    assert step.abs().max() > 1e-3
    assert torch.allclose(double_step, 2 * step, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(DIMENSIONS) - {"circle"}))
def test_the_noise_has_the_stated_standard_deviation_on_every_coordinate(name: str) -> None:
    noisy = build(name, points=4000, noise=0.2, held_out=0.0, scaling="none").train
    clean = build(name, points=4000, noise=0.0, held_out=0.0, scaling="none").train
    spread = (noisy - clean).std(0)
    assert (spread - 0.2).abs().max() < 5 * 0.2 / math.sqrt(2 * 4000)


def test_one_gaussian_is_centred_on_three() -> None:
    x = build("1dgauss", held_out=0.0, scaling="none").train
    assert abs(x.mean().item() - 3.0) < 5 * 0.05 / math.sqrt(50_000)
    assert abs(x.std().item() - 0.05) < 5 * 0.05 / math.sqrt(2 * 50_000)


def test_line_points_lie_on_the_line() -> None:
    x, y = build_line(NOISELESS, 0).train.T
    assert torch.allclose(y, 1.5 * x + 2.0)
    assert 0 <= x.min() < 0.01
    assert 2.99 < x.max() <= 3.0


def test_cosine_points_lie_on_the_cosine() -> None:
    x, y = build_cosine(NOISELESS, 0).train.T
    assert torch.allclose(y, x.cos() + 1.0)
    assert 0 <= x.min() < 0.02
    assert 3 * math.pi - 0.02 < x.max() <= 3 * math.pi


def test_eight_points_satisfy_the_equation_of_geronos_lemniscate() -> None:
    x, y = 2.0 * build_eight(NOISELESS, 0).train.T
    assert torch.allclose(y.square(), x.square() * (1 - x.square()), atol=1e-12)


def test_three_fifths_of_the_eight_are_on_its_right_loop() -> None:
    x = build_eight(NOISELESS, 0).train[:, 0]
    share = (x > 0).double().mean().item()  # cos t > 0 on t in (−π/2, π/2) and (3π/2, 2π): 3/5 of the range
    assert abs(share - 0.6) < 5 * math.sqrt(0.24 / 4000)


def test_circle_radius_is_one_with_the_stated_spread() -> None:
    radius = build("circle", held_out=0.0, scaling="none").train.norm(dim=1)
    assert abs(radius.mean().item() - 1.0) < 5 * 0.05 / math.sqrt(50_000)
    assert abs(radius.std().item() - 0.05) < 5 * 0.05 / math.sqrt(2 * 50_000)


def test_circle_angles_are_uniform() -> None:
    x, y = build_circle(NOISELESS, 0).train.T
    quadrants = torch.histc(torch.atan2(y, x), 8, -math.pi, math.pi) / 4000
    assert (quadrants - 1 / 8).abs().max() < 5 * math.sqrt(7 / 64 / 4000)


def test_eight_gaussians_have_their_centres_on_the_shifted_circle() -> None:
    points = build_eight_gaussians(NOISELESS, 0).train
    centres, counts = points.unique(dim=0, return_counts=True)
    assert len(centres) == 8
    assert torch.allclose((centres - 1.0).norm(dim=1), torch.tensor(0.4, dtype=torch.float64))
    angles = torch.atan2(*(centres - 1.0).T.flip(0)) / (math.pi / 4)
    assert torch.allclose(angles, angles.round(), atol=1e-9)
    assert (counts / 4000 - 1 / 8).abs().max() < 5 * math.sqrt(7 / 64 / 4000)


def test_swiss_roll_points_lie_on_the_rolled_sheet() -> None:
    x, y, z = build_swiss_roll(NOISELESS, 0).train.T
    t = torch.hypot(x, z)
    assert torch.allclose(x, t * t.cos())
    assert torch.allclose(z, t * t.sin())
    assert 1.5 * math.pi <= t.min() < 4.73
    assert 14.1 < t.max() <= 4.5 * math.pi
    assert 0 <= y.min() < 0.05
    assert 20.95 < y.max() <= 21.0


def test_spiral_points_lie_on_the_helix_before_the_tilt() -> None:
    a, b, c = (build_spiral(NOISELESS, 0).train - 1.5).T
    x, y, z = (a + c) / 2, b, (c - a) / 2
    t = z / 3.0
    assert torch.allclose(x, 2.5 * (2 * math.pi * t).sin(), atol=1e-9)
    assert torch.allclose(y, 2.5 * (2 * math.pi * t).cos(), atol=1e-9)
    assert 0 <= t.min() < 0.005
    assert 0.995 < t.max() <= 1.0


def test_dependent_manifold_dimensions_follow_their_formula() -> None:
    options = ManifoldOptions(points=300, noise=0.0, held_out=0.0, scaling="none", free=4, dimension=30)
    points = build_manifold(options, 5).train
    for column, (a, b) in enumerate(dependent_pairs(options, 5).tolist(), start=4):
        expected = 0.35 * torch.cos(points[:, a] ** 2 + points[:, b] ** 2)
        assert torch.allclose(points[:, column], expected)


def test_free_manifold_dimensions_are_gaussian_with_the_stated_moments() -> None:
    options = ManifoldOptions(points=200_000, noise=0.0, held_out=0.0, scaling="none", dimension=11)
    free = build_manifold(options, 0).train[:, :10]
    assert abs(free.mean().item() + 0.175) < 5 * 0.35 / math.sqrt(free.numel())
    assert abs(free.std().item() - 0.35) < 5 * 0.35 / math.sqrt(2 * free.numel())


def test_manifold_pairs_are_two_different_free_dimensions_and_all_occur() -> None:
    pairs = dependent_pairs(ManifoldOptions(free=3, dimension=200), 0)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == {(0, 1), (0, 2), (1, 2)}


def test_pca_covariance_is_that_of_the_generating_parameters() -> None:
    options = PCAOptions(points=200_000, held_out=0.0)
    weight, mean = generating_parameters(options, 3)
    points = build_pca(options, 3).train
    expected = weight @ weight.T + 0.01 * torch.eye(10, dtype=torch.float64)
    variances = expected.diagonal()
    standard_error = ((expected.square() + variances[:, None] * variances) / 200_000).sqrt()
    assert ((points.T.cov(correction=0) - expected).abs() / standard_error).max() < 5
    assert ((points.mean(0) - mean).abs() / (variances / 200_000).sqrt()).max() < 5


def test_pca_parameters_depend_on_the_seed_and_not_on_the_number_of_points() -> None:
    few, many = (generating_parameters(PCAOptions(points=points), 3)[0] for points in (10, 1000))
    assert torch.equal(few, many)
    assert not torch.equal(few, generating_parameters(PCAOptions(), 4)[0])
    assert (few >= 0).all()
    assert (few <= 1).all()


def test_pca_truth_is_minus_the_entropy_of_the_generating_gaussian() -> None:
    options = PCAOptions()
    data = build_pca(options, 3)
    weight, _ = generating_parameters(options, 3)
    covariance = weight @ weight.T + 0.01 * torch.eye(10, dtype=torch.float64)
    entropy = 0.5 * (10 * math.log(2 * math.pi * math.e) + torch.logdet(covariance).item())
    spread = math.sqrt(10 / 2)  # of −½χ²₁₀
    assert entropy_bound_holds(data.train_log_likelihood, entropy, spread, len(data.train))
    assert entropy_bound_holds(data.held_out_log_likelihood, entropy, spread, len(data.held_out))


def test_pca_truth_equals_the_density_of_the_multivariate_normal() -> None:
    options = PCAOptions(points=50, held_out=0.0, latent=3, dimension=6)
    data = build_pca(options, 1)
    weight, mean = generating_parameters(options, 1)
    covariance = weight @ weight.T + 0.01 * torch.eye(6, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    assert data.train_log_likelihood == pytest.approx(normal.log_prob(data.train).mean().item(), abs=1e-9)


def ring_latents(latent: int) -> Tensor:
    """Return the latents of noiseless ring points, recovered through the pseudo-inverse of W."""
    options = PCAOptions(points=4000, noise=0.0, held_out=0.0, latent=latent)
    weight, mean = generating_parameters(options, 3)
    points = build_pca_ring(options, 3).train - mean
    latents = points @ torch.linalg.pinv(weight).T
    assert torch.allclose(latents @ weight.T, points, atol=1e-9)
    return latents


def test_ring_latents_have_radius_one_plus_a_tenth_of_that_of_a_gaussian() -> None:
    excess = 10 * (ring_latents(2).norm(dim=1) - 1.0)  # ‖z‖, z ~ N(0, I): Rayleigh
    assert excess.min() > 0
    assert abs(excess.mean().item() - math.sqrt(math.pi / 2)) < 5 * math.sqrt((2 - math.pi / 2) / 4000)
    assert abs(excess.square().mean().item() - 2.0) < 5 * 2.0 / math.sqrt(4000)


def test_ring_angles_are_uniform() -> None:
    x, y = ring_latents(2).T
    eighths = torch.histc(torch.atan2(y, x), 8, -math.pi, math.pi) / 4000
    assert (eighths - 1 / 8).abs().max() < 5 * math.sqrt(7 / 64 / 4000)


def test_a_ring_of_one_latent_is_two_points_that_are_smeared_outwards() -> None:
    latents = ring_latents(1)
    assert latents.abs().min() >= 1.0
    assert abs((latents > 0).double().mean().item() - 0.5) < 5 * math.sqrt(0.25 / 4000)


@pytest.mark.parametrize("name", ["1dgauss", "circle", "8gauss", "pca"])
def test_scaling_shifts_the_truth_by_the_log_volume(name: str) -> None:
    raw = build(name, points=400, held_out=0.0, scaling="none")
    scaled = build(name, points=400, held_out=0.0, scaling="min-max")
    assert raw.train_log_likelihood is not None
    expected = raw.train_log_likelihood + scaled.scaling.scale.log().sum().item()
    assert scaled.train_log_likelihood == pytest.approx(expected, abs=1e-9)


def test_one_gaussian_truth_is_minus_its_entropy() -> None:
    data = build("1dgauss", scaling="none")
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.05**2)
    assert entropy_bound_holds(data.train_log_likelihood, entropy, math.sqrt(0.5), len(data.train))


def test_eight_gaussians_truth_is_that_of_the_mixture() -> None:
    data = build("8gauss", points=300, held_out=0.0, scaling="none", noise=0.3)
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    centres = 1.0 + 0.4 * torch.stack((angles.cos(), angles.sin()), 1)
    squares = (data.train[:, None] - centres).square().sum(-1)
    density = (torch.exp(-squares / (2 * 0.09)) / (2 * math.pi * 0.09)).mean(1)
    assert data.train_log_likelihood == pytest.approx(density.log().mean().item(), abs=1e-9)


@pytest.mark.parametrize("noise", [0.05, 0.6])
def test_circle_truth_is_a_density_that_integrates_to_one(noise: float) -> None:
    data = build("circle", points=100_000, held_out=0.0, scaling="none", noise=noise, seed=2)
    radius = data.train.norm(dim=1)

    def density(r: Tensor) -> Tensor:
        bell = torch.exp(-(r - 1).square() / (2 * noise**2)) + torch.exp(-(r + 1).square() / (2 * noise**2))
        return bell / (math.sqrt(2 * math.pi) * noise) / (2 * math.pi * r)

    grid = torch.linspace(1e-9, 1 + 10 * noise, 200_001, dtype=torch.float64)
    mass = torch.trapezoid(density(grid) * 2 * math.pi * grid, grid).item()
    assert mass == pytest.approx(1.0, abs=1e-6)
    assert data.train_log_likelihood == pytest.approx(density(radius).log().mean().item(), abs=1e-9)


@pytest.mark.parametrize("name", ["1dgauss", "circle", "8gauss", "pca"])
def test_there_is_no_true_density_without_noise(name: str) -> None:
    assert build(name, points=50, noise=0.0).train_log_likelihood is None


@pytest.mark.parametrize("name", ["line", "cosine", "eight", "swiss_roll", "spiral_3D", "manifold", "pca-ring"])
def test_truth_is_left_open_where_the_density_is_not_known(name: str) -> None:
    assert build(name, points=50).train_log_likelihood is None


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("points", 1, "≥ 2"),
        ("points", 10**9, "≤ 1e+08"),
        ("noise", -0.1, "≥ 0"),
        ("held_out", 1.0, "< 1"),
        ("held_out", -0.5, "≥ 0"),
        ("scaling", "max", "'min-max', 'standard', 'none'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(option: str, value: object, allowed: str) -> None:
    message = faults(GeneratedOptions, **{option: value})
    assert message.startswith(f"{option}: ")
    assert allowed in message


def test_a_manifold_needs_a_dependent_dimension() -> None:
    assert "free = 10 and dimension = 10; expected free < dimension" in faults(ManifoldOptions, dimension=10)


def test_a_manifold_needs_two_free_dimensions() -> None:
    assert "free: got 1; expected a number ≥ 2" in faults(ManifoldOptions, free=1)


@pytest.mark.parametrize("options", [ManifoldOptions, PCAOptions])
def test_more_numbers_than_fit_are_refused(options: type[object]) -> None:
    assert "1,073,741,824 numbers in all" in faults(options, points=1_000_000, dimension=10_000)


def test_the_largest_allowed_size_passes() -> None:
    require_size(2**20, 2**10)


def test_options_are_those_the_documentation_names() -> None:
    common = {"points", "noise", "held_out", "scaling"}
    assert {field.name for field in attrs.fields(GeneratedOptions)} == common
    assert {field.name for field in attrs.fields(ManifoldOptions)} == common | {"free", "dimension"}
    assert {field.name for field in attrs.fields(PCAOptions)} == common | {"latent", "dimension"}
