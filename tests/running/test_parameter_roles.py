"""Which parameters shape p(x): recorded when a model is built, counted by BIC, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

import elboverse
from elboverse import Component, DiagonalGaussian
from elboverse.contracts import VarianceParameters


@attrs.frozen(kw_only=True)
class Options:
    """Options.

    Args:
        latent_dim: H.
        hidden: units of the generator.
    """

    latent_dim: int = 2
    hidden: int = 3


class Oddly(nn.Module):
    """A VAE whose names mislead: ``encoder_like`` decodes, ``q`` encodes, ``fixed`` is not trained, ``idle`` is unused.

    Args:
        options: H and hidden units.
        shape: (D,).
    """

    def __init__(self, options: Options, shape: tuple[int, ...]) -> None:
        super().__init__()
        dimension, latents, hidden = shape[0], options.latent_dim, options.hidden
        self.q = nn.Linear(dimension, 2 * latents)
        self.encoder_like = nn.Sequential(nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, dimension))
        self.noise = nn.Parameter(torch.zeros(()))
        self.fixed = nn.Parameter(torch.ones(dimension), requires_grad=False)
        self.register_buffer("zeros", torch.zeros(latents))

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return q(z|x)."""
        return DiagonalGaussian(*self.q(x).chunk(2, -1))

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z)."""
        return DiagonalGaussian(self.encoder_like(z) * self.fixed, self.noise)

    def prior(self) -> DiagonalGaussian:
        """Return p(z)."""
        return DiagonalGaussian(self.get_buffer("zeros"), self.get_buffer("zeros"))

    def variance_parameters(self) -> VarianceParameters:
        """Return which parameters are variances."""
        return VarianceParameters(decoder="noise")


def train(folder: Path, hidden: int) -> Path:
    table = {"model": {"name": "oddly", "hidden": hidden}, "dataset": {"name": "circle", "points": 40}, "sinks": []}
    table["training"] = {"epochs": 1, "batch_size": 10, "variances": "optimal"}
    elboverse.train(table, out=folder, plugins=[Component("oddly", Options, Oddly, "a VAE", kind="model")]).close()
    return folder / "run.h5"


def test_bic_counts_what_the_density_of_a_strangers_model_depends_on(tmp_path: Path) -> None:
    paths = [train(tmp_path / str(hidden), hidden) for hidden in (3, 5)]
    roles = {role["name"]: role for role in elboverse.Run.open(paths[0]).documents["model"]["parameters"]}
    assert {name for name, role in roles.items() if role["shapes_density"]} == {
        "encoder_like.0.weight", "encoder_like.0.bias", "encoder_like.2.weight", "encoder_like.2.bias", "noise",
    }  # fmt: skip
    assert roles["q.weight"] == {"name": "q.weight", "shape": [4, 2], "trained": True, "shapes_density": False}
    assert not roles["fixed"]["trained"]
    models = elboverse.analyze(paths, "selection").data["models"]
    # D = H = 2: 2·hidden + hidden, 2·hidden + 2, and σ², though its closed form is not Adam's to train.
    assert [model["parameters"] for model in models] == [5 * 3 + 2 + 1, 5 * 5 + 2 + 1]
    assert {model["counted"] for model in models} == {"recorded roles"}


def test_a_prior_made_of_encodings_has_the_encoder_shape_the_density(tmp_path: Path) -> None:
    table = {"dataset": {"name": "circle", "points": 40}, "training": {"epochs": 1, "batch_size": 10}, "sinks": []}
    table["model"] = {"name": "vae", "network": {"name": "mlp", "hidden": [4]}, "prior": {"name": "vamp"}}
    with elboverse.train(table, out=tmp_path) as run:
        assert all(role["shapes_density"] for role in run.documents["model"]["parameters"])
