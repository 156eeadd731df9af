"""What the analyses say of other families than the Gaussian: by dimension, without latents, and where theory ends."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import built_ins
from support.family_runs import command
from torch.distributions import Bernoulli, Laplace, Poisson

import elboverse
from elboverse.config import from_table
from elboverse.runfile import Run
from elboverse.running.runs import train
from elboverse.training.without_latents import gaussian_without_latents, log_likelihood_without_latents


def trained(folder: Path, model: dict[str, Any], likelihood: dict[str, Any], **training: Any) -> Run:
    settings = {
        "model": {"latent_dim": 1, "network": {"name": "mlp", "hidden": [8]}} | model,
        "dataset": {"name": "family", "likelihood": likelihood, "points": 600},
        "training": {"epochs": 20, "batch_size": 50, "evaluate_every": 10, "device": "cpu"} | training,
    }
    return train(from_table(settings, built_ins()), out=folder)


def vae(**likelihood: Any) -> dict[str, Any]:
    return {"name": "vae", "likelihood": likelihood}


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    chosen = {"name": "negative-binomial", "typical_library": 60.0}
    return trained(tmp_path_factory.mktemp("counts"), vae(**chosen), chosen, replicas=2, replica_group=2)


def test_the_residuals_by_gene_sum_to_that_of_the_decoder(counts: Run) -> None:
    result = elboverse.analyze(counts, "stationarity", dimensions=True)
    for replica, found in enumerate(result.data["dimensions"]):
        genes = found["dimensions"]
        assert len(genes) == 6
        assert found["is_certificate"]
        total = sum(gene["value"] for gene in genes)
        recorded, error = (
            float(counts.evaluation("train", f"decoder_residual{end}")[-1, replica]) for end in ("", "_standard_error")
        )
        assert abs(total - recorded) < 4 * error
        assert all(gene["dispersion"] > 0 for gene in genes)
    assert any("upper bound" in note for note in result.notes)
    assert any("negative binomial decoder" in note for note in result.notes)


def test_a_scale_that_dimensions_share_is_no_certificate_of_each(tmp_path: Path) -> None:
    run = trained(tmp_path, vae(name="laplace"), {"name": "laplace"}, epochs=2, evaluate_every=1)
    result = elboverse.analyze(run, "stationarity", dimensions=True)
    assert not result.data["dimensions"][0]["is_certificate"]
    assert "only their sum" in next(table.title for table in result.further if "by dimension" in table.title)


@pytest.mark.parametrize("analysis", ["stationarity", "collapse", "bounds"])
@pytest.mark.parametrize(
    "model",
    [vae(name="student-t", learn_df=False), vae(name="gaussian") | {"prior": {"name": "vamp", "components": 3}}],
    ids=["fixed degrees of freedom", "VampPrior"],
)
def test_where_no_theorem_holds_every_analysis_says_so(tmp_path: Path, model: dict[str, Any], analysis: str) -> None:
    run = trained(tmp_path, model, {"name": "student-t"}, epochs=2, evaluate_every=1)
    result = elboverse.analyze(run, analysis)
    assert any("alibration, no certificate" in note for note in result.notes)
    assert result.draw is not None
    result.draw()


def test_the_model_without_latents_of_a_gaussian_has_its_closed_form() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([1, 2, 3])
    centred = x - x.mean(0)
    shared, each = centred.square().mean(), centred.square().mean(0)
    (by_shared,), (by_each,) = (gaussian_without_latents(torch.zeros(shape), True, x) for shape in ((), (3,)))
    assert by_shared == pytest.approx(-1.5 * math.log(2 * math.pi * math.e * float(shared)))
    assert by_each == pytest.approx(-0.5 * float((2 * math.pi * math.e * each).log().sum()))
    (fixed,) = gaussian_without_latents(torch.zeros(()), False, x)
    assert fixed == pytest.approx(-0.5 * float(3 * math.log(2 * math.pi) + each.sum()))


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "laplace", "categorical"])
def test_the_model_without_latents_of_other_families_has_its_closed_form(name: str) -> None:
    noise = torch.randn(400, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name == "bernoulli":
        x = (noise > 0.3).double()
        expected = Bernoulli(x.mean(0)).log_prob(x).sum(1).mean()
    elif name == "poisson":
        x = (3 * noise.abs()).floor()
        expected = Poisson(x.mean(0)).log_prob(x).sum(1).mean()
    elif name == "laplace":
        x = noise
        median = x.median(0).values
        expected = Laplace(median, (x - median).abs().mean()).log_prob(x).sum(1).mean()
    else:
        x = torch.nn.functional.one_hot(noise.unflatten(1, (2, 3)).argmax(-1), 3).double().flatten(1)
        expected = (x * x.mean(0).log()).sum(1).mean()
    options: dict[str, Any] = {"name": name} | ({"categories": 3} if name == "categorical" else {})
    config = from_table({"model": vae(**options), "dataset": {"name": "circle"}}, built_ins())
    likelihood = config.model.options.likelihood.build((6,))
    (found,) = log_likelihood_without_latents(likelihood, x)
    assert found == pytest.approx(float(expected), abs=0.05 if name == "laplace" else 1e-4)
    assert found <= float(expected) + 1e-6


def test_the_gain_over_no_latents_is_told_of_the_papers_types_too(tmp_path: Path) -> None:
    run = trained(tmp_path, {"name": "vae-1"}, {"name": "gaussian"}, replicas=2, replica_group=2)
    result = elboverse.analyze(run, "collapse")
    (note,) = (note for note in result.notes if "Gain over" in note)
    known = run.documents["family"]["without_latents"]["held_out"]
    gains = np.asarray(run.evaluation("held_out", "elbo"))[-1] - np.array(known)
    assert f"{np.median(gains):.4f} nats" in note


def test_evaluate_gives_counts_their_own_totals(counts: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command("evaluate", str(counts.path), "--points", "50", "--samples", "20", "--json")
    found = json.loads(capsys.readouterr().out)
    recorded, error = (float(counts.evaluation("held_out", f"elbo{end}")[-1, 0]) for end in ("", "_standard_error"))
    elbo = found["elbo"]["value"]
    assert abs(elbo - recorded) < 3 * error


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_evaluate_takes_priors_that_do_not_factorise(
    tmp_path: Path, prior: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(
        tmp_path, vae(name="gaussian") | {"prior": {"name": prior, "components": 3}}, {"name": "gaussian"}, epochs=4
    )
    capsys.readouterr()
    command("evaluate", str(run.path), "--points", "20", "--samples", "10", "--json")
    found = json.loads(capsys.readouterr().out)
    (residual,) = (one["value"] for one in found["residuals"] if one["name"] == "R_0")
    recorded, error = (
        float(run.evaluation("held_out", f"prior_residual{end}")[-1, 0, 0]) for end in ("", "_standard_error")
    )
    assert abs(residual - recorded) < 4 * error + 0.05  # the entropy of the VampPrior is from samples
