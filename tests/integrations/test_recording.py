from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributions as td

import elboverse
from elboverse.config import from_table
from elboverse.errors import DataError, RunFileError
from elboverse.integrations.averages import decoder_averages, latent_averages
from elboverse.integrations.decoders import decoded
from elboverse.integrations.encoders import encoded, latent_terms, seen_prior
from elboverse.runfile import Run
from elboverse.running.assembly import build_experiment
from elboverse.theory.gaussian import DiagonalGaussian


def config(dtype: str, model: str = "vae-1") -> Any:
    return from_table(
        {
            "model": {"name": model, "latent_dim": 2, "network": {"name": "mlp", "hidden": [16]}},
            "dataset": {"name": "pca", "points": 512, "held_out": 0.125},
            "training": {"epochs": 40, "batch_size": 64, "dtype": dtype, "evaluate_every": 40, "device": "cpu"},
        }
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_a_plain_loop_records_what_the_trainer_records(tmp_path: Path, dtype: str, tolerance: float) -> None:
    settings = config(dtype)
    ours = elboverse.train(settings, out=tmp_path / "ours")
    experiment = build_experiment(settings)
    loop: Any = experiment.loop
    model = initial_model(experiment)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.training.learning_rate)
    with elboverse.record(tmp_path / "theirs") as run:
        done = 0
        while done < loop.plan.total_steps:
            chunk = loop._batches.draw(done, min(16, loop.plan.total_steps - done))
            noises = iter(chunk.noise)
            for batch in chunk.x:
                x, noise = batch[0] if batch.ndim == 3 else batch, next(noises)
                noise = noise[0] if noise.ndim == 3 else noise
                q = model.encode(x)
                loss = run.loss(x, q, model.decode(q.sample(noise)), prior=model.prior())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                done += 1
    theirs = Run.open(tmp_path / "theirs")
    assert theirs.dtype == dtype
    np.testing.assert_array_equal(theirs.steps, ours.steps)
    for name in ("elbo", "log_likelihood", "decoder_entropy", "decoder_log_var", "kl", "encoder_entropy", "beta"):
        np.testing.assert_allclose(theirs.series(name), ours.series(name), rtol=tolerance, atol=tolerance, err_msg=name)


def initial_model(experiment: Any) -> Any:
    from elboverse.running.assembly import _build_model

    model = _build_model(experiment.config.model, experiment.data, experiment.config.seed)
    return model.to(getattr(torch, experiment.config.training.dtype))


