"""The total correlation of q(z), estimated in a batch (Chen et al. 2018), as a term of the loss: beta-TC-VAE."""

import math

import attrs

from elboverse import Component, hookimpl
from elboverse.config.structuring import in_range


@attrs.frozen(kw_only=True)
class Options:
    weight: float = attrs.field(default=5.0, validator=in_range(minimum=0), metadata={"help": "beta - 1"})


@attrs.frozen
class TotalCorrelation:
    options: Options

    def extra(self, x, q, z):
        z = z.reshape(-1, *z.shape[-2:])[0]
        log_var = q.log_var.expand_as(q.mean)
        square = (z.unsqueeze(1) - q.mean).square() * (-log_var).exp()
        densities = -0.5 * (square + log_var + math.log(2 * math.pi))  # (B, B, H): ln q(z_bh | x_c)
        joint = densities.sum(-1).logsumexp(1) - math.log(len(z))
        margins = (densities.logsumexp(1) - math.log(len(z))).sum(-1)
        return {"tc": self.options.weight * (joint - margins).mean()}


@hookimpl
def elboverse_regularisers():
    return [Component("tc", Options, TotalCorrelation, "the total correlation of the latents")]
