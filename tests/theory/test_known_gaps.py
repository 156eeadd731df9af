"""What moves a stationary point off the entropy sum, and by how much: L2, free bits, regularisers, fixed parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import built_ins
from support.stationary_points import built, noise, points, stationary
from torch import Tensor
from torch.distributions import Normal

import elboverse
from elboverse.builtin.regularisers.aggregate import DIP, MMD, TotalCorrelation
from elboverse.config import from_table, to_table
from elboverse.errors import ConfigError
from elboverse.running.runs import train
from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian

BERNOULLI = {"name": "bernoulli"}


def test_an_l2_penalty_shifts_the_residuals_by_the_weights_it_acts_on() -> None:
    model = built(BERNOULLI, network={"name": "affine"}, latent_dim=1)
    x, draws, strength = points(BERNOULLI, 150, spread=3.0), noise(150, 1, seed=5), 0.02
    layer = model.outputs[0]

    def penalty() -> Tensor:
        return 0.5 * strength * (layer.weight.square().sum() + layer.bias.square().sum())

    terms, norm = stationary(model, x, draws, penalty)
    assert norm < 1e-7
    size = float(layer.weight.detach().square().sum() + layer.bias.detach().square().sum())
    assert float(terms.decoder_residual) == pytest.approx(strength * size, rel=1e-4)
    # The decoder's first layer is its last: latent h meets its column alone.
    column = float(layer.weight.detach()[:, 0].square().sum())
    assert float(terms.prior_residual[0]) == pytest.approx(-0.5 * strength * column, rel=1e-4)


def test_an_l2_penalty_of_the_encoder_shifts_the_prior_residual_the_other_way() -> None:
    model = built(BERNOULLI, network={"name": "affine"}, latent_dim=1)
    x, draws, strength = points(BERNOULLI, 150, spread=3.0), noise(150, 1, seed=5), 0.02
    head = model.encoder_head

    def penalty() -> Tensor:
        return 0.5 * strength * (head.weight[0].square().sum() + head.bias[0].square())

    terms, norm = stationary(model, x, draws, penalty)
    assert norm < 1e-7
    size = float(head.weight.detach()[0].square().sum() + head.bias.detach()[0].square())
    assert float(terms.decoder_residual) == pytest.approx(0, abs=1e-6)
    assert float(terms.prior_residual[0]) == pytest.approx(0.5 * strength * size, rel=1e-4)


def test_a_constant_kl_weight_shifts_no_residual() -> None:
    model = built(BERNOULLI, network={"name": "affine"}, latent_dim=1)
    x, draws = points(BERNOULLI, 150, spread=3.0), noise(150, 1, seed=5)
    terms, norm = stationary(model, x, draws, beta=0.5)
    assert norm < 1e-7
    assert float(terms.elbo - terms.entropy_sum) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("frozen", ["bias", "weight"])
def test_freezing_a_part_of_the_last_layer_leaves_a_gap(frozen: str) -> None:
    model = built(BERNOULLI, network={"name": "affine"}, latent_dim=1)
    getattr(model.outputs[0], frozen).requires_grad_(False)
    x, draws = points(BERNOULLI, 150, spread=3.0), noise(150, 1, seed=5)
    terms, norm = stationary(model, x, draws)
    assert norm < 1e-7
    assert abs(float(terms.decoder_residual)) > 1e-3
    if frozen == "bias":  # the scale of the latent is still free
        assert float(terms.prior_residual[0]) == pytest.approx(0, abs=1e-6)


def free_bits_run(folder: Path, **training: Any) -> Any:
    settings = {
        "model": {"name": "vae", "latent_dim": 2, "likelihood": BERNOULLI, "network": {"name": "mlp", "hidden": [8]}},
        "dataset": {"name": "family", "likelihood": BERNOULLI, "points": 1000, "signal": 0.6},
        "training": {"epochs": 60, "batch_size": 50, "evaluate_every": 60, "learning_rate": 1e-2, "device": "cpu"}
        | training,
    }
    return train(from_table(settings, built_ins()), out=folder)


def test_free_bits_hold_each_kl_near_their_floor_and_break_the_certificate(tmp_path: Path) -> None:
    run = free_bits_run(tmp_path, free_bits=0.5)
    kl = run.evaluation("train", "kl")[-1, 0]
    np.testing.assert_allclose(kl, 0.5, atol=0.15)  # where it would be near 0 without them; the kink draws it there
    notes = elboverse.analyze(run, "stationarity").notes
    assert any("Free bits" in note and "need not vanish" in note for note in notes)
    unfloored = free_bits_run(tmp_path / "none").evaluation("train", "kl")[-1, 0]
    assert unfloored.min() < 0.1


def encoder(points: int = 40, latents: int = 3) -> DiagonalGaussian:
    mean = noise(points, latents, seed=1) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]]).double()
    return DiagonalGaussian(mean, 0.3 * noise(points, latents, seed=2) - 1)


def test_the_total_correlation_is_that_of_the_mixture_by_plain_loops() -> None:
    q = encoder()
    z = q.mean + noise(40, 3, seed=3) * (0.5 * q.log_var).exp()
    each = Normal(q.mean, (0.5 * q.log_var).exp())
    total = 0.0
    for one in z:
        joint = float(each.log_prob(one).sum(1).exp().mean().log())
        margins = sum(float(each.log_prob(one)[:, h].exp().mean().log()) for h in range(3))
        total += joint - margins
    found = TotalCorrelation(weight=2.0).extra(z, q, z)["total_correlation"]
    assert float(found) == pytest.approx(2 * total / len(z), rel=1e-9)


def test_the_total_correlation_of_many_points_is_that_of_their_gaussian() -> None:
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    draws = noise(2000, 2, seed=4) @ torch.linalg.cholesky(0.5 * covariance).mT
    q = DiagonalGaussian(draws, torch.full_like(draws, math.log(0.5)))
    z = q.mean + noise(2000, 2, seed=5) * math.sqrt(0.5)
    whole = 0.5 * covariance + 0.5 * torch.eye(2, dtype=torch.float64)
    expected = -0.5 * float(torch.logdet(whole) - whole.diagonal().log().sum())
    assert float(TotalCorrelation(weight=1.0).extra(z, q, z)["total_correlation"]) == pytest.approx(expected, abs=0.02)


def test_the_mmd_takes_the_prior_as_quadrature_does() -> None:
    z = (0.7 * noise(60, 3, seed=1) + 0.3).numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights /= weights.sum()
    within = sum(np.exp(-((a - b) ** 2).sum() / 3) for i, a in enumerate(z) for j, b in enumerate(z) if i != j)
    across = np.mean([np.prod([weights @ np.exp(-((one - nodes) ** 2) / 3) for one in point]) for point in z])
    prior = (weights @ np.exp(-((nodes[:, None] - nodes) ** 2) / 3) @ weights) ** 3
    tensor = torch.from_numpy(z)
    found = float(MMD(weight=2.0).extra(tensor, encoder(60), tensor)["mmd"])
    assert found == pytest.approx(2 * (within / (60 * 59) - 2 * across + prior), rel=1e-9)


def test_the_mmd_of_samples_of_the_prior_itself_is_nothing() -> None:
    z = noise(3000, 2, seed=1)
    assert float(MMD(weight=1.0).extra(z, encoder(), z)["mmd"]) == pytest.approx(0, abs=2e-3)


def test_the_dip_term_is_that_of_the_covariance_of_samples() -> None:
    q = encoder(400)
    z = q.mean + noise(2000, 400, 3, seed=6) * (0.5 * q.log_var).exp()
    covariance = np.cov(z.reshape(-1, 3).numpy().T, bias=True)
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    expected = 2 * off + 3 * ((np.diag(covariance) - 1) ** 2).sum()
    assert float(DIP(off_diagonal=2.0, diagonal=3.0).extra(z, q, z)["dip"]) == pytest.approx(expected, rel=1e-2)


SEVERAL = [{"name": "beta-tc", "weight": 0.5}, {"name": "mmd", "weight": 2.0}, {"name": "dip"}]


def test_several_regularisers_are_recorded_and_added_to_the_loss(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model": {"name": "vae", "latent_dim": 2, "network": {"name": "mlp", "hidden": [8]}},
        "dataset": {"name": "circle", "points": 200},
        "regulariser": SEVERAL,
        "training": {"epochs": 3, "batch_size": 20, "device": "cpu", "replicas": 2},
    }
    config = from_table(settings, built_ins())
    assert from_table(to_table(config), built_ins()) == config
    run = train(config, out=tmp_path)
    for name in ("total_correlation", "mmd", "dip"):
        assert np.isfinite(run.series(name)).all()
        assert run.series(name).any()
    notes = elboverse.analyze(run, "stationarity").notes
    assert any("beta-tc, mmd and dip are in the loss" in note for note in notes)
    assert [one["name"] for one in run.components if one["kind"] == "regulariser"] == ["beta-tc", "mmd", "dip"]


def test_a_list_of_one_regulariser_is_that_one() -> None:
    one, listed = (
        from_table({"dataset": {"name": "circle"}, "regulariser": given}, built_ins())
        for given in (SEVERAL[0], [SEVERAL[0]])
    )
    assert one == listed


def test_a_fault_in_a_list_of_regularisers_is_told_with_its_number() -> None:
    with pytest.raises(ConfigError, match=r"regulariser\.1\.weight"):
        from_table(
            {"dataset": {"name": "circle"}, "regulariser": [SEVERAL[0], {"name": "mmd", "weight": -1}]}, built_ins()
        )


def test_a_mixture_judged_by_its_margin_keeps_a_residual_that_the_augmented_form_has_not() -> None:
    model = built(BERNOULLI, network={"name": "affine"}, latent_dim=2, prior={"name": "mixture", "components": 3})
    x, draws = points(BERNOULLI, 200, spread=3.0), noise(200, 2, seed=5)
    terms, norm = stationary(model, x, draws)
    assert norm < 1e-7
    assert float(terms.prior_residual.sum()) == pytest.approx(0, abs=1e-6)
    prior = model.prior()
    with torch.no_grad():
        z = families.latents(model, x, draws).z
        drawn = prior.sample(noise(400_000, 2, seed=7))
        marginal = float(prior.log_prob(z).mean()) - float(prior.log_prob(drawn).mean())
        error = float(prior.log_prob(drawn).std()) / math.sqrt(len(drawn))
    assert abs(marginal) < 0.2  # E_q ln p(z) + H[p(z)] need not vanish, and is small (FAMILIES: up to 0.1)
    assert error < 5e-3
