"""The objective over all training points, with its gradient: what a polish climbs and a certificate looks at.

A mini-batch step never sees the objective itself. Here all points of one replica go through its model, in parts that
fit the memory, in float64 and in evaluation mode, with noise that follows from a label: the same label is the same
objective (common random numbers), another one is an independent look at it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from elboverse.contracts import Constrainable, Model, Penalty, Projection, SamplingFree
from elboverse.seeding import generator
from elboverse.theory.elbo import Terms, closed_form, moments, point_terms, terms_of
from elboverse.theory.identities import LOG_VAR_FLOOR
from elboverse.training.averages import Averages, averaged
from elboverse.training.curvature import ObjectiveModule, hessian_of
from elboverse.training.intake import Intake

__all__ = ["FullBatch", "objectives"]

_VALUES_AT_ONCE: Final = 1 << 21
"""How many values, points times samples times dimensions, go through the decoder together."""

MOST_PRECONDITIONED: Final = 1500
"""How many parameters a model may have for its Hessian to be worked out."""

FEWEST_SAMPLES: Final = 1 << 14
"""Points times samples that a full-batch objective has at least, where it is sampled."""

FEWEST_CLOSED_FORMS: Final = 8
MOST_CLOSED_FORMS: Final = 128
"""Over how many sets of samples closed-form variances are averaged, where they are to be precise."""

RESTARTED_LOG_VAR: Final = -3.0
"""ln τ² of a latent that is begun anew."""

CURVATURE_POINTS: Final = 2048
"""How many points the Hessian is taken over."""


class FullBatch:
    """The objective mean_n [E ln p(x|z) − β Σ_h KL_h] − penalty of one model, over all training points.

    Args:
        model: a copy that nothing else uses; it is converted to float64, and all its parameters are free, those with a
            closed form too.
        points: of one replica, shape (N, D), as the dataset holds them.
        intake: their way to the model, in float64.
        seed: of the replica.
        samples: Monte-Carlo samples per point in one evaluation; ignored by a model that needs none.
        beta: the KL weight that training ended with.
        constraint: the weight constraint, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Tensor,
        intake: Intake,
        seed: int,
        samples: int,
        beta: float,
        constraint: Projection | Penalty | None = None,
    ) -> None:
        self.model = cast(Model, model.double().requires_grad_(True))
        self.model.eval()
        self.seed = seed
        self.beta = beta
        self.is_exact = isinstance(model, SamplingFree)
        self.samples = 0 if self.is_exact else samples
        self.count = len(points)
        self._points = points
        self._intake = intake
        self._named = dict(self.model.named_parameters())
        self._projection = constraint if isinstance(constraint, Projection) else None
        self._penalty = constraint if isinstance(constraint, Penalty) else None
        is_constrained = constraint is not None and isinstance(model, Constrainable)
        self._constrained = cast(Constrainable, model).constrained_weight() if is_constrained else None
        names = self.model.variance_parameters()
        self._sigma: Tensor | None = None
        self._floored = (names.decoder,) if names.decoder is not None else ()

    @property
    def latent_dim(self) -> int:
        """H."""
        return len(self.model.prior().log_var)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._points.shape[-1])

    @property
    def learns_decoder_variance(self) -> bool:
        """Whether σ², or a head that shapes it, is a parameter, so that R_σ must vanish."""
        prior = self.model.prior()
        decoder = self.model.decode(prior.mean.new_zeros(1, self.latent_dim))
        return bool(decoder.log_var.requires_grad)

    @property
    def variance_depends_on_z(self) -> bool:
        """Whether Σ is a function of the latents, as that of vae-3 is."""
        prior = self.model.prior()
        return self.model.decode(prior.mean.new_zeros(2, self.latent_dim)).log_var.ndim > 1

    def load(self, tensors: Mapping[str, Any]) -> Tensor:
        """Take over parameters and buffers, by name, and return the parameters in one vector, shape (P,)."""
        with torch.no_grad():
            for name, own in self.model.state_dict(keep_vars=True).items():
                own.copy_(torch.as_tensor(tensors[name]))
        return torch.cat([parameter.detach().flatten() for parameter in self._named.values()])

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the parameters of a vector by name, as the model has them: projected and at their floor at least."""
        self._place(theta)
        return {name: parameter.detach().clone() for name, parameter in self._named.items()}

    def value_and_gradient(self, theta: Tensor, *label: str | int) -> tuple[Tensor, Tensor, Averages]:
        """Return minus the objective, its gradient, shape (P,), and the terms.

        Args:
            theta: parameters, shape (P,).
            label: of the noise.
        """
        weight = self._place(theta)
        parameters = list(self._named.values())
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        parts: list[tuple[int, Terms]] = []
        total = theta.new_zeros(())
        for x, noise in self._batches(*label):
            terms = terms_of(moments(self.model, x, noise, average_points=True))
            loss = -(terms.log_likelihood - self.beta * terms.kl.sum()) * (len(x) / self.count)
            self._add(gradients, loss, parameters)
            total = total + loss.detach()
            parts.append((len(x), terms))
        if self._penalty is not None and self._constrained is not None:
            penalty = self._penalty.penalty(self._named[self._constrained])
            self._add(gradients, penalty, parameters)
            total = total + penalty.detach()
        return total, self._pulled_back(theta, gradients, weight), averaged(parts, self.count)

    def scale(self, theta: Tensor) -> Tensor | None:
        """Return C with C Cᵀ = |H|⁻¹, H the Hessian over some points, shape (P, P); None for many parameters.

        In the coordinates φ of θ = θ₀ + C φ the objective curves alike in all directions, rotations of the latents
        included, which are what first-order steps are slowest at.

        Args:
            theta: θ₀, shape (P,).
        """
        if len(theta) > MOST_PRECONDITIONED:
            return None
        self._place(theta)
        x, noise = (
            (self._sigma_points(), None)
            if self.is_exact
            else next(self._batches("scale", size=max(64, CURVATURE_POINTS // max(1, self.samples))))
        )
        names = list(self._named)
        sizes = [parameter.numel() for parameter in self._named.values()]
        bound = ObjectiveModule(cast(nn.Module, self.model), self.beta)

        def objective(flat: Tensor) -> Tensor:
            pieces = zip(names, flat.split(sizes), self._named.values(), strict=True)
            state = {f"model.{name}": piece.view_as(like) for name, piece, like in pieces}
            return cast(Tensor, functional_call(bound, state, (x, noise)))

        flat = torch.cat([parameter.detach().flatten() for parameter in self._named.values()])
        hessian = hessian_of(objective, flat)
        eigenvalues, axes = torch.linalg.eigh(0.5 * (hessian + hessian.T))
        sizes_of = eigenvalues.abs()
        return cast(Tensor, axes * sizes_of.clamp_min(1e-9 * float(sizes_of.max())).rsqrt())

    def residual_draws(self, theta: Tensor, *label: str | int) -> npt.NDArray[np.float64]:
        """Return the means of R_dec, R_h and the ELBO, and their Monte-Carlo variances, shape (2, 2 + H).

        Each point gets two independent sets of samples; half their squared difference estimates the variance.
        """
        self._place(theta)
        total = np.zeros(2 + self.latent_dim)
        variance = np.zeros(2 + self.latent_dim)
        with torch.no_grad():
            for (x, one), (_, other) in zip(self._batches(*label, "one"), self._batches(*label, "other"), strict=True):
                first = self._columns(x, one)
                second = first if self.is_exact else self._columns(x, other)
                total += (0.5 * (first + second)).sum(0).numpy()
                variance += (0.25 * (first - second).square()).sum(0).numpy()
        return np.stack([total / self.count, variance / self.count**2])

    def paired_gain(self, before: Tensor, after: Tensor, *label: str | int) -> tuple[float, float]:
        """Return by how much the objective rose, and the standard error of the samples, which both points share.

        Steps that fit the samples they are taken with gain nothing on these, those of another label. The error is that
        of the differences: common samples cancel what the two have in common.

        Args:
            before: parameters, shape (P,).
            after: the same.
            label: of the noise.
        """
        points: list[list[Tensor]] = []
        penalty = []
        for theta in (before, after):
            self._place(theta)
            with torch.no_grad():
                points.append([self._objective_of(x, noise) for x, noise in self._batches(*label)])
                cost = 0.0
                if self._penalty is not None and self._constrained is not None:
                    cost = float(self._penalty.penalty(self._named[self._constrained]))
                penalty.append(cost)
        rise = torch.cat(points[1]) - torch.cat(points[0])
        error = 0.0 if self.is_exact else float(rise.std()) / max(1, len(rise) - 1) ** 0.5
        return float(rise.mean()) - penalty[1] + penalty[0], error

    def restarted(self, theta: Tensor, latents: Sequence[int]) -> Tensor:
        """Return parameters with some latents begun anew, and a decoder variance that leaves them something to explain.

        The encoder mean's weights and the column of the decoder's first linear layer are drawn again, ln τ² starts low,
        and σ² is lowered by e³. Where the model does not say which parameters those are, all get a little noise.

        Args:
            theta: parameters, shape (P,).
            latents: which, counted from 0.
        """
        self._place(theta)
        stream = generator(self.seed, "restart", int(1000 * float(theta.abs().sum())) % 1_000_003)
        model = cast(nn.Module, self.model)
        head = getattr(model, "encoder_head", None) or getattr(model, "encoder", None)
        names = self.model.variance_parameters()
        with torch.no_grad():
            if isinstance(head, nn.Linear) and isinstance(model, Constrainable):
                column = self._named[model.constrained_weight()]
                for latent in latents:
                    weights = torch.randn(head.in_features, generator=stream, dtype=torch.float64)
                    head.weight[latent] = weights / head.in_features**0.5
                    head.bias[latent] = 0.0
                    drawn = torch.randn(len(column), generator=stream, dtype=torch.float64)
                    column[:, latent] = drawn / self.latent_dim**0.5
                    if head.out_features == 2 * self.latent_dim:
                        head.weight[self.latent_dim + latent] = 0.0
                        head.bias[self.latent_dim + latent] = RESTARTED_LOG_VAR
                    elif "encoder_log_var" in self._named:
                        self._named["encoder_log_var"][latent] = RESTARTED_LOG_VAR
            else:
                for parameter in self._named.values():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream, dtype=torch.float64))
            if names.decoder is not None:
                self._named[names.decoder].sub_(3.0).clamp_min_(LOG_VAR_FLOOR)
        return torch.cat([parameter.detach().flatten() for parameter in self._named.values()])

    def explained(self, theta: Tensor) -> float:
        """Return 1 − Σ ‖x − μ(ν(x))‖² / Σ ‖x − x̄‖², the share of the variance that the decoder means explain."""
        self._place(theta)
        rest, total, mean = 0.0, 0.0, self.mean()
        with torch.no_grad():
            for x, _ in self._batches("explained", noisy=False):
                decoded = self.model.decode(self.model.encode(x).mean).mean
                rest += float((x - decoded).square().sum())
                total += float((x - mean).square().sum())
        return 1.0 - rest / total if total > 0 else 0.0

    def mean(self) -> Tensor:
        """Return x̄, shape (D,)."""
        total = sum(x.sum(0) for x, _ in self._batches("mean", noisy=False))
        return cast(Tensor, total) / self.count

    def covariance(self, theta: Tensor | None = None) -> npt.NDArray[np.float64]:
        """Return the second moments of x − x̄, or, at parameters, of the errors x − μ(ν(x)), shape (D, D)."""
        mean = self.mean()
        if theta is not None:
            self._place(theta)
        total = torch.zeros(len(mean), len(mean), dtype=mean.dtype)
        with torch.no_grad():
            for x, _ in self._batches("covariance", noisy=False):
                error = x - (mean if theta is None else self.model.decode(self.model.encode(x).mean).mean)
                total += error.T @ error
        return cast(npt.NDArray[np.float64], (total / self.count).numpy())

    def with_closed_form(self, theta: Tensor, *label: str | int, within: float | None = None) -> Tensor:
        """Return the parameters with σ² = s² and α²_h = m_h over all points, where the model has these.

        Args:
            theta: parameters, shape (P,).
            label: of the noise.
            within: draw samples until the relative standard error of each is at most this; None draws them once.
        """
        self._place(theta)
        sums = self._closed_forms(*label)
        draws = [sums]
        while within is not None and not self.is_exact and sums and len(draws) < MOST_CLOSED_FORMS:
            draws.append(self._closed_forms(*label, len(draws)))
            if len(draws) >= FEWEST_CLOSED_FORMS:
                found = {name: torch.stack([draw[name] for draw in draws]) for name in sums}
                errors = [float((each.std(0) / each.mean(0)).max()) / len(draws) ** 0.5 for each in found.values()]
                if max(errors) <= within:
                    break
        with torch.no_grad():
            for name in sums:
                mean = torch.stack([draw[name] for draw in draws]).mean(0)
                self._named[name].copy_(mean.log().clamp_min(LOG_VAR_FLOOR))
        return torch.cat([parameter.detach().flatten() for parameter in self._named.values()])

    def _closed_forms(self, *label: str | int) -> dict[str, Tensor]:
        """Return the closed-form variances over all points by name, at the parameters that are placed."""
        names = self.model.variance_parameters()
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for x, noise in self._batches(*label):
                optimum = closed_form(self.model, moments(self.model, x, noise, average_points=True))
                for name, value in ((names.decoder, optimum.decoder), (names.prior, optimum.prior)):
                    if name is not None and value is not None:
                        sums[name] = sums.get(name, torch.zeros_like(value)) + value.exp() * (len(x) / self.count)
        return sums

    def terms(self, theta: Tensor, *label: str | int) -> Averages:
        """Return the terms at some parameters.

        Args:
            theta: parameters, shape (P,).
            label: of the noise.
        """
        self._place(theta)
        with torch.no_grad():
            parts = [
                (len(x), terms_of(moments(self.model, x, noise, average_points=True)))
                for x, noise in self._batches(*label)
            ]
        return averaged(parts, self.count)

    def _sigma_points(self) -> Tensor:
        """Return x̄ ± √(D λ_i) u_i, which have the mean and the covariance of the points, shape (2D, D).

        The objective of a linear model depends on the points through these two alone.
        """
        if self._sigma is None:
            mean, covariance = self.mean(), torch.from_numpy(self.covariance())
            eigenvalues, axes = torch.linalg.eigh(covariance)
            spread = (axes * (len(mean) * eigenvalues.clamp_min(0)).sqrt()).T
            self._sigma = torch.cat((mean + spread, mean - spread))
        return self._sigma

    def _objective_of(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Return ln p(x|z) − β Σ_h KL_h of each point, averaged over its samples, shape (B,)."""
        terms = point_terms(self.model, x, noise)
        return (terms.log_likelihood - self.beta * terms.kl.sum(-1)).expand(len(x))

    def _columns(self, x: Tensor, noise: Tensor | None) -> Tensor:
        terms = point_terms(self.model, x, noise)
        prior = terms.prior_residual
        decoder = terms.decoder_residual.expand(len(x)).unsqueeze(-1)
        return torch.cat((decoder, prior.expand(len(x), -1), terms.elbo.expand(len(x)).unsqueeze(-1)), dim=-1)

    def _batches(
        self, *label: str | int, noisy: bool = True, size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        values = self._points.shape[-1] * max(1, self.samples if noisy else 1)
        size = size or max(64, min(16_384, _VALUES_AT_ONCE // values))
        for number, stored in enumerate(self._points.split(size)):
            x = self._intake(stored).double()
            if self.is_exact or not noisy:
                yield x, None
                continue
            stream = generator(self.seed, "full batch", *label, number, device=x.device)
            shape = (self.samples, len(x), self.latent_dim)
            yield x, torch.randn(shape, generator=stream, dtype=torch.float64, device=x.device)

    def _place(self, theta: Tensor) -> Tensor | None:
        """Put parameters into the model; return the unprojected weight with its graph, if there is a projection."""
        with torch.no_grad():
            pieces = theta.split([parameter.numel() for parameter in self._named.values()])
            for (name, parameter), piece in zip(self._named.items(), pieces, strict=True):
                parameter.copy_(piece.view_as(parameter))
                if name in self._floored:
                    parameter.clamp_min_(LOG_VAR_FLOOR)
        if self._projection is None or self._constrained is None:
            return None
        raw = self._named[self._constrained].detach().clone().requires_grad_(True)
        projected = self._projection.project(raw)
        with torch.no_grad():
            self._named[self._constrained].copy_(projected)
        return raw

    def _pulled_back(self, theta: Tensor, gradients: Sequence[Tensor], raw: Tensor | None) -> Tensor:
        found = list(gradients)
        for index, (name, parameter) in enumerate(self._named.items()):
            if raw is not None and name == self._constrained:
                assert self._projection is not None  # noqa: S101 - for the type checker
                (found[index],) = torch.autograd.grad(self._projection.project(raw), raw, found[index])
            if name in self._floored:
                at_floor = (parameter.detach() <= LOG_VAR_FLOOR) & (found[index] > 0)
                found[index] = found[index].masked_fill(at_floor, 0.0)
        return torch.cat([gradient.flatten() for gradient in found]).to(theta)

    @staticmethod
    def _add(gradients: list[Tensor], value: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        for total, gradient in zip(gradients, found, strict=True):
            if gradient is not None:
                total.add_(gradient)


def objectives(
    template: nn.Module,
    points: Sequence[Tensor],
    intake: Intake,
    seeds: Sequence[int],
    samples: int,
    beta: float,
    constraint: Projection | Penalty | None,
) -> Callable[[int], FullBatch]:
    """Return what gives the full-batch objective of a replica, by its number.

    Args:
        template: a model that is copied.
        points: of each replica.
        intake: as of `FullBatch`.
        seeds: of each replica.
        samples: per point, or more where there are few points.
        beta: as of `FullBatch`.
        constraint: as of `FullBatch`.
    """

    def objective(replica: int) -> FullBatch:
        own = points[replica]
        enough = max(samples, -(-FEWEST_SAMPLES // len(own)))
        return FullBatch(copy.deepcopy(template), own, intake, seeds[replica], enough, beta, constraint)

    return objective
