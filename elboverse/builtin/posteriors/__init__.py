"""The posteriors: what the encoder's features say about the latents."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["POSTERIORS"]

_HERE = "elboverse.builtin.posteriors.gaussian"

POSTERIORS = (
    Component(
        "diagonal", f"{_HERE}:PosteriorOptions", f"{_HERE}:build_diagonal", "independent latents given the point"
    ),
    Component("full", f"{_HERE}:PosteriorOptions", f"{_HERE}:build_full", "full covariance, by a Cholesky factor"),
)