def gaussian_step(seed: int = 0) -> tuple[Tensor, Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    x, mean, log_var, decoded_mean = (torch.randn(8, n, generator=generator) for n in (5, 2, 2, 5))
    return x, (mean, log_var), (decoded_mean, torch.zeros(()))


CASES: dict[str, tuple[td.Distribution, Tensor]] = {
    "normal": (td.Normal(torch.randn(8, 4), torch.rand(8, 4) + 0.1), torch.randn(8, 4)),
    "bernoulli": (td.Bernoulli(logits=torch.randn(8, 4)), torch.ones(8, 4)),
    "laplace": (td.Laplace(torch.randn(8, 4), torch.rand(8, 4) + 0.1), torch.randn(8, 4)),
    "poisson": (td.Poisson(torch.rand(8, 4) + 0.5), torch.full((8, 4), 2.0)),
    "continuous-bernoulli": (td.ContinuousBernoulli(logits=torch.randn(8, 4)), torch.rand(8, 4)),
    "log-normal": (td.LogNormal(torch.randn(8, 4), torch.rand(8, 4) + 0.1), torch.rand(8, 4) + 0.1),
    "student-t": (td.StudentT(torch.full((8, 4), 3.0), torch.randn(8, 4)), torch.randn(8, 4)),
    "exponential": (td.Exponential(torch.rand(8, 4) + 0.1), torch.rand(8, 4) + 0.1),
    "gamma": (td.Gamma(torch.rand(8, 4) + 0.5, torch.rand(8, 4) + 0.5), torch.rand(8, 4) + 0.1),
    "beta": (td.Beta(torch.rand(8, 4) + 0.5, torch.rand(8, 4) + 0.5), 0.1 + 0.8 * torch.rand(8, 4)),
    "negative-binomial": (td.NegativeBinomial(torch.full((8, 4), 3.0), logits=torch.randn(8, 4)), torch.ones(8, 4)),
    "cauchy": (td.Cauchy(torch.randn(8, 4), torch.ones(8, 4)), torch.randn(8, 4)),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_log_density_of_every_torch_distribution_is_torchs_own(name: str) -> None:
    p, x = CASES[name]
    for given in (p, td.Independent(p, 1)):
        torch.testing.assert_close(decoded(given, x).log_prob(x), p.log_prob(x).sum(-1), rtol=1e-4, atol=1e-4)


def test_images_and_sample_axes_are_summed_over_all_that_a_point_is_made_of() -> None:
    logits, x = torch.randn(3, 8, 1, 4, 4), torch.ones(8, 1, 4, 4)
    expected = td.Bernoulli(logits=logits).log_prob(x).sum((2, 3, 4))
    for given in (td.Bernoulli(logits=logits), td.Independent(td.Bernoulli(logits=logits), 3)):
        torch.testing.assert_close(decoded(given, x).log_prob(x), expected)
    mean = torch.zeros(8, 1, 4, 4)
    normal = td.Normal(mean, torch.full_like(mean, 0.5))
    torch.testing.assert_close(
        decoded((mean, torch.tensor(2 * np.log(0.5))), x).log_prob(x), normal.log_prob(x).sum((1, 2, 3))
    )


@pytest.mark.parametrize(
    ("q", "prior"),
    [
        (td.Normal(torch.randn(8, 3), torch.rand(8, 3) + 0.2), None),
        (td.Normal(torch.randn(8, 3), torch.rand(8, 3) + 0.2), td.Normal(torch.ones(3), torch.full((3,), 2.0))),
        (td.MultivariateNormal(torch.randn(8, 3), scale_tril=torch.tril(torch.rand(8, 3, 3) + 0.5)), None),
    ],
)
def test_the_kl_divergence_is_torchs_own(q: td.Distribution, prior: Any) -> None:
    posterior = encoded(q)
    terms = latent_terms(posterior, seen_prior(prior, posterior))
    normal = td.Normal(torch.zeros(3), torch.ones(3)) if prior is None else prior
    p = td.Independent(normal, 1)
    if isinstance(q, td.MultivariateNormal):
        p = td.MultivariateNormal(torch.zeros(3), torch.eye(3))
        expected = td.kl_divergence(q, p)
    else:
        expected = td.kl_divergence(td.Independent(q, 1), p)
    torch.testing.assert_close(terms.kl.sum(1), expected)


def test_latents_with_positions_are_told_per_channel() -> None:
    mean, log_var = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    terms = latent_terms(encoded((mean, log_var)), None)
    expected = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
    torch.testing.assert_close(terms.kl, expected.sum((2, 3)))
    residual = terms.prior_entropy - terms.encoder_entropy - terms.kl
    torch.testing.assert_close(residual, 0.5 * (9 - (mean.square() + log_var.exp()).sum((2, 3))))


def test_a_prior_without_a_closed_form_needs_the_samples_and_says_so(tmp_path: Path) -> None:
    x, q, p = gaussian_step()
    mixture = td.MixtureSameFamily(
        td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.randn(2, 2), torch.ones(2, 2)), 1)
    )
    with elboverse.record(tmp_path / "run") as run:
        with pytest.raises(DataError, match=r"z: got None, but KL.*MixtureSameFamily.*pass z=z"):
            run.loss(x, q, p, prior=mixture)
        z = torch.randn(8, 2)
        loss = run.loss(x, q, p, prior=mixture, z=z)
    assert torch.isfinite(loss)


