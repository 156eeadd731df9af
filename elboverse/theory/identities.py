"""The paper's identities between recorded terms, as plain arithmetic on NumPy arrays and torch tensors alike.

Training computes five terms per batch: the expected log-likelihood, the decoder entropy, and per latent the
KL divergence, the encoder entropy and the prior entropy. Everything else that elboverse reports follows from
them here. All quantities are in nats per data point. This module imports neither torch nor NumPy, so that
analyses of a finished run need no torch.

Source: S. Damm et al., *The ELBO of Variational Autoencoders Converges to a Sum of Entropies*, AISTATS 2023.
"""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = [
    "DROP_THRESHOLD",
    "LOG_2PI",
    "LOG_2PI_E",
    "LOG_VAR_FLOOR",
    "PAPER_THRESHOLD",
    "STANDARD_NORMAL_ENTROPY",
    "decoder_residual",
    "elbo",
    "entropy_drop",
    "entropy_sum",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "in_words",
    "is_at_floor",
    "prior_residual",
]

LOG_2PI: Final = math.log(2 * math.pi)
LOG_2PI_E: Final = LOG_2PI + 1.0

STANDARD_NORMAL_ENTROPY: Final = 0.5 * LOG_2PI_E
"""½ ln 2πe = 1.4189 nats: the encoder entropy of a latent that has collapsed onto a standard normal prior."""

PAPER_THRESHOLD: Final = 1.0
"""Encoder entropy in nats from which on the paper calls a latent collapsed; meant for a standard normal prior."""

DROP_THRESHOLD: Final = STANDARD_NORMAL_ENTROPY - PAPER_THRESHOLD
"""0.4189 nats: the entropy drop below which a latent is called collapsed; the paper's threshold where α = 1."""

LOG_VAR_FLOOR: Final = -23.0
"""The decoder's ln σ² is held at this or above, learned or in closed form: σ = 1e-5. Data on a lower-dimensional
manifold would otherwise drive it to minus infinity, where the ELBO is unbounded and no number means anything. A
prior's ln α² in closed form, which falls without end for a collapsed latent of VAE-2, is held there too."""

_UNSEEN: Final = 5e-5
_NEAR_ZERO: Final = 1.0
_ROUNDING: Final = 1e-4
"""How far above the floor the average of log-variances that are all at it may come out."""

# `Any` stands for one array type throughout a call: numpy.ndarray, torch.Tensor or float.
Array = Any


def gaussian_entropy(log_var: Array) -> Array:
    """Return the entropy of N(·, exp(log_var)) per dimension in nats, ½ ln(2πe σ²).

    Args:
        log_var: ln σ², any shape.

    Example:
        >>> round(gaussian_entropy(0.0), 4)  # of a standard normal, in nats
        1.4189
    """
    return 0.5 * (LOG_2PI_E + log_var)


def gaussian_log_likelihood(dimension: int, mean_log_var: Array, standardised_error: Array) -> Array:
    """Return E ln N(x; μ, diag σ²) = −½ [D ln 2π + Σ_d ln σ²_d + Σ_d (x_d − μ_d)²/σ²_d] from its averages.

    Args:
        dimension: D.
        mean_log_var: mean over dimensions, and over whatever is averaged, of ln σ²_d, shape (*B,).
        standardised_error: Σ_d of the average of (x_d − μ_d)²/σ²_d, shape (*B,).

    Example:
        >>> round(gaussian_log_likelihood(2, 0.0, 2.0), 4)  # two dimensions, errors as large as σ² says
        -2.8379
    """
    return -0.5 * (dimension * (LOG_2PI + mean_log_var) + standardised_error)


def gaussian_kl(standardised_second_moment: Array, log_ratio: Array) -> Array:
    """Return KL(N(ν, τ²) ‖ N(0, α²)) per latent = ½ [(ν² + τ²)/α² − 1 − ln(τ²/α²)] from its averages.

    Args:
        standardised_second_moment: average of (ν² + τ²)/α², shape (*B, H).
        log_ratio: average of ln(τ²/α²), shape (*B, H).

    Example:
        >>> gaussian_kl(1.0, 0.0)  # an encoder that is the prior
        0.0
    """
    return 0.5 * (standardised_second_moment - 1.0 - log_ratio)


def elbo(log_likelihood: Array, kl: Array) -> Array:
    """Return the (unweighted) ELBO, mean_n E_q ln p(x|z) − Σ_h KL_h.

    Args:
        log_likelihood: mean_n E_q ln p(x|z), shape (*B,).
        kl: KL_h, shape (*B, H).

    Example:
        >>> import numpy as np
        >>> float(elbo(-3.0, np.array([0.5, 0.25])))
        -3.75
    """
    return log_likelihood - kl.sum(-1)


