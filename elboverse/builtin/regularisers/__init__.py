"""The regularisers: extra terms of the loss."""

from __future__ import annotations

from elboverse.components.hookspecs import Component

__all__ = ["REGULARISERS"]

_HERE = "elboverse.builtin.regularisers.aggregate"

REGULARISERS = (
    Component("beta-tc", f"{_HERE}:TotalCorrelationOptions", f"{_HERE}:build_total_correlation", "β-TC-VAE"),
    Component("mmd", f"{_HERE}:MMDOptions", f"{_HERE}:build_mmd", "InfoVAE's maximum mean discrepancy"),
    Component("dip", f"{_HERE}:DIPOptions", f"{_HERE}:build_dip", "DIP-VAE's covariance penalty"),
)