def test_the_loss_is_minus_the_elbo_of_sums_over_dimensions(tmp_path: Path) -> None:
    x, (mean, log_var), (decoded_mean, _) = gaussian_step()
    with elboverse.record(tmp_path / "run") as run:
        loss = run.loss(x, (mean, log_var), (decoded_mean, torch.zeros(())), beta=1.0)
    log_likelihood = td.Normal(decoded_mean, 1.0).log_prob(x).sum(1)
    kl = td.kl_divergence(td.Normal(mean, (0.5 * log_var).exp()), td.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(loss, (kl - log_likelihood).mean())
    assert Run.open(tmp_path / "run").series("elbo")[0, 0] == pytest.approx(-float(loss), rel=1e-6)


def test_accumulated_gradients_make_one_row_and_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    x, (mean, log_var), (decoded_mean, variance) = gaussian_step()
    mean.requires_grad_()
    with elboverse.record(tmp_path / "whole") as run:
        run.loss(x, (mean, log_var), (decoded_mean, variance)).backward()
    whole, mean.grad = mean.grad, None
    with elboverse.record(tmp_path / "parts", accumulate=2) as run:
        for part in (slice(0, 4), slice(4, 8)):
            run.loss(x[part], (mean[part], log_var[part]), (decoded_mean[part], variance)).backward()
    torch.testing.assert_close(mean.grad, whole)
    one, other = Run.open(tmp_path / "whole"), Run.open(tmp_path / "parts")
    np.testing.assert_allclose(other.series("elbo"), one.series("elbo"), rtol=1e-5)


def test_half_precision_is_summed_in_float32(tmp_path: Path) -> None:
    x, (mean, log_var), (decoded_mean, variance) = gaussian_step()
    half = torch.bfloat16
    with elboverse.record(tmp_path / "run") as run, torch.autocast("cpu", dtype=half):
        loss = run.loss(x, (mean.to(half), log_var.to(half)), (decoded_mean.to(half), variance))
    assert loss.dtype == torch.float32


def test_a_step_is_recorded_from_numbers_alone(tmp_path: Path) -> None:
    _, (mean, log_var), _ = gaussian_step()
    with elboverse.record(tmp_path / "run", dimension=5) as run:
        run.step(log_likelihood=-7.5, mean=mean, log_var=log_var)
    recorded = Run.open(tmp_path / "run")
    assert recorded.series("log_likelihood")[0, 0] == -7.5
    expected = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean(0)
    np.testing.assert_allclose(recorded.series("kl")[0, 0], expected.numpy(), rtol=1e-5)


def test_a_recording_continues_from_the_users_own_checkpoint(tmp_path: Path) -> None:
    def steps(run: Any, numbers: range) -> None:
        for number in numbers:
            run.loss(*gaussian_step(number))

    with elboverse.record(tmp_path / "whole") as run:
        steps(run, range(30))
    with elboverse.record(tmp_path / "parts") as run:
        steps(run, range(20))
    with elboverse.record(tmp_path / "parts", resume=True, step=12) as run:
        steps(run, range(12, 30))
    whole, parts = Run.open(tmp_path / "whole"), Run.open(tmp_path / "parts")
    np.testing.assert_array_equal(parts.steps, whole.steps)
    np.testing.assert_array_equal(parts.series("elbo"), whole.series("elbo"))


def test_an_existing_recording_is_not_replaced_unasked(tmp_path: Path) -> None:
    with elboverse.record(tmp_path / "run") as run:
        run.loss(*gaussian_step())
    with pytest.raises(RunFileError, match=r"already exists; pass resume=True .* or overwrite=True"):
        elboverse.record(tmp_path / "run")
    with elboverse.record(tmp_path / "run", overwrite=True) as run:
        run.loss(*gaussian_step(1))
    assert len(Run.open(tmp_path / "run").steps) == 1


def test_evaluations_alone_make_a_run_file(tmp_path: Path) -> None:
    weight = torch.randn(2, 5)
    with elboverse.record(tmp_path / "run") as run:
        run.evaluate(
            lambda x: (x[:, :2], torch.zeros(len(x), 2)), lambda z: (z @ weight, torch.zeros(())), torch.randn(40, 5)
        )
    recorded = Run.open(tmp_path / "run")
    assert recorded.evaluation_points("held_out") == 40
    difference = recorded.evaluation("held_out", "elbo") - recorded.evaluation("held_out", "entropy_sum")
    np.testing.assert_allclose(recorded.evaluation("held_out", "gap"), difference, atol=1e-9)


def test_evaluating_leaves_modes_and_random_numbers_as_they_were(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.5))
    state = torch.random.get_rng_state()
    with elboverse.record(tmp_path / "run") as run:
        run.evaluate(
            lambda x: module(x).chunk(2, -1), lambda z: (z.repeat(1, 3)[:, :5], torch.zeros(())), torch.ones(8, 5)
        )
        run.evaluate(Chunked(module), lambda z: (z.repeat(1, 3)[:, :5], torch.zeros(())), torch.ones(8, 5), step=1)
    assert module.training
    assert torch.equal(torch.random.get_rng_state(), state)


