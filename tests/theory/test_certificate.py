"""The certificate as plain arithmetic: what is decided, what it costs, and what is said."""

from __future__ import annotations

import math

import pytest

from elboverse.theory.certificate import (
    Certificate,
    Residual,
    adam_bias,
    certificates,
    escape_gain,
    judged,
    sgd_bias,
    told,
)


def certificate(value: float = 0.0, error: float = 0.0, **more: object) -> Certificate:
    residual = Residual(name="R_0", value=value, scale=0.5, standard_error=error)
    return Certificate(residuals=(residual,), points=100, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.0, 0.0, "stationary"),
        (0.02, 0.0, "not stationary"),
        (-0.02, 0.0, "not stationary"),
        (0.009, 0.002, "undecided"),
        (0.0, math.nan, "undecided"),
    ],
)
def test_a_residual_is_judged_two_standard_errors_either_way(value: float, error: float, expected: str) -> None:
    assert judged(value, error, 0.01) == expected
    assert certificate(value, error).verdict == expected


def test_a_mismatch_costs_what_a_matched_gaussian_variance_would_gain() -> None:
    ratio = 1.02  # s²/σ²
    residual = Residual(name="R_σ", value=5 * (1 - ratio), scale=5.0)
    exact = 5 * (ratio - 1 - math.log(ratio))
    assert residual.mismatch == pytest.approx(-0.02)
    assert residual.cost == pytest.approx(exact, rel=0.02)


def test_an_elbo_that_still_rises_is_not_stationary() -> None:
    assert certificate(gain=0.1).verdict == "not stationary"
    assert certificate(gain=1e-9).verdict == "stationary"
    assert "still rises" in certificate(gain=0.1).sentence()


def test_a_gain_that_is_not_known_to_the_tolerance_is_undecided() -> None:
    worth = certificate().gain_tolerance
    found = certificate(gain=-0.1 * worth, gain_error=2 * worth, steps=5)
    assert found.verdict == "undecided"
    assert "5 full-batch steps gain" in found.sentence()
    assert certificate(gain=0.1 * worth, gain_error=0.4 * worth, steps=5).verdict == "stationary"


def test_a_saddle_is_not_stationary_and_is_named() -> None:
    found = certificate(saddle={1: 0.2})
    assert found.verdict == "not stationary"
    assert "saddle" in found.sentence()
    assert any("--like" in sentence for sentence in told([found], "run.h5"))


def test_escape_gains_nothing_below_the_noise() -> None:
    assert escape_gain(0.9, 1.0) == 0.0
    assert escape_gain(2.0, 1.0) == pytest.approx(0.5 * (1 - math.log(2)))


def test_a_certificate_is_read_back_from_its_table() -> None:
    found = certificate(0.001, saddle={3: 0.5}, elbo=1.0)
    document = {"certificate": {"step": 7, "replicas": [found.table()]}}
    assert certificates(document, 7) == [found]
    assert certificates(document, 8) == []
    assert certificates({"certificate": {"step": 7, "replicas": [{"points": "x"}]}}, 7) == []


def test_biases_have_the_sign_of_the_heavier_side() -> None:
    assert sgd_bias(0.1, 2.0, 1.0, 1.0) == pytest.approx(-0.05)
    assert adam_bias(0.1, 0.0, 0.0, 4.0) == pytest.approx(0.1)


def test_the_worst_replica_is_told() -> None:
    sentences = told([certificate(), certificate(0.3)], "run.h5")
    assert sentences[0].startswith("1 of 2 replicas are stationary; the worst is 1.")


def test_means_that_explain_little_are_told_of_a_variance_that_depends_on_the_latents_alone() -> None:
    fixed, varying = (certificate(0.3, explained=0.04, active=3, varies=varies) for varies in (False, True))
    assert not any("decoder means" in sentence for sentence in told([fixed], "run.h5"))
    assert any("decoder means explain 4 %" in sentence for sentence in told([varying], "run.h5"))
