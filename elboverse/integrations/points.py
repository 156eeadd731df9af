"""The terms of every point of a set, for an encoder and a decoder that are any two callables."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from elboverse.contracts.records import Evaluation
from elboverse.errors import DataError, ElboverseError
from elboverse.integrations.decoders import decoded
from elboverse.integrations.encoders import (
    Posterior,
    encoded,
    latent_terms,
    prior_log_prob,
    prior_sample,
    seen_prior,
)

__all__ = ["Callables", "PointTable", "as_points", "evaluation_of", "filled", "point_table", "still"]

Array = npt.NDArray[Any]

VALUES_AT_ONCE: Final = 1 << 22
POINTS_AT_ONCE: Final = 2048
_SEED: Final = 20_100_14860


@attrs.frozen(eq=False)
class Callables:
    """A model as three callables.

    Args:
        encode: of points (B, …), gives q(z|x): anything that `encoders.encoded` takes.
        decode: of latents, gives p(x|z): anything that `decoders.decoded` takes, or a mean alone; None for a model
            without a likelihood.
        prior: p(z), or a function without arguments that returns it; None for a standard normal.
    """

    encode: Callable[[Tensor], Any]
    decode: Callable[[Tensor], Any] | None
    prior: Any = None

    def current_prior(self, like: Posterior) -> Any:
        """Return the prior as it is now."""
        is_function = callable(self.prior) and not hasattr(self.prior, "log_prob")
        return seen_prior(self.prior() if is_function else self.prior, like)

    def decoded_at(self, z: Tensor) -> Any:
        """Return what `decode` gives for latents (K, B, …): it is called with (K·B, …), as any decoder takes."""
        if self.decode is None:
            raise DataError("decode: got None; expected a callable of latents")
        with _told("decode"):
            return self.decode(z.flatten(0, 1))

    def encoded_at(self, x: Tensor) -> Posterior:
        """Return q(z|x) of points.

        Raises:
            DataError: `encode` fails, or gives something else.
        """
        try:
            with _told("encode"):
                given = self.encode(x)
        except DataError as error:
            if "device" in str(error):
                raise DataError(
                    f"data: are on {x.device}, where the encoder is not ({error}); pass data.to(device)"
                ) from error
            raise
        return encoded(given, len(x), "encode")


@attrs.frozen(eq=False)
class PointTable:
    """The terms of N points, in nats, float64; those that a model does not have are not a number.

    Args:
        log_likelihood: E_q ln p(x|z), shape (N,).
        log_reference: ln h(x), shape (N,).
        decoder_entropy: H̃_dec, shape (N,).
        decoder_log_var: ln σ², shape (N,).
        kl: shape (N, H).
        encoder_entropy: shape (N, H).
        mean: E z_h, averaged over the positions of a channel, shape (N, H).
        second_moment: E z_h², likewise, shape (N, H).
        prior_entropy: shape (H,).
        prior_log_var: shape (H,).
        replicated: whether the entropy is estimated from draws of the decoder.
        profiled_log_var: ln s², where the decoder gives a mean alone.
    """

    log_likelihood: Array
    log_reference: Array
    decoder_entropy: Array
    decoder_log_var: Array
    kl: Array
    encoder_entropy: Array
    mean: Array
    second_moment: Array
    prior_entropy: Array
    prior_log_var: Array
    replicated: bool
    profiled_log_var: float | None

    @property
    def elbo(self) -> Array:
        """Of each point, shape (N,)."""
        return np.asarray(self.log_likelihood - self.kl.sum(1))

    @property
    def decoder_residual(self) -> Array:
        """E ln p − ln h + H̃, shape (N,)."""
        return np.asarray(self.log_likelihood - self.log_reference + self.decoder_entropy)

    @property
    def prior_residual(self) -> Array:
        """H_prior − H_enc − KL, shape (N, H)."""
        return np.asarray(self.prior_entropy - self.encoder_entropy - self.kl)

    @property
    def entropy_sum(self) -> Array:
        """Shape (N,)."""
        drop = self.prior_entropy - self.encoder_entropy
        return np.asarray(self.log_reference - self.decoder_entropy - drop.sum(1))


def as_points(data: Any, argument: str = "data") -> Tensor:
    """Return points as one tensor: of a tensor, an array, or the batches of a loader (the first part of each).

    Raises:
        DataError: there are none, they are not numbers, or not all finite.
    """
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(np.ascontiguousarray(data))
    if not isinstance(data, Tensor):
        try:
            parts = [part[0] if isinstance(part, tuple | list) else part for part in data]
            data = torch.cat([torch.as_tensor(part) for part in parts])
        except (TypeError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{argument}: got a {type(data).__name__} that gives no tensors ({error}); expected a tensor or an "
                "array (points, …), or a loader of batches of them"
            ) from error
    if data.ndim < 2 or len(data) < 1:
        raise DataError(
            f"{argument}: got the shape {tuple(data.shape)}; expected (points, dimensions), at least 1 point"
        )
    data = data if data.is_floating_point() else data.to(torch.get_default_dtype())
    if not bool(torch.isfinite(data).all()):
        bad = int((~torch.isfinite(data.flatten(1)).all(1)).sum())
        raise DataError(
            f"{argument}: {bad:,} of {len(data):,} points are not finite; expected finite numbers: drop them"
        )
    return data


@contextmanager
def still(*functions: Any, seed: int = _SEED) -> Iterator[None]:
    """Without gradients, in evaluation mode where the modules can be reached, with torch's random state seeded.

    Args:
        functions: modules, methods of modules, or other callables.
        seed: of the draws inside; the state outside is as it was, afterwards.
    """
    owners = [
        function if isinstance(function, nn.Module) else getattr(function, "__self__", None) for function in functions
    ]
    modules = [part for owner in owners if isinstance(owner, nn.Module) for part in owner.modules()]
    modes = [(module, module.training) for module in modules]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def point_table(model: Callables, x: Tensor, samples: int = 8, log_var: float | None = None) -> PointTable:
    """Return the terms of each point; seeded, so that calls differ by the parameters alone.

    Args:
        model: its callables.
        x: points, shape (N, …).
        samples: K, of the latents of each point.
        log_var: ln σ² to use where the decoder gives a mean alone; by default ln s², its mean squared error.

    Raises:
        DataError: a callable returns something else than is expected.
    """
    if log_var is None and model.decode is not None:
        log_var = _profile(model, x, samples)
    at_once = max(1, min(POINTS_AT_ONCE, VALUES_AT_ONCE // (samples * x[0].numel())))
    parts: list[dict[str, Array]] = []
    replicated = False
    with still(model.encode, model.decode):
        for batch in x.split(at_once):
            part, estimated = _part(model, batch, samples, log_var)
            replicated = replicated or estimated
            parts.append(part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    count = np.array([len(part["kl"]) for part in parts]) / len(x)
    for name in ("prior_entropy", "prior_log_var"):
        joined[name] = (joined[name].reshape(len(parts), -1) * count[:, None]).sum(0)
    return PointTable(**joined, replicated=replicated, profiled_log_var=log_var)


def _part(model: Callables, x: Tensor, samples: int, log_var: float | None) -> tuple[dict[str, Array], bool]:
    q = model.encoded_at(x)
    prior = model.current_prior(q)
    z = q.sample(samples)
    terms = latent_terms(q, prior, z, _sampled_entropy(prior, q))
    mean, variance = q.moments()
    nothing = np.full(len(x), np.nan)
    found = {
        **dict.fromkeys(("log_likelihood", "decoder_entropy", "decoder_log_var"), nothing),
        "log_reference": np.zeros(len(x)),
        "kl": _numpy(terms.kl),
        "encoder_entropy": _numpy(terms.encoder_entropy),
        "mean": _numpy(mean.flatten(2).mean(-1) if mean.ndim > 2 else mean),
        "second_moment": _numpy(_average(mean.square() + variance)),
        "prior_entropy": _numpy(terms.prior_entropy),
        "prior_log_var": _numpy(terms.prior_log_var),
    }
    if model.decode is None:
        return found, False
    repeated = x.repeat(samples, *[1] * (x.ndim - 1))
    p = filled(model.decoded_at(z), log_var)
    decoder = decoded(p, repeated, "decode")
    entropy = decoder.entropy()
    replicated = entropy is None
    if entropy is None:
        entropy = -decoder.log_prob(decoder.sample())
    found |= {
        "log_likelihood": _over_samples(decoder.log_prob(repeated), samples),
        "log_reference": _over_samples(decoder.log_reference(repeated), samples),
        "decoder_entropy": _over_samples(entropy, samples),
    }
    if decoder.log_var is not None:
        wide = decoder.log_var if decoder.log_var.ndim > 1 else decoder.log_var.mean().expand(len(repeated), 1)
        found["decoder_log_var"] = _over_samples(wide.flatten(1).mean(1), samples)
    return found, replicated


def evaluation_of(table: PointTable, split: str, step: int, epoch: int = 0) -> Evaluation:
    """Return what a run file keeps of the terms: averages and standard errors, for one replica.

    Args:
        table: of the points.
        split: what they are, ``"train"`` or ``"held_out"``.
        step: number of updates done.
        epoch: number of passes done.
    """
    per_point = {
        "elbo": table.elbo,
        "entropy_sum": table.entropy_sum,
        "decoder_residual": table.decoder_residual,
        "prior_residual": table.prior_residual,
        "gap": table.elbo - table.entropy_sum,
    }
    count = len(table.kl)
    found = {name: values.mean(0) for name, values in per_point.items()}
    for name, values in per_point.items():
        found[f"{name}_standard_error"] = values.std(0) / math.sqrt(max(1, count - 1))
    found |= {
        name: getattr(table, name).mean(0)
        for name in ("log_likelihood", "decoder_entropy", "decoder_log_var", "kl", "encoder_entropy")
    }
    found |= {"prior_entropy": table.prior_entropy, "mean_variance": table.mean.var(0)}
    if table.log_reference.any():
        found["log_reference"] = table.log_reference.mean()
    del found["entropy_sum"]  # it follows from the entropies
    return Evaluation(
        split=split,
        step=step,
        epoch=epoch,
        points=count,
        scalars={name: np.array([value], dtype=np.float64) for name, value in found.items() if np.ndim(value) == 0},
        per_latent={name: np.asarray(value, dtype=np.float64)[None] for name, value in found.items() if np.ndim(value)},
    )


def _profile(model: Callables, x: Tensor, samples: int) -> float | None:
    """Return ln s², the mean squared error per dimension, of a decoder that gives a mean alone; None of any other."""
    total, count = 0.0, 0
    at_once = max(1, min(POINTS_AT_ONCE, VALUES_AT_ONCE // (samples * x[0].numel())))
    with still(model.encode, model.decode):
        for batch in x.split(at_once):
            p = model.decoded_at(model.encoded_at(batch).sample(samples))
            if not isinstance(p, Tensor):
                return None
            repeated = batch.repeat(samples, *[1] * (batch.ndim - 1))
            if p.shape != repeated.shape:
                raise DataError(
                    f"decode: got a mean of the shape {tuple(p.shape)} for {len(p)} latents; expected "
                    f"{tuple(repeated.shape)}: return means of the shape of the points"
                )
            total += float((p - repeated).double().square().sum())
            count += p.numel()
    return math.log(max(total / count, 1e-300))


def filled(p: Any, log_var: float | None) -> Any:
    """Return what a decoder gave, with a variance where it is a mean alone."""
    return (
        (p, torch.full((), log_var, dtype=p.dtype, device=p.device))
        if isinstance(p, Tensor) and log_var is not None
        else p
    )


@contextmanager
def _told(argument: str) -> Iterator[None]:
    """Name the callable that fails, with the line of its own code."""
    try:
        yield
    except ElboverseError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename != __file__ and "/torch/" not in frame.filename]
        where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise DataError(f"{argument}: raised {type(error).__name__}: {error}{where}") from error


def _sampled_entropy(prior: Any, q: Posterior) -> Tensor | None:
    """Return the entropy of a prior that does not know its own, estimated from 4,096 draws; None of any other."""
    if prior is None:
        return None
    if not hasattr(prior, "entropy") and not isinstance(prior, torch.distributions.Distribution):
        drawn = prior_sample(prior, (4096, q.latent_dim), q.mean)
        sampled: Tensor = -prior_log_prob(prior, drawn[None]).mean()
        return sampled
    if hasattr(prior, "cross_entropy") or type(prior).__module__.startswith("elboverse"):
        return None
    try:
        found: Tensor = prior.entropy().sum()
    except (NotImplementedError, AttributeError):
        drawn = prior.sample((4096,))
        return (
            -prior.log_prob(drawn).flatten(1).sum(-1).mean()
            if drawn.ndim > 1
            else -prior.log_prob(drawn).mean() * q.latent_dim
        )
    batch = prior.batch_shape.numel() if hasattr(prior, "batch_shape") else 1
    return found if batch > 1 or q.latent_dim == 1 or getattr(prior, "event_shape", ()) else found * q.latent_dim


def _average(values: Tensor) -> Tensor:
    return values.flatten(2).mean(-1) if values.ndim > 2 else values


def _over_samples(values: Tensor, samples: int) -> Array:
    return _numpy(values.reshape(samples, -1).double().mean(0))


def _numpy(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().cpu().numpy()
    return found
