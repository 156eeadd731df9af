"""``vae``: any network with any likelihood, prior and posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import attrs
import torch
from torch import Tensor, nn

from elboverse.components.hookspecs import selects
from elboverse.components.registry import Selection
from elboverse.config.structuring import in_range
from elboverse.contracts import VarianceParameters
from elboverse.errors import ConfigError

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig

__all__ = ["VAE", "VAEOptions", "build"]


@attrs.frozen(kw_only=True)
class VAEOptions:
    """Options of the VAE with a likelihood, a prior and a posterior of one's choice.

    Args:
        latent_dim: H.
        network: the network component between data and latents.
        likelihood: the likelihood component, p(x|z).
        prior: the prior component, p(z).
        posterior: the posterior component, q(z|x).
        encoder_input: what the encoder sees of a point, ``"as-is"`` its values or ``"log1p"`` ln(1 + x); ``"auto"``
            takes the latter of counts and of positive numbers, which span orders of magnitude. The likelihood is that
            of the values themselves either way.
        initial_encoder_log_var: what the variances of the encoder start near, by the bias of its head.
    """

    latent_dim: int = attrs.field(default=2, validator=in_range(minimum=1, maximum=1_000_000))
    network: Selection = selects("network", default="mlp")
    likelihood: Selection = selects("likelihood", default="gaussian")
    prior: Selection = selects("prior", default="standard-normal")
    posterior: Selection = selects("posterior", default="diagonal")
    encoder_input: Literal["auto", "as-is", "log1p"] = "auto"
    initial_encoder_log_var: float = attrs.field(default=-3.0, validator=in_range(minimum=-30, maximum=10))

    def conflicts(self, config: ExperimentConfig) -> Iterator[str]:
        """Yield that closed-form variances were asked for where there are none."""
        if config.training.variances == "optimal" and self.likelihood.name != "gaussian":
            yield (
                f'training.variances: got "optimal"; expected "learned", since only the likelihood "gaussian" has '
                f'closed-form variances and model.likelihood is "{self.likelihood.name}"'
            )


class VAE(nn.Module):
    """p(x|z) by the likelihood of the decoder network's outputs, p(z) by the prior, q(z|x) by the posterior.

    The output layers and the encoder's head are linear with a free bias, which is what makes ELBO = H_sum exact at a
    stationary point wherever the likelihood's and the prior's `theorem` say so.
    """

    def __init__(self, options: VAEOptions, data_shape: tuple[int, ...], conditions: int = 0) -> None:
        super().__init__()
        self.latent_dim = options.latent_dim
        self.condition_dimension = conditions
        self._conditions_first = conditions > 0 and len(data_shape) == 1
        network = options.network.build(data_shape, options.latent_dim + conditions)
        self.posterior = options.posterior.build(options.latent_dim)
        encoding = network
        if self._conditions_first:
            encoding = options.network.build((data_shape[0] + conditions,), options.latent_dim)
        self.encoder = encoding.encoder
        behind = 0 if self._conditions_first else conditions
        self.encoder_head = nn.Linear(encoding.encoder_features + behind, self.posterior.width)
        bias = self.posterior.initial_bias(options.initial_encoder_log_var)
        with torch.no_grad():
            self.encoder_head.bias.copy_(torch.where(bias == 0, self.encoder_head.bias, bias))
        self.decoder = network.decoder
        self.likelihood = options.likelihood.build(data_shape)
        self.outputs = nn.ModuleList(network.build_output() for _ in range(self.likelihood.outputs))
        self.prior_module = options.prior.build(options.latent_dim, data_shape)
        self._activation = network.output_activation
        skewed = self.likelihood.support in {"counts", "positive"}
        self._takes_logarithms = options.encoder_input == "log1p" or (options.encoder_input == "auto" and skewed)
        if not getattr(self.likelihood, "location", False):
            _require_identity(network.output_activation, options.likelihood.name)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Any:
        """Return q(z|x), or q(z|x, c), for points of shape (*B, D) and conditions of shape (*B, C)."""
        seen = x.log1p() if self._takes_logarithms else x
        if c is None:
            return self.posterior(self.encoder_head(self.encoder(seen)))
        if self._conditions_first:
            return self.posterior(self.encoder_head(self.encoder(torch.cat((seen, c), dim=-1))))
        return self.posterior(self.encoder_head(torch.cat((self.encoder(seen), c), dim=-1)))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Any:
        """Return p(x|z), or p(x|z, c), for latents of shape (*B, H) and conditions of shape (*B, C)."""
        features = self.decoder(z if c is None else torch.cat((z, c), dim=-1))
        first, *others = (layer(features) for layer in self.outputs)
        return self.likelihood((self._activation(first), *others))

    def prior(self) -> Any:
        """Return p(z)."""
        return self.prior_module(self.encode)

    @property
    def theorem(self) -> dict[str, str]:
        """Why the residuals need not vanish, by side: ``decoder`` and ``prior``; empty where they must."""
        return {"decoder": self.likelihood.theorem, "prior": self.prior_module.theorem}

    def variance_parameters(self) -> VarianceParameters:
        """Return the log-variances with a closed form, and the likelihood's other parameters."""
        decoder, prior = (getattr(part, "closed_form", None) for part in (self.likelihood, self.prior_module))
        own = [f"likelihood.{name}" for name, _ in self.likelihood.named_parameters()]
        heads = [f"outputs.{index}.{name}" for index in range(1, len(self.outputs)) for name in ("weight", "bias")]
        names = dict(self.named_parameters())
        return VarianceParameters(
            decoder=None if decoder is None else f"likelihood.{decoder}",
            prior=None if prior is None else f"prior_module.{prior}",
            heads=tuple(name for name in (*own, *heads) if name in names and name != f"likelihood.{decoder}"),
        )

    def constrained_weight(self) -> str:
        """Return the name of the decoder's first linear weight W, shape (F, H)."""
        if self.condition_dimension:
            raise TypeError("the first layer of its decoder takes conditions beside the latents")
        for prefix, part in (("decoder", self.decoder), ("outputs.0", self.outputs[0])):
            for name, module in part.named_modules():
                if isinstance(module, nn.Linear):
                    return ".".join(filter(None, (prefix, name, "weight")))
        raise TypeError("this network's decoder has no linear layer that a constraint could act on")


def build(options: VAEOptions, data_shape: tuple[int, ...], conditions: int = 0) -> VAE:
    """Return the model for points of that shape, with so many conditions each.

    Points in a row have their conditions beside them in the encoder; those of images join its features. In the
    decoder they stand beside the latents.

    Raises:
        ConfigError: a prior that is made of the encoder is to be conditional.
    """
    if conditions and options.prior.name == "vamp":
        raise ConfigError(
            'model.prior: got "vamp" beside dataset.conditions; expected another prior, since its components are those '
            "of an encoder without conditions"
        )
    return VAE(options, data_shape, conditions)


def _require_identity(activation: Any, likelihood: str) -> None:
    probe = torch.tensor([-3.0, -0.5, 0.25, 4.0])
    if not torch.equal(activation(probe), probe):
        raise ConfigError(
            f'model.network.output_activation: expected "identity", since the likelihood "{likelihood}" takes the '
            "outputs of a linear layer, such as logits, and applies its own function to them"
        )