def entropy_sum(
    decoder_entropy: Array, encoder_entropy: Array, prior_entropy: Array, log_reference: Array | float = 0.0
) -> Array:
    """Return the sum of entropies H_sum = −H_dec + Σ_h H_enc,h − Σ_h H_prior,h (Damm et al. 2023, Theorem 1).

    Args:
        decoder_entropy: H_dec = mean_n E_q Σ_d ½ ln(2πe σ²_d(z)), shape (*B,).
        encoder_entropy: H_enc,h = mean_n ½ ln(2πe τ²_h(x_n)), shape (*B, H).
        prior_entropy: H_prior,h = ½ ln(2πe α²_h), shape (*B, H) or (H,).
        log_reference: mean_n E_q ln h(x) of the measure that the decoder entropy is relative to, shape (*B,); 0 for
            the Gaussian and every other decoder with a differential or Shannon entropy.

    Example:
        >>> import numpy as np
        >>> float(entropy_sum(2.0, np.array([0.5, 1.25]), np.array([1.5, 1.25])))
        -3.0
    """
    return (encoder_entropy - prior_entropy).sum(-1) - decoder_entropy + log_reference


def entropy_drop(encoder_entropy: Array, prior_entropy: Array) -> Array:
    """Return by how much the encoder is narrower than the prior, H_prior,h − H_enc,h, in nats per latent.

    Equals KL_h where the prior residual R_h is zero. It does not change when a latent is rescaled, so it is the
    collapse diagnostic to use when the prior variance is learned.

    Args:
        encoder_entropy: H_enc,h, shape (*B, H).
        prior_entropy: H_prior,h, shape (*B, H) or (H,).

    Example:
        >>> entropy_drop(0.5, 1.5)
        1.0
    """
    return prior_entropy - encoder_entropy


def decoder_residual(log_likelihood: Array, decoder_entropy: Array, log_reference: Array | float = 0.0) -> Array:
    """Return R_σ = ½ Σ_d mean_n E_q[1 − (x_d − μ_d)²/σ²_d], which is −∂ELBO/∂ln σ² for a shared variance.

    For σ² shared by all dimensions this is (D/2)(1 − s²/σ²). Since ln p(x|z) + Σ_d ½ ln(2πe σ²_d) is exactly the
    bracket above, R_σ = E ln p(x|z) + H_dec at any parameters.

    Args:
        log_likelihood: mean_n E_q ln p(x|z), shape (*B,).
        decoder_entropy: H_dec, shape (*B,).
        log_reference: mean_n E_q ln h(x), shape (*B,); 0 where the entropy is differential or Shannon's.

    Example:
        >>> decoder_residual(log_likelihood=-2.25, decoder_entropy=2.0)  # σ² is smaller than the errors
        -0.25
    """
    return log_likelihood + decoder_entropy - log_reference


def prior_residual(kl: Array, encoder_entropy: Array, prior_entropy: Array) -> Array:
    """Return R_h = ½(1 − m_h/α²_h) per latent, which is −∂ELBO/∂ln α²_h.

    m_h = mean_n[ν²_h + τ²_h] is the second moment of the aggregate encoder. It need not be stored, because
    R_h = H_prior,h − H_enc,h − KL_h at any parameters.

    Args:
        kl: KL_h, shape (*B, H).
        encoder_entropy: H_enc,h, shape (*B, H).
        prior_entropy: H_prior,h, shape (*B, H) or (H,).

    Example:
        >>> prior_residual(kl=0.75, encoder_entropy=0.5, prior_entropy=1.5)
        0.25
    """
    return entropy_drop(encoder_entropy, prior_entropy) - kl


def is_at_floor(log_var: Any) -> Any:
    """Return where log-variances, or averages of them, are held at `LOG_VAR_FLOOR`: true or false, of the same shape.

    Args:
        log_var: ln σ² of the decoder, any shape.

    Example:
        >>> is_at_floor(-23.0), is_at_floor(-4.0)
        (True, False)
    """
    return log_var <= LOG_VAR_FLOOR + _ROUNDING


def in_words(gap: float, elbo: float) -> str:
    """Return a gap as it is told everywhere: signed, in nats, and in per cent of an ELBO that is not near zero.

    Args:
        gap: ELBO − H_sum.
        elbo: the ELBO.

    Example:
        >>> in_words(-1.3488, -20.25), in_words(0.0141, 0.6466), in_words(-1e-9, -15.7)
        ('-1.3488 nats, 6.66 %', '+0.0141 nats', '0.0000 nats')
    """
    if abs(gap) < _UNSEEN:
        return "0.0000 nats"
    relative = f", {100 * abs(gap / elbo):.2f} %" if abs(elbo) >= _NEAR_ZERO else ""
    return f"{gap:+.4f} nats{relative}"
