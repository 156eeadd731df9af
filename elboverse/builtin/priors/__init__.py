"""The priors: what the latents are before a point is seen."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["PRIORS"]


def _component(name: str, module: str, options: str, build: str, summary: str) -> Component:
    here = f"elboverse.builtin.priors.{module}"
    return Component(name, f"{here}:{options}", f"{here}:{build}", summary)


PRIORS = (
    _component("standard-normal", "gaussian", "StandardNormalOptions", "build_standard_normal", "N(0, I)"),
    _component("diagonal", "gaussian", "DiagonalOptions", "build_diagonal", "N(0, diag α²) with α² learned"),
    _component("full", "gaussian", "FullOptions", "build_full", "N(m, C) with m and C learned"),
    _component("laplace", "laplace", "LaplaceOptions", "build", "sparse latents, Laplace with learned or fixed scales"),
    _component("mixture", "mixture", "MixtureOptions", "build_mixture", "mixture of Gaussians, in its augmented form"),
    _component("vamp", "mixture", "VampOptions", "build_vamp", "mixture of posteriors at learned inputs; no theorem"),
)
