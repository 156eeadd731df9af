"""Generated datasets of the paper, and the user's own arrays."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["DATASETS"]

_GENERATED = "elboverse.builtin.datasets.generated:GeneratedOptions"
_PLANAR = "elboverse.builtin.datasets.planar"
_SURFACES = "elboverse.builtin.datasets.surfaces"
_LINEAR = "elboverse.builtin.datasets.pca"
_MANIFOLD = "elboverse.builtin.datasets.manifold"
_STREAM = "elboverse.builtin.datasets.gaussian_stream"
_FAMILY = "elboverse.builtin.datasets.family"
_ARRAY = "elboverse.builtin.datasets.array"

DATASETS = (
    Component("1dgauss", _GENERATED, f"{_PLANAR}:build_one_gaussian", "one Gaussian N(3, noise²) on the line"),
    Component("line", _GENERATED, f"{_PLANAR}:build_line", "a straight line in the plane"),
    Component("cosine", _GENERATED, f"{_PLANAR}:build_cosine", "one and a half periods of a cosine in the plane"),
    Component("circle", _GENERATED, f"{_PLANAR}:build_circle", "the unit circle in the plane, its radius noisy"),
    Component("8gauss", _GENERATED, f"{_PLANAR}:build_eight_gaussians", "eight Gaussians on a circle in the plane"),
    Component("eight", _GENERATED, f"{_PLANAR}:build_eight", "a figure of eight in the plane"),
    Component("swiss_roll", _GENERATED, f"{_SURFACES}:build_swiss_roll", "a rolled-up sheet in space"),
    Component("spiral_3D", _GENERATED, f"{_SURFACES}:build_spiral", "one turn of a tilted helix in space"),
    Component(
        "manifold",
        f"{_MANIFOLD}:ManifoldOptions",
        f"{_MANIFOLD}:build_manifold",
        "many dimensions that are functions of a few free ones",
    ),
    Component(
        "pca",
        f"{_LINEAR}:PCAOptions",
        f"{_LINEAR}:build_pca",
        "points of probabilistic PCA, with their true log-likelihood",
    ),
    Component(
        "gaussian-stream",
        f"{_STREAM}:GaussianStreamOptions",
        f"{_STREAM}:build_gaussian_stream",
        "an endless stream of Gaussian points with regimes of different latent dimensionality",
    ),
    Component(
        "pca-ring",
        f"{_LINEAR}:PCAOptions",
        f"{_LINEAR}:build_pca_ring",
        "those of PCA with their latents drawn onto a ring",
    ),
    Component(
        "family",
        f"{_FAMILY}:FamilyOptions",
        f"{_FAMILY}:build_family",
        "points of any likelihood with a known decoder, with their true log-likelihood",
    ),
    Component("array", f"{_ARRAY}:ArrayOptions", f"{_ARRAY}:build_array", "your own .npy, .npz, .csv or .h5 file"),
    Component(
        "in-memory",
        "elboverse.builtin.datasets.in_memory:InMemoryOptions",
        "elboverse.builtin.datasets.in_memory:build_in_memory",
        "points that were given in memory, from Python",
    ),
)
