"""The ELBO of a Gaussian VAE on a batch, term by term: to be read beside Damm et al. (AISTATS 2023), §2 and §3.

    ELBO  =  mean_n E_q ln p(x|z)  −  Σ_h KL_h
    H_sum = −H_dec + Σ_h H_enc,h − Σ_h H_prior,h
    ELBO − H_sum = R_σ + Σ_h R_h,    R_σ = ½ Σ_d mean_n E_q[1 − (x_d − μ_d)²/σ²_d],    R_h = ½(1 − m_h/α²_h)

The last line holds at any parameters; R_σ and R_h are minus the gradients with respect to ln σ² and ln α²_h. All
follows from the three Gaussians that a model gives. The terms depend on the data through few moments only, the mean
squared errors, the second moments of the encoder and the mean log-variances, so those are averaged first and the
formulas are applied to a handful of numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from elboverse.theory import identities
from elboverse.theory.identities import gaussian_entropy
from elboverse.theory.model import Model, SamplingFree

if TYPE_CHECKING:
    from torch import Tensor

    from elboverse.theory.gaussian import DiagonalGaussian

__all__ = [
    "ClosedForm",
    "Moments",
    "Terms",
    "batch_terms",
    "closed_form",
    "moments",
    "point_terms",
    "terms_of",
]


@attrs.frozen(eq=False)
class Terms:
    """The terms of the ELBO and of the entropy sum, in nats per data point.

    Shapes are given for the average over a batch (`batch_terms`); `point_terms` has the points' axes *B in front of
    each, except for the prior's.

    Args:
        log_likelihood: mean_n E_q ln p(x|z), shape ().
        decoder_entropy: H_dec = mean_n E_q Σ_d ½ ln(2πe σ²_d(z)), shape ().
        kl: KL_h = mean_n ½[(ν²_h + τ²_h)/α²_h − 1 − ln(τ²_h/α²_h)], shape (H,).
        encoder_entropy: H_enc,h = mean_n ½ ln(2πe τ²_h(x_n)), shape (H,).
        decoder_log_var: mean over data, samples and dimensions of ln σ²_d(z), shape ().
        prior_log_var: ln α²_h, shape (H,).
    """

    log_likelihood: Tensor
    decoder_entropy: Tensor
    kl: Tensor
    encoder_entropy: Tensor
    decoder_log_var: Tensor
    prior_log_var: Tensor

    @property
    def prior_entropy(self) -> Tensor:
        """H_prior,h = ½ ln(2πe α²_h), shape (H,)."""
        return gaussian_entropy(self.prior_log_var)

    @property
    def elbo(self) -> Tensor:
        """The ELBO, shape ()."""
        return identities.elbo(self.log_likelihood, self.kl)

    @property
    def entropy_sum(self) -> Tensor:
        """H_sum, shape ()."""
        return identities.entropy_sum(self.decoder_entropy, self.encoder_entropy, self.prior_entropy)

    @property
    def decoder_residual(self) -> Tensor:
        """R_σ = −∂ELBO/∂ln σ², shape ()."""
        return identities.decoder_residual(self.log_likelihood, self.decoder_entropy)

    @property
    def prior_residual(self) -> Tensor:
        """R_h = −∂ELBO/∂ln α²_h, shape (H,)."""
        return identities.prior_residual(self.kl, self.encoder_entropy, self.prior_entropy)


@attrs.frozen(eq=False)
class Moments:
    """What the terms need to know of a batch: averages over points and samples, or over samples alone.

    Args:
        encoder_second_moment: m_h = ν²_h + τ²_h, averaged, shape (*B, H).
        encoder_log_var: ln τ²_h, averaged, shape (*B, H).
        prior_log_var: ln α²_h, shape (H,).
        squared_error: (x_d − μ_d(z))², averaged, shape (*B, D); None where Σ depends on z.
        standardised_error: (x_d − μ_d(z))²/σ²_d, averaged, shape (*B, D).
        decoder_log_var: ln σ²_d, averaged, shape (*B, D), (D,) or ().
    """

    encoder_second_moment: Tensor
    encoder_log_var: Tensor
    prior_log_var: Tensor
    squared_error: Tensor | None
    standardised_error: Tensor
    decoder_log_var: Tensor


@attrs.frozen(eq=False)
class ClosedForm:
    """The variances that maximise the ELBO given the rest: σ² = s² and α²_h = m_h; None where a model has none.

    Args:
        decoder: ln s², of the shape of the model's own ln σ², () or (D,).
        prior: ln m_h, shape (H,).
    """

    decoder: Tensor | None
    prior: Tensor | None


def batch_terms(model: Model, x: Tensor, noise: Tensor | None, variances: ClosedForm | None = None) -> Terms:
    """Return the terms averaged over a batch and its Monte-Carlo samples.

    Args:
        model: any Gaussian VAE.
        x: points, shape (B, D).
        noise: ε ~ N(0, I), shape (B, H) or (K, B, H); not used by a `SamplingFree` model.
        variances: variances to use in place of the model's own.

    Example:
        >>> import torch
        >>> from elboverse.config import load
        >>> _ = torch.manual_seed(0)
        >>> config = load({"model": {"name": "vae-1", "latent_dim": 2}, "dataset": {"name": "circle"}})
        >>> model = config.model.build((2,)).double()
        >>> x, noise = torch.randn(50, 2).double(), torch.randn(50, 2).double()
        >>> terms = batch_terms(model, x, noise)
        >>> gap = terms.elbo - terms.entropy_sum
        >>> bool(torch.isclose(gap, terms.decoder_residual + terms.prior_residual.sum()))  # at any parameters
        True
    """
    return terms_of(moments(model, x, noise, average_points=True), variances)


def point_terms(model: Model, x: Tensor, noise: Tensor | None) -> Terms:
    """Return the terms of each point by itself, averaged over its samples; their means are those of `batch_terms`.

    Args:
        model: any Gaussian VAE.
        x: points, shape (B, D).
        noise: shape (B, H) or (K, B, H); not used by a `SamplingFree` model.

    Example:
        >>> import torch
        >>> from elboverse.config import load
        >>> config = load({"model": {"name": "vae-1", "latent_dim": 3}, "dataset": {"name": "circle"}})
        >>> terms = point_terms(config.model.build((2,)), torch.zeros(50, 2), torch.zeros(50, 3))
        >>> terms.elbo.shape, terms.kl.shape
        (torch.Size([50]), torch.Size([50, 3]))
    """
    return terms_of(moments(model, x, noise, average_points=False))


def moments(
    model: Model,
    x: Tensor,
    noise: Tensor | None,
    *,
    average_points: bool,
    encoder: DiagonalGaussian | None = None,
) -> Moments:
    """Return the moments of a batch; see `Moments`.

    Args:
        model: any Gaussian VAE.
        x: points, shape (B, D).
        noise: shape (B, H) or (K, B, H); not used by a `SamplingFree` model.
        average_points: average over points too, not over samples alone.
        encoder: q(z|x) of the points, if it has been computed already.

    Example:
        >>> import torch
        >>> from elboverse.config import load
        >>> config = load({"model": "linear-vae", "dataset": {"name": "circle"}})
        >>> found = moments(config.model.build((2,)), torch.randn(50, 2), None, average_points=True)
        >>> found.encoder_second_moment.shape, found.squared_error.shape
        (torch.Size([2]), torch.Size([2]))
    """

    def average(values: Tensor) -> Tensor:
        """Average (*K, B, ·) over the sample axes, and over points if asked."""
        axes = tuple(range(values.ndim - (1 if average_points else 2)))
        return values.mean(axes) if axes else values

    encoder = model.encode(x) if encoder is None else encoder
    squared_error: Tensor | None
    if isinstance(model, SamplingFree):
        log_var = model.decoder_log_variance()
        squared_error = average(model.expected_squared_error(x, encoder))
        standardised_error = squared_error * (-log_var).exp()
    else:
        if noise is None:
            raise ValueError("noise of shape (*K, B, H) is needed: this model's ELBO is estimated from samples")
        decoder = model.decode(encoder.sample(noise))
        log_var = decoder.log_var
        squares = (x - decoder.mean).square()
        if log_var.ndim <= 1:
            squared_error = average(squares)
            standardised_error = squared_error * (-log_var).exp()
        else:
            squared_error = None
            standardised_error = average(squares * (-log_var).exp())
            log_var = average(log_var.expand_as(squares))
    encoder_log_var = encoder.log_var.expand_as(encoder.mean)
    return Moments(
        encoder_second_moment=average(encoder.mean.square() + encoder.log_var.exp()),
        encoder_log_var=average(encoder_log_var),
        prior_log_var=model.prior().log_var,
        squared_error=squared_error,
        standardised_error=standardised_error,
        decoder_log_var=log_var,
    )


def closed_form(model: Model, found: Moments) -> ClosedForm:
    """Return the variances that maximise the ELBO given the rest, without gradient, for those that a model has.

    By the envelope theorem the gradient of the ELBO at these variances, held constant, is that of the entropy sum
    with the closed form substituted. From a mini-batch of size B they overestimate the entropy sum by about
    (1 + Σ_h c²_h)/(2B), c_h = 1 − σ²/λ_h, so reported values take them from many points.

    Args:
        model: a model whose `variance_parameters` names its log-variances.
        found: moments averaged over points.

    Example:
        >>> import torch
        >>> from elboverse.config import load
        >>> config = load({"model": "linear-vae", "dataset": {"name": "circle"}})
        >>> model = config.model.build((2,))
        >>> found = moments(model, torch.randn(50, 2), None, average_points=True)
        >>> bool(torch.isclose(closed_form(model, found).decoder, found.squared_error.mean().log()))  # σ² = s²
        True
    """
    names = model.variance_parameters()
    decoder = prior = None
    if names.decoder is not None and found.squared_error is not None:
        square = found.squared_error.detach()
        decoder = (square.mean() if found.decoder_log_var.ndim == 0 else square).log()
    if names.prior is not None:
        prior = found.encoder_second_moment.detach().log()
    return ClosedForm(decoder, prior)


def terms_of(found: Moments, variances: ClosedForm | None = None) -> Terms:
    """Return the terms that moments determine; see `Terms` for the formulas.

    Args:
        found: of `moments`.
        variances: variances to use in place of the model's own.

    Example:
        >>> import torch
        >>> from elboverse.config import load
        >>> config = load({"model": "linear-vae", "dataset": {"name": "circle"}})
        >>> model = config.model.build((2,))
        >>> found = moments(model, torch.randn(50, 2), None, average_points=True)
        >>> bool(terms_of(found, closed_form(model, found)).decoder_residual.abs() < 1e-5)  # σ² fits
        True
    """
    decoder_log_var, standardised_error = found.decoder_log_var, found.standardised_error
    if variances is not None and variances.decoder is not None and found.squared_error is not None:
        decoder_log_var = variances.decoder
        standardised_error = found.squared_error * (-decoder_log_var).exp()
    prior_log_var = found.prior_log_var
    if variances is not None and variances.prior is not None:
        prior_log_var = variances.prior
    dimension = standardised_error.shape[-1]
    mean_log_var = decoder_log_var.mean(-1) if decoder_log_var.ndim else decoder_log_var
    return Terms(
        log_likelihood=identities.gaussian_log_likelihood(dimension, mean_log_var, standardised_error.sum(-1)),
        decoder_entropy=dimension * gaussian_entropy(mean_log_var),
        kl=identities.gaussian_kl(
            found.encoder_second_moment * (-prior_log_var).exp(), found.encoder_log_var - prior_log_var
        ),
        encoder_entropy=gaussian_entropy(found.encoder_log_var),
        decoder_log_var=mean_log_var,
        prior_log_var=prior_log_var,
    )
