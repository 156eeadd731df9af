"""What VAE types are built on: a network with heads that turn features into Gaussians, and likelihoods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elboverse.faces import found_in

if TYPE_CHECKING:
    from elboverse.models.likelihood import LikelihoodOf
    from elboverse.models.network_vae import NetworkVAE, NetworkVAEOptions

__all__ = ["LikelihoodOf", "NetworkVAE", "NetworkVAEOptions"]

_HOMES = {
    "LikelihoodOf": "elboverse.models.likelihood",
    "NetworkVAE": "elboverse.models.network_vae",
    "NetworkVAEOptions": "elboverse.models.network_vae",
}


def __getattr__(name: str) -> Any:
    return found_in(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
