"""The gradient of the ELBO, with the Gaussian terms differentiated by hand.

Automatic differentiation runs through the encoder and through the decoder, where it belongs. Between them lie only
Gaussians, whose derivatives are short:

    ∂loss/∂μ_d     = (μ_d − x_d)/σ²_d                 ∂loss/∂ln σ²_d = ½ (1 − (x_d − μ_d)²/σ²_d)
    ∂loss/∂ν_h     = ∂loss/∂z_h + β ν_h/α²_h          ∂loss/∂ln α²_h = ½ β (1 − (ν²_h + τ²_h)/α²_h)
    ∂loss/∂ln τ²_h = ½ [∂loss/∂z_h τ_h ε_h + β (τ²_h/α²_h − 1)]

averaged over points and samples, for loss = −(E ln p(x|z) − β Σ_h KL_h). Written out, they cost a third of the
operations that differentiating the formulas of `elbo.py` costs, leave no intermediate results behind, and let the
samples be worked off a few at a time: the decoder's part of the gradient is a sum over samples, and what the encoder
needs of it is the sum of ∂loss/∂z. A test holds them against automatic differentiation of `elbo.py`.

All tensors may have an axis R of replicas in front; see `Functions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from elboverse.theory.identities import LOG_VAR_FLOOR
from elboverse.training.seeded import backward_from
from elboverse.training.tape import each

__all__ = ["LOG_VAR_FLOOR", "Functions", "Gradients"]


@attrs.frozen(eq=False, kw_only=True)
class Functions:
    """A model's functions at its present parameters, for one model or for R replicas at once.

    Args:
        encode: x → (ν, ln τ²), shapes (B, H) and what broadcasts to it.
        decode: z → (μ, ln σ²), shapes (*K, B, D) and what broadcasts to it.
        prior_log_var: ln α², shape (H,).
        expected_error: (x, ν, ln τ²) → (E_q (x_d − μ_d)², ln σ²) for a model that needs no samples, else None.
        penalty: the constraint's penalty, summed over replicas, or None.
        replicated: whether everything has R in front.
    """

    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], tuple[Tensor, Tensor]]
    prior_log_var: Tensor
    expected_error: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None
    penalty: Callable[[], Tensor] | None
    replicated: bool

    def compiled(self, mode: str) -> Functions:
        """Return the same functions compiled by `torch.compile`, each once for the shapes of a step.

        Args:
            mode: as of `torch.compile`; ``"reduce-overhead"`` replays CUDA graphs.
        """
        expected_error = self.expected_error
        return attrs.evolve(
            self,
            encode=torch.compile(self.encode, mode=mode, dynamic=False),
            decode=torch.compile(self.decode, mode=mode, dynamic=False),
            expected_error=expected_error and torch.compile(expected_error, mode=mode, dynamic=False),
        )


@attrs.frozen(eq=False)
class Error:
    """How a batch was reconstructed.

    Args:
        standardised: Σ_d mean E_q (x_d − μ_d)²/σ²_d, shape ().
        mean_log_var: ln σ², averaged over everything, shape ().
        optimum: the closed-form ln σ², if it was asked for, shape () or (D,).
    """

    standardised: Tensor
    mean_log_var: Tensor
    optimum: Tensor | None


class Gradients:
    """Adds ∂loss/∂θ to the `grad` of every parameter, and returns the moments that a row is made of.

    Args:
        functions: of the model.
        optimal_decoder: use the closed-form σ² of the batch, held constant, in place of the model's own.
        optimal_prior: the same for α².
        samples_at_once: how many of the K samples go through the decoder together.
        compile_mode: how `torch.compile` compiles the functions; None if it does not.
    """

    def __init__(
        self,
        functions: Functions,
        *,
        optimal_decoder: bool,
        optimal_prior: bool,
        samples_at_once: int,
        compile_mode: str | None,
    ) -> None:
        self._functions = functions if compile_mode is None else functions.compiled(compile_mode)
        self._marks_steps = compile_mode == "reduce-overhead"
        self._optimal_decoder = optimal_decoder
        self._optimal_prior = optimal_prior
        self._samples_at_once = samples_at_once
        self._lead = int(functions.replicated)

    def in_parts(self, noise: Tensor | None) -> bool:
        """Return whether the samples go through the decoder a few at a time, so that gradients are added up."""
        several = noise is not None and noise.ndim > self._lead + 2
        return several and noise is not None and noise.shape[self._lead] > self._samples_at_once

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Add the gradients of one batch; return the columns of a row and the closed-form log-variances asked for.

        Args:
            x: points, shape (B, D).
            noise: ε, shape (B, H) or (K, B, H); None for a model that needs no samples.
            beta: the KL weight, shape ().
        """
        functions = self._functions
        if self._marks_steps:
            torch.compiler.cudagraph_mark_step_begin()
        mean_node, narrow = functions.encode(x)
        if narrow.ndim < mean_node.ndim:  # one for all points, as in the linear VAE
            narrow = narrow.unsqueeze(-2)
        log_var_node = narrow.expand_as(mean_node)
        mean, log_var = mean_node.detach(), log_var_node.detach()
        with torch.no_grad():
            variance = narrow.detach().exp()
            second_moment = torch.addcmul(variance, mean, mean).mean(-2)
            prior = functions.prior_log_var.detach()
            if self._optimal_prior:
                prior = second_moment.log().clamp_min_(LOG_VAR_FLOOR)
            precision = (-prior).exp()
            second_moment *= precision
            precision = precision.unsqueeze(-2) * (beta / x.shape[-2])
            grad_mean = mean * precision
            grad_log_var = (variance * precision - beta / x.shape[-2]).mul_(0.5)
        if functions.expected_error is not None:  # one variance for all points stays one
            log_var_node, grad_log_var = narrow, grad_log_var * (mean.shape[-2] / narrow.shape[-2])
            error, roots = self._exact(x, mean_node, log_var_node)
        else:
            grad_log_var = grad_log_var.expand_as(mean).contiguous()
            if noise is None:
                raise ValueError("noise of shape (*K, B, H) is needed: this model's ELBO is estimated from samples")
            error, roots = self._sampled(x, mean, variance.sqrt_(), noise, grad_mean, grad_log_var), []
        if functions.prior_log_var.requires_grad and not self._optimal_prior:
            roots.append((functions.prior_log_var, 0.5 * beta * (1.0 - second_moment)))
        backward_from([*roots, (mean_node, grad_mean), (log_var_node, grad_log_var)])
        if functions.penalty is not None:
            functions.penalty().backward()
        with torch.no_grad():
            scalars = (error.standardised.unsqueeze(-1), error.mean_log_var.unsqueeze(-1))
            columns = torch.cat((*scalars, second_moment, log_var.mean(-2), prior), dim=-1)
        optima = ([error.optimum] if error.optimum is not None else []) + ([prior] if self._optimal_prior else [])
        return columns, optima

    def _exact(self, x: Tensor, mean: Tensor, log_var: Tensor) -> tuple[Error, list[tuple[Tensor, Tensor]]]:
        """Return the reconstruction's part for a model that needs no samples, and the gradients to start from."""
        assert self._functions.expected_error is not None  # noqa: S101 - for the type checker
        squares, node = self._functions.expected_error(x, mean, log_var)
        with torch.no_grad():
            error, precision, grad_node = self._shared(
                squares.detach().sum(-2), node.detach(), x.shape[-2], x.shape[-1]
            )
            grad_squares = self._over(0.5 * precision, squares.ndim).expand_as(squares)
        return error, [(squares, grad_squares), (node, grad_node)]

    def _sampled(
        self, x: Tensor, mean: Tensor, deviation: Tensor, noise: Tensor, grad_mean: Tensor, grad_log_var: Tensor
    ) -> Error:
        """Add the decoder's part of the gradient, to `grad_mean` and `grad_log_var` too, and return its error."""
        several = noise.ndim > mean.ndim
        samples = noise.shape[self._lead] if several else 1
        parts = noise.split(self._samples_at_once, dim=self._lead) if several else (noise,)
        if several:
            mean, deviation, x = (tensor.unsqueeze(self._lead) for tensor in (mean, deviation, x))
        total = None
        if self._optimal_decoder and len(parts) > 1:
            total = self._total_squares(x, mean, deviation, parts)
        # Whatever a part hands to the next one is added up in place, in memory made before the first: see `each`.
        standardised, mean_log_var = (x.new_zeros(x.shape[: self._lead]) for _ in range(2))
        for part in each(parts):
            z = torch.addcmul(mean, deviation, part).requires_grad_()
            error = self._decoder_backward(x, *self._functions.decode(z), samples * x.shape[-2], total)
            with torch.no_grad():
                assert z.grad is not None  # noqa: S101 - for the type checker
                weighted = z.grad * part
                grad_mean += z.grad.sum(self._lead) if several else z.grad
                if several:
                    grad_log_var += (weighted.sum(self._lead) * deviation.squeeze(self._lead)).mul_(0.5)
                else:
                    grad_log_var.addcmul_(weighted, deviation, value=0.5)
                if len(parts) > 1:
                    standardised += error.standardised
                    mean_log_var += error.mean_log_var * (part.shape[self._lead] / samples)
        return error if len(parts) == 1 else Error(standardised, mean_log_var, error.optimum)

    def _decoder_backward(self, x: Tensor, mean_node: Tensor, node: Tensor, count: int, total: Tensor | None) -> Error:
        """Differentiate through the decoder, into its parameters and into the latents.

        Args:
            x: points, broadcast against the mean.
            mean_node: μ, shape (*K, B, D), with its graph.
            node: ln σ², with its graph.
            count: K·B, over all samples.
            total: Σ (x − μ)² over all samples, if they go through in parts and the closed form is wanted.
        """
        with torch.no_grad():
            log_var = node.detach()
            difference = mean_node.detach() - x
            if log_var.ndim - self._lead <= 1:
                squares = self._summed(difference, log_var.ndim)
                fraction = difference[..., 0].numel() / (count * (difference.shape[0] if self._lead else 1))
                error, precision, grad_node = self._shared(squares, log_var, count, x.shape[-1], fraction, total)
                grad_mean = difference.mul_(self._over(precision, difference.ndim))
            else:
                grad_mean = difference * (-log_var).exp()
                standardised = difference.mul_(grad_mean)
                axes = tuple(range(self._lead, difference.ndim))
                error = Error(
                    standardised.sum(axes) / count, log_var.mean(tuple(range(self._lead, log_var.ndim))), None
                )
                grad_mean /= count
                grad_node = standardised.neg_().add_(1.0).mul_(0.5 / count).sum_to_size(log_var.shape)
        backward_from([(mean_node, grad_mean), (node, grad_node)])
        return error

    def _shared(
        self,
        squares: Tensor,
        log_var: Tensor,
        count: int,
        dimension: int,
        fraction: float = 1.0,
        total: Tensor | None = None,
    ) -> tuple[Error, Tensor, Tensor]:
        """Return error, precision/count and ∂loss/∂ln σ² for a σ² that does not depend on z.

        Args:
            squares: Σ (x − μ)² over points and samples, shape (D,), or summed over D too where σ² is one number.
            log_var: ln σ², shape (D,) or ().
            count: K·B, over all samples.
            dimension: D.
            fraction: which part of all samples these are.
            total: as `squares`, over all samples, where these are a part of them.
        """
        per_dimension = log_var.ndim > self._lead
        if squares.ndim > log_var.ndim:
            squares = squares.sum(-1)
        share = 1 if per_dimension else dimension
        optimum = None
        if self._optimal_decoder:
            log_var = optimum = (
                ((squares if total is None else total) / (count * share)).log().clamp_min_(LOG_VAR_FLOOR)
            )
        precision = (-log_var).exp() / count
        standardised = squares * precision
        grad_log_var = 0.5 * (share * fraction - standardised)
        if per_dimension:
            standardised, log_var = standardised.sum(-1), log_var.mean(-1)
        return Error(standardised, log_var, optimum), precision, grad_log_var

    def _total_squares(self, x: Tensor, mean: Tensor, deviation: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """Return Σ (x − μ)² over all samples, for the closed-form variance that every part of them needs."""

        def squares(part: Tensor) -> Tensor:
            decoded, log_var = self._functions.decode(torch.addcmul(mean, deviation, part))
            return self._summed(decoded - x, log_var.ndim)

        with torch.no_grad():
            total = squares(parts[0])
            for part in each(parts[1:]):
                total += squares(part)
        return total

    def _summed(self, difference: Tensor, ndim: int) -> Tensor:
        """Return Σ difference² over everything that a log-variance with `ndim` axes does not have."""
        if ndim > self._lead:
            return difference.square().sum(tuple(range(self._lead, difference.ndim - 1)))
        if self._lead:
            return difference.square().sum(tuple(range(1, difference.ndim)))
        flat = difference.reshape(-1)
        return torch.dot(flat, flat)

    def _over(self, value: Tensor, ndim: int) -> Tensor:
        """Return a value of shape () or (D,) so that it broadcasts against a tensor with `ndim` axes, (*K, B, D)."""
        if self._lead == 0:
            return value
        return value.reshape(value.shape[0], *[1] * (ndim - value.ndim), *value.shape[1:])