class Chunked(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        assert not self.training
        return self.inner(x).chunk(2, -1)


FAULTS: dict[str, tuple[Any, str]] = {
    "shape": (
        lambda x, q, p: (x[:, :3], q, p),
        r"p: got a distribution of the shape \(8, 5\) for x of the shape \(8, 3\)",
    ),
    "points": (
        lambda x, q, p: (x, (q[0][:4], q[1][:4]), p),
        r"q: got a distribution of the shape \(4, 2\) for 8 points",
    ),
    "no-variance": (
        lambda x, q, p: (x, q[0], p),
        r"q: got a tensor, which is a mean without a variance.*\(mean, log_var\)",
    ),
    "no-likelihood": (lambda x, q, p: (x, q, p[0]), r"p: got a tensor, which is a mean without a likelihood"),
    "device": (lambda x, q, p: (x.to("meta"), q, p), r"x: is on meta while p is on cpu.*pass x\.to\('cpu'\)"),
    "logits": (
        lambda x, q, p: (x, q, td.Bernoulli(probs=5 * p[0], validate_args=False)),
        r"p: got Bernoulli probabilities from .* they look like logits, so pass Bernoulli\(logits=…\)",
    ),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_loss_that_cannot_be_says_which_argument_and_what_to_pass(tmp_path: Path, name: str) -> None:
    spoil, message = FAULTS[name]
    with elboverse.record(tmp_path / "run") as run, pytest.raises(DataError, match=message):
        run.loss(*spoil(*gaussian_step()))


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_step_with_a_fault_warns_and_lets_training_continue_unless_strict(tmp_path: Path, name: str) -> None:
    spoil, message = FAULTS[name]
    with elboverse.record(tmp_path / "run") as run, pytest.warns(RuntimeWarning, match=message):
        run.step(*spoil(*gaussian_step()))
    with elboverse.record(tmp_path / "strict", strict=True) as run, pytest.raises(DataError, match=message):
        run.step(*spoil(*gaussian_step()))


def test_what_is_not_finite_is_told_with_its_step_and_training_continues(tmp_path: Path) -> None:
    x, q, p = gaussian_step()
    run = elboverse.record(tmp_path / "run")
    for values in (x, x * float("nan"), x):
        run.loss(values, q, p)
    with pytest.warns(RuntimeWarning, match="log_likelihood is not finite at step 1"):
        run.close()
    assert len(Run.open(tmp_path / "run").steps) == 3


def recorded_loss(tmp_path: Path, weigh: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as told, elboverse.record(tmp_path / "run") as run:
        warnings.simplefilter("always")
        for number in range(100):
            x, (mean, log_var), p = gaussian_step(number)
            reconstruction = -td.Normal(p[0], 1.0).log_prob(x).sum(1).mean()
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
            run.step(x, (mean, log_var), p, loss=weigh(reconstruction, kl))
    return [str(warning.message) for warning in told]


def test_a_loss_of_means_where_sums_belong_is_recognised(tmp_path: Path) -> None:
    told = recorded_loss(tmp_path, lambda reconstruction, kl: reconstruction / 5 + kl)
    assert any("weighs the KL divergence 5 times" in text and "a mean over the 5 dimensions" in text for text in told)


def test_a_loss_with_the_wrong_sign_is_recognised(tmp_path: Path) -> None:
    assert any("sign of the ELBO" in text for text in recorded_loss(tmp_path, lambda rec, kl: -rec - kl))


def test_a_loss_that_is_minus_the_elbo_is_not_remarked_on(tmp_path: Path) -> None:
    assert recorded_loss(tmp_path, lambda reconstruction, kl: reconstruction + kl) == []


@pytest.mark.parametrize(("beta", "told"), [(0.0, "never applied"), (0.5, r"β is 0\.5 at the last step")])
def test_another_weight_than_one_is_told_at_the_end(tmp_path: Path, beta: float, told: str) -> None:
    with pytest.warns(RuntimeWarning, match=told), elboverse.record(tmp_path / "run") as run:
        run.loss(*gaussian_step(), beta=beta)


LOOP = """
import sys, torch, elboverse
torch.manual_seed(0)
x, mean, log_var = torch.randn(8, 5), torch.zeros(8, 2), torch.zeros(8, 2)
run = elboverse.record(sys.argv[1], save_every_seconds=0.0)
print("ready", flush=True)
for number in range(10**9):
    run.loss(x, (mean + number * 1e-6, log_var), (x, torch.zeros(())))
"""


def started(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "loop.py"
    script.write_text(textwrap.dedent(LOOP))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "ready\n"
    for _ in range(600):
        if (tmp_path / "run" / "run.h5").exists():
            break
        time.sleep(0.05)
    return process


def consistent_prefix(path: Path) -> int:
    with Run.open(path) as run:
        np.testing.assert_array_equal(run.steps, np.arange(len(run.steps)))
        shift = run.steps[:, None] * 1e-6
        np.testing.assert_allclose(run.series("kl").sum(-1), shift**2, atol=1e-6)
        return len(run.steps)


@pytest.mark.parametrize("delay", [0.0, 0.07, 0.21])
def test_a_killed_loop_leaves_a_file_that_is_a_prefix(tmp_path: Path, delay: float) -> None:
    process = started(tmp_path)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert consistent_prefix(tmp_path / "run") >= 1


def test_a_terminated_loop_saves_all_and_ends_by_the_signal(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    consistent_prefix(tmp_path / "run")
    assert Run.open(tmp_path / "run").status == "interrupted"


def test_our_own_gaussian_is_taken_as_it_is() -> None:
    q = DiagonalGaussian(torch.zeros(3, 2), torch.zeros(3, 2))
    assert encoded(q).is_diagonal


DECODERS: dict[str, Any] = {
    "gaussian, one variance": lambda out: (out, torch.tensor(-0.7)),
    "gaussian, a variance for each dimension": lambda out: (out, torch.linspace(-1.0, 1.0, 5)),
    "gaussian, a variance of z": lambda out: (out, 0.3 * out.flip(-1)),
    "bernoulli": lambda out: td.Bernoulli(logits=3 * out, validate_args=False),
}


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_averages_over_the_batch_are_those_of_the_points_and_have_their_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    x = (torch.rand(8, 5, generator=generator) < 0.5).double()
    out = torch.randn(3, 8, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    decoder = decoded(DECODERS[name](out), x)
    found = decoder_averages(decoder, x)
    torch.testing.assert_close(found.log_likelihood, decoder.log_prob(x).mean())
    entropy = decoder.entropy()
    assert entropy is not None
    torch.testing.assert_close(found.entropy, entropy.mean())
    expected = torch.autograd.grad(decoder.log_prob(x).mean(), out, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(found.log_likelihood, out)[0], expected)


@pytest.mark.parametrize("prior", [None, (torch.ones(3), torch.tensor([-1.0, 0.0, 1.0]))])
def test_averages_of_the_latents_are_those_of_the_points_and_have_their_gradients(prior: Any) -> None:
    mean, log_var = (torch.randn(8, 3, requires_grad=True) for _ in range(2))
    posterior = encoded((mean, log_var))
    seen = seen_prior(prior, posterior)
    found, terms = latent_averages(posterior, seen), latent_terms(posterior, seen)
    torch.testing.assert_close(found.kl, terms.kl.mean(0))
    torch.testing.assert_close(found.encoder_entropy, terms.encoder_entropy.mean(0))
    for mine, theirs in zip(
        torch.autograd.grad(found.total, [mean, log_var]),
        torch.autograd.grad(terms.kl.sum(1).mean(), [mean, log_var]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_step_adds_no_transfer_to_the_host_and_few_kernels_to_the_users_own(tmp_path: Path) -> None:
    x, mean, log_var = torch.randn(64, 5), torch.zeros(64, 2), torch.zeros(64, 2)
    with elboverse.record(tmp_path / "run") as run:
        run.loss(x, (mean, log_var), (x, torch.zeros(())))  # the values of the first step are looked at
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
            run.loss(x, (mean, log_var), (x, torch.zeros(())))
        names = [event.name for event in profiled.events()]
    assert "aten::item" not in names
    assert sum(name in {"aten::sum", "aten::mean", "aten::mv", "aten::mse_loss", "aten::exp"} for name in names) <= 8


def test_a_sink_that_is_named_follows_the_recording(tmp_path: Path) -> None:
    with elboverse.record(tmp_path / "run", sinks=["csv"]) as run:
        for number in range(5):
            run.loss(*gaussian_step(number))
    tables = list((tmp_path / "run").rglob("*.csv"))
    assert any(len(table.read_text().splitlines()) == 6 for table in tables), tables
