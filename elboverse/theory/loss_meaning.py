"""What a loss of the form a Σ_d (x_d − μ_d)² + w Σ_h KL_h means as a Gaussian VAE and as a β-VAE.

Such a loss, averaged over points, has the gradient of −ELBO (times 2aσ²) of a Gaussian VAE with the fixed variance
σ²_eff = w/(2a), and that of a β-VAE whose variance σ² = s² is learned with β_eff = w/(2 a s²). Where an implementation
takes means in the place of sums, a and w hide it: the mean over D dimensions makes a = 1/D, the mean over H latents
divides w by H, and a sum over the B points of a batch in one of the terms alone multiplies that term by B. For the
absolute error a Σ_d |x_d − μ_d| the same holds with a Laplace scale b_eff = w/a, and for a binary cross-entropy, whose
likelihood has no scale, β_eff = w/a.

For a linear VAE on data whose covariance has the eigenvalues λ_h: latent h survives iff λ_h > σ²_eff, and the full
collapse is stable iff σ²_eff ≥ λ_max (Lucas et al. 2019; docs/theory.md, "Exact ground truth").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.errors import ConfigError, nearest

__all__ = ["KNOWN_LOSSES", "Collapse", "LossForm", "LossMeaning", "Reconstruction", "Reduction", "explain", "form_of"]

Array = npt.NDArray[Any]

Reconstruction = Literal["squared", "half-squared", "absolute", "cross-entropy"]
"""Per dimension: (x − μ)², ½(x − μ)², |x − μ|, or −x ln π − (1 − x) ln(1 − π)."""

Reduction = Literal["batchmean", "mean", "sum"]
"""``batchmean`` sums over dimensions (or latents) and averages over points; ``mean`` averages over both, as torch's
losses do by default; ``sum`` sums over both."""


@attrs.frozen(kw_only=True)
class LossForm:
    """The form of a loss, as its code has it.

    Args:
        reconstruction: the error of one dimension.
        reduction: how the reconstruction error is reduced.
        weight: a factor of the reconstruction error.
        kl_reduction: how the KL divergence is reduced.
        kl_weight: a factor of the KL divergence.
        seen: in which implementations, in words.
    """

    reconstruction: Reconstruction = "squared"
    reduction: Reduction = "batchmean"
    weight: float = 1.0
    kl_reduction: Reduction = "batchmean"
    kl_weight: float = 1.0
    seen: str = ""


KNOWN_LOSSES: Final[Mapping[str, LossForm]] = {
    "mse-batchmean": LossForm(seen="the squared error summed over dimensions, without the ½ of the Gaussian"),
    "mse-mean": LossForm(reduction="mean", seen="torch's mse_loss as it is, and the KL of a point"),
    "mse-mean-kl-mean": LossForm(
        reduction="mean", kl_reduction="mean", seen="means over everything in both terms, as in early Keras examples"
    ),
    "mse-mean-kl-sum": LossForm(
        reduction="mean", kl_reduction="sum", seen="torch's mse_loss as it is, and torch.sum over the whole KL"
    ),
    "mse-sum": LossForm(reduction="sum", kl_reduction="sum", seen="sums over the whole batch in both terms"),
    "half-mse-batchmean": LossForm(reconstruction="half-squared", seen="Pythae, reconstruction_loss='mse'"),
    "pytorch-vae": LossForm(
        reduction="mean", kl_weight=0.00025, seen="PyTorch-VAE (AntixK), with its default kld_weight"
    ),
    "bce-sum": LossForm(
        reconstruction="cross-entropy", reduction="sum", kl_reduction="sum", seen="the VAE of pytorch/examples"
    ),
    "bce-batchmean": LossForm(
        reconstruction="cross-entropy", seen="Keras' current VAE example; Pythae, reconstruction_loss='bce'"
    ),
    "bce-mean": LossForm(
        reconstruction="cross-entropy", reduction="mean", seen="torch's binary_cross_entropy as it is, and the KL"
    ),
    "kl-vae": LossForm(
        reconstruction="absolute", kl_weight=1e-6, seen="KL-VAEs for latent diffusion, without their other losses"
    ),
}
"""Losses of well-known implementations, by the name of their form."""


@attrs.frozen(eq=False)
class Collapse:
    """What a linear VAE with this loss makes of data.

    Args:
        eigenvalues: λ of the data's covariance, descending, shape (D,).
        survives: for each latent, whether λ_h > σ²_eff, shape (H,).
        fully_collapsed: whether the full collapse is stable, λ_max ≤ σ²_eff.
        squared_error: s² per dimension at the optimum.
    """

    eigenvalues: Array
    survives: Array
    fully_collapsed: bool
    squared_error: float


@attrs.frozen(eq=False)
class LossMeaning:
    """A loss, read as a likelihood.

    Args:
        form: of the loss.
        dimension: D.
        latent_dim: H.
        a: the factor of Σ_d of a point's error, where the loss is an average over points.
        w: the factor of Σ_h KL_h of a point.
        effective_variance: σ²_eff = w/(2a); None for other errors than squared ones.
        effective_scale: b_eff = w/a of a Laplace likelihood; None for other errors than absolute ones.
        beta: β_eff: of the likelihood with that error, where it has no scale to learn; for squared errors with the
            variance s² of the data's optimum, or None where nothing is known of the data.
        collapse: what becomes of the data's latents; None where there are no data, or the error is not squared.
    """

    form: LossForm
    dimension: int
    latent_dim: int
    a: float
    w: float
    effective_variance: float | None
    effective_scale: float | None
    beta: float | None
    collapse: Collapse | None

    def sentences(self) -> list[str]:
        """Return what it means, a sentence each."""
        found = [f"Per point the loss is {self.a:.4g} Σ_d {_ERROR[self.form.reconstruction]} + {self.w:.4g} Σ_h KL_h."]
        if self.effective_variance is not None:
            variance = self.effective_variance
            found.append(
                f"It trains a Gaussian VAE whose decoder variance is fixed at σ² = {variance:.4g} "
                f"(σ = {math.sqrt(variance):.4g} in units of the data), not learned."
            )
            found.append(f"In a linear VAE a latent survives only if its eigenvalue is above {variance:.4g}.")
        if self.effective_scale is not None:
            found.append(
                f"It trains a VAE with a Laplace likelihood whose scale is fixed at b = {self.effective_scale:.4g}."
            )
        if self.collapse is not None:
            found += self._of_data(self.collapse)
        elif self.beta is not None:
            found.append(_of_beta(self.beta, "It is the loss of a β-VAE"))
        if self.form.reduction == "mean":
            found.append(
                f"The error is a mean over {self.dimension:,} dimensions where the ELBO has a sum: "
                f"that multiplies the weight of the KL divergence by {self.dimension:,}."
            )
        if self.form.kl_reduction == "mean":
            found.append(f"The KL divergence is a mean over {self.latent_dim:,} latents where the ELBO has a sum.")
        if (self.form.reduction == "sum") != (self.form.kl_reduction == "sum"):
            found.append(
                "One term is a sum over the batch and the other a mean: what it means changes with the batch size."
            )
        return found

    def _of_data(self, collapse: Collapse) -> list[str]:
        survivors = int(collapse.survives.sum())
        largest = ", ".join(f"{value:.4g}" for value in collapse.eigenvalues[:5])
        kept = f"{survivors} of {self.latent_dim} latents survive"
        found = [f"In a linear VAE on these data {kept} (largest eigenvalues: {largest})."]
        if collapse.fully_collapsed:
            found.append(
                "No eigenvalue is above it, so the full collapse is stable: the decoder learns to ignore its latents."
            )
        if self.beta is not None:
            found.append(
                f"{_of_beta(self.beta, 'At its optimum it is the loss of a β-VAE with a learned variance')} "
                f"(mean squared error per dimension {collapse.squared_error:.4g})."
            )
        return found


_ERROR: Final = {
    "squared": "(x_d − μ_d)²",
    "half-squared": "½(x_d − μ_d)²",
    "absolute": "|x_d − μ_d|",
    "cross-entropy": "BCE(x_d, π_d)",
}


def _of_beta(beta: float, opening: str) -> str:
    much = "as the ELBO has it" if math.isclose(beta, 1, rel_tol=1e-6) else "more KL" if beta > 1 else "less KL"
    return f"{opening}, β = {beta:.4g} ({much}{'' if 'as' in much else ' than the ELBO has'})."


def form_of(loss: str | LossForm, **changes: Any) -> LossForm:
    """Return the form of a loss by name, with changes.

    Args:
        loss: one of `KNOWN_LOSSES`, or a form.
        changes: fields of `LossForm`, such as ``kl_weight=0.1``; those that are None are left as they are.

    Raises:
        ConfigError: no such loss exists, or a field has no such value.
    """
    if isinstance(loss, str):
        if loss not in KNOWN_LOSSES:
            hint = nearest(loss, KNOWN_LOSSES)
            raise ConfigError(
                f"loss: got {loss!r}{f' ({hint})' if hint else ''}; expected one of {', '.join(KNOWN_LOSSES)}"
            )
        loss = KNOWN_LOSSES[loss]
    form = attrs.evolve(loss, **{name: value for name, value in changes.items() if value is not None})
    faults = [
        f"{name}: got {getattr(form, name)!r}; expected one of {', '.join(get_args(values))}"
        for name, values in (("reconstruction", Reconstruction), ("reduction", Reduction), ("kl_reduction", Reduction))
        if getattr(form, name) not in get_args(values)
    ]
    faults += [
        f"{name}: got {getattr(form, name)!r}; expected a finite number {'≥ 0' if name == 'kl_weight' else '> 0'}"
        for name in ("weight", "kl_weight")
        if not _is_weight(getattr(form, name), zero=name == "kl_weight")
    ]
    if faults:
        raise ConfigError(faults)
    return form


def _is_weight(value: Any, *, zero: bool) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and (value >= 0 if zero else value > 0)


def explain(
    form: LossForm, dimension: int, latent_dim: int, *, batch_size: int = 1, eigenvalues: Array | None = None
) -> LossMeaning:
    """Return what a loss means.

    Args:
        form: of the loss.
        dimension: D ≥ 1.
        latent_dim: H ≥ 1.
        batch_size: B; it matters where one term is a sum over the batch and the other a mean.
        eigenvalues: λ of the data's covariance (divided by N), descending, shape (D,), if known.

    Raises:
        ConfigError: a number is not positive, or there are not D eigenvalues.
    """
    faults = [
        f"{name}: got {value!r}; expected an integer ≥ 1"
        for name, value in (("dimension", dimension), ("latent_dim", latent_dim), ("batch_size", batch_size))
        if not isinstance(value, int) or value < 1
    ]
    if eigenvalues is not None and np.shape(eigenvalues) != (dimension,):
        faults.append(f"eigenvalues: got the shape {np.shape(eigenvalues)}; expected ({dimension},), one per dimension")
    if faults:
        raise ConfigError(faults)
    a = form.weight * _factor(form.reduction, dimension, batch_size)
    w = form.kl_weight * _factor(form.kl_reduction, latent_dim, batch_size)
    a, w = (a / batch_size, w / batch_size) if form.reduction == "sum" else (a, w)  # the loss as an average over points
    a *= 0.5 if form.reconstruction == "half-squared" else 1.0
    shown = 2 * a if form.reconstruction == "half-squared" else a
    squared = form.reconstruction in ("squared", "half-squared")
    variance = w / (2 * a) if squared else None
    collapse = None
    if variance is not None and eigenvalues is not None:
        collapse = _collapse(np.asarray(eigenvalues, dtype=np.float64), latent_dim, variance)
    beta: float | None = w / a if form.reconstruction == "cross-entropy" else None
    if variance is not None and collapse is not None and collapse.squared_error > 0:
        beta = variance / collapse.squared_error
    return LossMeaning(
        form=form,
        dimension=dimension,
        latent_dim=latent_dim,
        a=shown,
        w=w,
        effective_variance=variance,
        effective_scale=w / a if form.reconstruction == "absolute" else None,
        beta=beta,
        collapse=collapse,
    )


def _factor(reduction: Reduction, length: int, batch_size: int) -> float:
    """Return by what a sum over one point's entries, averaged over the batch, is multiplied."""
    return {"batchmean": 1.0, "mean": 1 / length, "sum": float(batch_size)}[reduction]


def _collapse(eigenvalues: Array, latent_dim: int, variance: float) -> Collapse:
    """Return the optimum of a linear VAE with σ² = σ²_eff; its error is σ² along each latent that survives."""
    padded = np.zeros(max(latent_dim, len(eigenvalues)))
    padded[: len(eigenvalues)] = eigenvalues
    survives = padded[:latent_dim] > variance
    kept = int(survives.sum())
    squared_error = (kept * variance + float(eigenvalues[kept:].sum())) / len(eigenvalues)
    return Collapse(eigenvalues, survives, bool(eigenvalues[0] <= variance), squared_error)
