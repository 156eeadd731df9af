"""A run's family: whether its data fit the likelihood, what its rows hold, and what the run file says about it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from elboverse.components.parts import require_terms
from elboverse.components.registry import Selection
from elboverse.config import ExperimentConfig
from elboverse.contracts import Data, Likelihood, SamplingFree
from elboverse.contracts.records import GAUSSIAN_LAYOUT, FamilyLayout, Layout
from elboverse.data.check import findings
from elboverse.data.reading import Finding
from elboverse.data.support import require_support
from elboverse.errors import ConfigError
from elboverse.runfile import schema
from elboverse.theory import families
from elboverse.theory.families import Family
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.training.family_gradients import ELBO, Objective
from elboverse.training.without_latents import (
    MOST_POINTS,
    gaussian_without_latents,
    log_likelihood_without_latents,
)
from elboverse.warning import warn

__all__ = ["checked_fit", "describe_family", "findings_of", "layout_of", "objective_of", "require_fitting"]

MOST_REPLICAS: Final = 8
"""Of how many replicas the model without latents is fitted; each costs up to a second."""


def layout_of(family: Family, objective: Objective = ELBO) -> Layout:
    """Return what the columns of a row are for a family and what is maximised."""
    if family.gaussian and objective == ELBO:
        return GAUSSIAN_LAYOUT
    return FamilyLayout(
        extra=objective.series,
        decoder_has_entropy=family.decoder_has_entropy,
        prior_has_entropy=family.prior_has_entropy,
    )


def objective_of(config: ExperimentConfig, model: Any, x: Tensor) -> Objective:
    """Return what a config maximises: the ELBO, or more.

    Args:
        config: the run's.
        model: any; one with a method ``extra(x, q, z)`` regularises itself.
        x: points as the model sees them, at least two.

    Raises:
        ConfigError: the model's ELBO needs no samples, or its encoder no density, so that it cannot be maximised so.
        PluginError: a regulariser breaks its contract.
    """
    components = [selection.build() for selection in config.regularisers]
    extras: list[tuple[str, Any]] = [
        (str(selection.registered), one) for selection, one in zip(config.regularisers, components, strict=True)
    ]
    if callable(getattr(model, "extra", None)):
        extras.append((str(config.model.registered), model))
    training = config.training
    weighted = training.objective == "importance-weighted"
    own = callable(getattr(model, "objective", None))
    if own:
        _require_own_alone(config)
    if not extras and not weighted and not own and training.free_bits == 0:
        return ELBO
    if isinstance(model, SamplingFree):
        raise ConfigError(
            f"training: got an objective beside the ELBO for model {config.model.name!r}, whose ELBO is exact and "
            'needs no samples; expected objective = "elbo", free_bits = 0 and no regulariser'
        )
    training_mode = model.training
    model.eval()
    with torch.no_grad():
        found = families.latents(
            model, x, torch.zeros(len(x), families.latent_dim(model), dtype=x.dtype, device=x.device)
        )
    model.train(training_mode)
    if weighted and not hasattr(found.encoder, "log_prob"):
        raise ConfigError(
            f'training.objective: got "importance-weighted"; expected "elbo", since {type(found.encoder).__name__} '
            "offers no log_prob"
        )
    names: list[str] = []
    for who, one in extras:
        points = families.observed(model, x).clone()

        with torch.no_grad():
            names += require_terms(one, points, found.encoder, found.z.clone(), who, partial(_is_taken, names))

    own_terms = callable(getattr(model, "extra", None))

    def regularise(present: Any, points: Tensor, q: Any, z: Tensor) -> Mapping[str, Tensor]:
        terms = {name: term for one in components for name, term in one.extra(points, q, z).items()}  # noqa: S610 - no SQL
        return {**terms, **present.extra(points, q, z)} if own_terms else terms  # noqa: S610 - no SQL

    return Objective(
        free_bits=training.free_bits,
        importance_weighted=weighted,
        own=own,
        regulariser=regularise if extras else None,
        names=tuple(names),
    )


def _is_taken(names: Sequence[str], name: str) -> bool:
    """Return whether a name cannot be that of a further series."""
    return not schema.is_name(name) or name in schema.UNITS or name in names


def _require_own_alone(config: ExperimentConfig) -> None:
    for key, given, expected in (
        ("objective", config.training.objective, "elbo"),
        ("free_bits", config.training.free_bits, 0.0),
    ):
        if given != expected:
            raise ConfigError(
                f"training.{key}: got {given!r}; expected {expected!r}, since model {config.model.name!r} has an "
                "objective of its own"
            )


def require_fitting(parts: Sequence[Data], model: Any, config: ExperimentConfig) -> None:
    """Check that the data of every replica are what the model's likelihood is defined on; warn of what endangers it.

    Args:
        parts: the data of each replica.
        model: any; one that does not say what its likelihood is is taken for a Gaussian.
        config: the run's.

    Raises:
        DataError: a value is not.
    """
    likelihood = getattr(model, "likelihood", None)
    known = likelihood if isinstance(likelihood, Likelihood) else None
    who = f"{config.dataset.registered.kind} {config.dataset.name!r}"
    beyond = 0
    if known is not None:
        for data in {id(part): part for part in parts}.values():
            beyond = max(beyond, require_support(data, known.support, *_named(known, config), _groups(known)))
    for finding in findings_of(parts[0], known, beyond):
        # Grey values of images are all whole numbers; that is said by `data info`, and no news in training.
        if finding.doubtful:
            warn(f"{who}: {finding.text}")


def checked_fit(config: ExperimentConfig, data: Data) -> list[Finding]:
    """Return what a config's likelihood makes of its data, without building the model.

    Raises:
        DataError: a value is none that the likelihood is defined on.
    """
    chosen = getattr(config.model.options, "likelihood", None)
    if not isinstance(chosen, Selection):
        return findings(data, "real")
    likelihood = chosen.build(data.shape)
    beyond = require_support(data, likelihood.support, *_named(likelihood, config), _groups(likelihood))
    return findings_of(data, likelihood, beyond)


def findings_of(data: Data, likelihood: Likelihood | None, beyond: int) -> list[Finding]:
    """Return what is to be said of data under a likelihood, None for a Gaussian one.

    Args:
        data: the points.
        likelihood: of the model.
        beyond: how many held-out values lie beyond the range of the training data.
    """
    found = findings(data, "real" if likelihood is None else likelihood.support)
    if beyond:
        found.append(
            Finding(
                "range",
                f"{beyond:,} held-out values lie beyond the range of the training data and are taken as its ends: "
                "the likelihood is defined on [0, 1] alone",
                doubtful=True,
            )
        )
    return found


def _named(likelihood: Likelihood, config: ExperimentConfig) -> tuple[str, str]:
    """Return what messages call the likelihood and the dataset."""
    chosen = getattr(config.model.options, "likelihood", None)
    name = chosen.name if isinstance(chosen, Selection) else type(likelihood).__name__
    return name, f"{config.dataset.registered.kind} {config.dataset.name!r}"


def _groups(likelihood: Likelihood) -> int:
    return int(getattr(likelihood, "categories", 0))


def describe_family(model: Any, family: Family, parts: Sequence[Data]) -> dict[str, Any]:
    """Return what a model's distributions are, and where theory ends, as a document of the run file.

    Args:
        model: any.
        family: of `theory.families.described`.
        parts: the data of each replica; the model without latents is fitted to them.
    """
    theorem = getattr(model, "theorem", None)
    if not isinstance(theorem, Mapping):
        unknown = "" if family.gaussian else "this model does not say whether its residuals vanish at stationary points"
        theorem = {"decoder": unknown, "prior": unknown}
    if callable(getattr(model, "objective", None)):
        theorem = dict.fromkeys(("decoder", "prior"), "the model is trained by an objective of its own, not the ELBO")
    return {
        **attrs.asdict(family),
        "theorem": dict(theorem),
        "by_dimension": bool(getattr(getattr(model, "likelihood", model), "by_dimension", False)),
        **_without_latents(model, parts, gaussian=family.gaussian),
    }


def _fit_without_latents(model: Any, dimension: int, *, gaussian: bool) -> Callable[..., list[float]] | None:
    """Return what fits the model without latents: (training points, others …) → log-likelihoods; None where unknown."""
    likelihood = getattr(model, "likelihood", None)
    if isinstance(likelihood, Likelihood):
        constant = _constant(likelihood, dimension)
        if not isinstance(constant, DiagonalGaussian):
            return functools.partial(log_likelihood_without_latents, likelihood)
        log_var = constant.log_var
        first = log_var if log_var.ndim < 2 else log_var[0]
        return functools.partial(gaussian_without_latents, first, log_var.requires_grad)
    if not gaussian:
        return None
    training = model.training
    model.eval()
    log_var = model.decode(model.prior().mean.new_zeros(2, families.latent_dim(model))).log_var
    model.train(training)
    return functools.partial(gaussian_without_latents, log_var, log_var.requires_grad)


def _constant(likelihood: Any, dimension: int) -> Any:
    """Return p(x|z) of a likelihood for outputs that are all 0, as if they were learned."""
    like = next(likelihood.parameters(), torch.zeros(()))
    outputs = torch.zeros(likelihood.outputs, 1, dimension, device=like.device, dtype=like.dtype, requires_grad=True)
    return likelihood(outputs.unbind(0))


def _without_latents(model: Any, parts: Sequence[Data], *, gaussian: bool) -> dict[str, Any]:
    """Return ELBO_0 of the first few replicas by split, where the likelihood is one that can be fitted by itself."""
    fit = _fit_without_latents(model, parts[0].dimension, gaussian=gaussian)
    if fit is None or parts[0].stream is not None:
        return {}
    by_data: dict[int, list[float]] = {}
    for data in parts[:MOST_REPLICAS]:
        if id(data) not in by_data:
            some = [part[:MOST_POINTS] for part in (data.train, data.held_out) if len(part)]
            by_data[id(data)] = fit(*(data.scaled(part) for part in some))
    values = [by_data[id(data)] for data in parts[:MOST_REPLICAS]]
    named = {split: list(found) for split, found in zip(("train", "held_out"), zip(*values, strict=True), strict=False)}
    return {"without_latents": {split: found for split, found in named.items() if all(map(math.isfinite, found))}}
