"""Adam and AdamW."""

from __future__ import annotations

import attrs

from elboverse.config.structuring import in_range
from elboverse.contracts.optimiser import Adam

__all__ = ["AdamOptions", "AdamWOptions", "build", "build_decaying"]


@attrs.frozen(kw_only=True)
class AdamOptions:
    """Options of Adam.

    Args:
        beta1: decay of the running average of gradients.
        beta2: decay of the running average of squared gradients.
        epsilon: added to the root of the latter.
    """

    beta1: float = attrs.field(default=0.9, validator=in_range(minimum=0, below=1))
    beta2: float = attrs.field(default=0.999, validator=in_range(minimum=0, below=1))
    epsilon: float = attrs.field(default=1e-8, validator=in_range(above=0))


@attrs.frozen(kw_only=True)
class AdamWOptions(AdamOptions):
    """Options of AdamW.

    Args:
        beta1: decay of the running average of gradients.
        beta2: decay of the running average of squared gradients.
        epsilon: added to the root of the latter.
        weight_decay: λ; each update takes the share λ × learning rate off every parameter.
    """

    weight_decay: float = attrs.field(default=0.01, validator=in_range(minimum=0))


def build(options: AdamOptions) -> Adam:
    """Return Adam."""
    return Adam(options.beta1, options.beta2, options.epsilon)


def build_decaying(options: AdamWOptions) -> Adam:
    """Return AdamW."""
    return Adam(options.beta1, options.beta2, options.epsilon, options.weight_decay)
