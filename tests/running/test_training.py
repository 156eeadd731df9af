from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support.builders import MODELS, VARIANTS, configure, normal
from support.recorded_training import Trained, train_to_the_end

from elboverse.contracts import SamplingFree
from elboverse.contracts.records import Record, Rows, rows_from_columns
from elboverse.errors import ConfigError, NonFiniteError
from elboverse.running.assembly import Experiment, build_experiment
from elboverse.seeding import generator
from elboverse.theory.elbo import batch_terms, point_terms
from elboverse.training.evaluation import Evaluator
from elboverse.training.step import SingleStep

STEPS_PER_EPOCH = 6


def assert_same_rows(first: Trained, second: Trained) -> None:
    np.testing.assert_array_equal(first.steps, second.steps)
    other = second.series()
    for name, values in first.series().items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("replicas", [1, 2])
def test_same_seed_gives_bitwise_the_same_run_whatever_the_global_random_state(replicas: int) -> None:
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        runs.append(train_to_the_end(configure("vae-1", replicas=replicas, replica_group=replicas)))
    assert_same_rows(*runs)
    other = train_to_the_end(configure("vae-1", replicas=replicas, replica_group=replicas, seed=5))
    assert not np.array_equal(other.series()["elbo"], runs[0].series()["elbo"])


def test_training_raises_the_elbo() -> None:
    elbo = train_to_the_end(configure("vae-1", epochs=40, learning_rate=1e-2, variance_learning_rate=1e-2)).series()[
        "elbo"
    ]
    assert elbo[-20:].mean() > elbo[:20].mean() + 1.0


@pytest.mark.parametrize(("record_every", "expected"), [(1, [*range(30)]), (7, [0, 7, 14, 21, 28, 29]), (100, [0, 29])])
def test_every_nth_step_and_the_last_are_recorded(record_every: int, expected: list[int]) -> None:
    thinned = train_to_the_end(configure("vae-1", record_every=record_every))
    assert thinned.steps.tolist() == expected
    full = train_to_the_end(configure("vae-1"))
    np.testing.assert_array_equal(thinned.series()["elbo"], full.series()["elbo"][expected])


def test_evaluations_come_before_the_first_after_every_nth_and_after_the_last_epoch() -> None:
    trained = train_to_the_end(configure("vae-1", evaluate_every=2))
    for split in ("train", "held_out"):
        evaluations = trained.evaluations(split)
        assert [evaluation.epoch for evaluation in evaluations] == [0, 2, 4, 5]
        assert [evaluation.step for evaluation in evaluations] == [STEPS_PER_EPOCH * epoch for epoch in (0, 2, 4, 5)]
        assert {evaluation.points for evaluation in evaluations} == {120}


def test_data_without_held_out_points_are_evaluated_on_train_alone() -> None:
    trained = train_to_the_end(
        configure("vae-1", dataset={"name": "pca", "points": 120, "dimension": 4, "held_out": 0.0})
    )
    assert trained.evaluations("held_out") == []
    assert len(trained.evaluations("train")) == 2


@pytest.mark.parametrize(("name", "constraint", "variances"), VARIANTS)
def test_evaluation_does_not_disturb_training(name: str, constraint: str | None, variances: str) -> None:
    often = train_to_the_end(configure(name, constraint, variances=variances, evaluate_every=1))
    seldom = train_to_the_end(configure(name, constraint, variances=variances, evaluate_every=5))
    assert_same_rows(often, seldom)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(("name", "constraint", "variances"), VARIANTS)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    name: str, constraint: str | None, variances: str, replicas: int
) -> None:
    group = {"replica_group": replicas}  # which is measured otherwise, by time
    config = configure(name, constraint, variances=variances, replicas=replicas, evaluate_every=1, **group)
    whole = train_to_the_end(config)
    first, second = build_experiment(config), build_experiment(config)
    rounds = first.loop.rounds()
    records = [record for _ in range(3) for record in next(rounds)]
    assert first.loop.done == 2 * STEPS_PER_EPOCH
    second.loop.load(first.loop.state(), first.loop.done)
    records += [record for found in second.loop.rounds() for record in found]
    resumed = Trained(second, records)
    assert_same_rows(whole, resumed)
    for path, tensor in whole.experiment.loop.state().items():
        np.testing.assert_array_equal(tensor, second.loop.state()[path], err_msg=path)
    evaluated = whole.evaluations("train")
    again = evaluated.index(next(one for one in evaluated if one.step == first.loop.done))
    for ours, theirs in zip(resumed.evaluations("train"), [*evaluated[: again + 1], *evaluated[again:]], strict=True):
        assert ours.step == theirs.step
        np.testing.assert_array_equal(ours.scalars["elbo"], theirs.scalars["elbo"])


@pytest.mark.parametrize("epochs", [10**9, 1e300])
def test_evaluations_further_apart_than_the_run_is_long_are_its_first_and_last_alone(epochs: float) -> None:
    trained = train_to_the_end(configure("vae-1", evaluate_every=epochs))
    assert [one.step for one in trained.evaluations("train")] == [0, trained.experiment.loop.plan.total_steps]


@pytest.mark.parametrize("epochs", [0, -1.0, math.inf, math.nan])
def test_evaluations_that_never_come_or_always_are_refused(epochs: float) -> None:
    with pytest.raises(ConfigError, match=r"training\.evaluate_every: .*; expected a (finite number|number > 0)"):
        configure("vae-1", evaluate_every=epochs)


def test_a_run_stopped_in_the_middle_of_a_chunk_ends_after_that_step_and_resumes_bitwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure("vae-1", record_every=4, evaluate_every=5)
    whole, first = train_to_the_end(config), build_experiment(config)
    update = SingleStep.__call__

    def stopping(self: SingleStep, *arguments: Any) -> Any:
        if first.loop.done == 9:  # this is the tenth step
            first.loop.stop()
        return update(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(SingleStep, "__call__", stopping)
        records = [record for found in first.loop.rounds() for record in found]
    assert first.loop.done == 10
    assert not first.loop.finished
    second = build_experiment(config)
    second.loop.load(first.loop.state(), first.loop.done)
    records += [record for found in second.loop.rounds() for record in found]
    assert second.loop.finished
    assert_same_rows(whole, Trained(second, records))


def test_state_is_a_copy_that_later_steps_leave_alone() -> None:
    experiment = build_experiment(configure("vae-1"))
    rounds = experiment.loop.rounds()
    next(rounds)
    state = experiment.loop.state()
    kept = {path: tensor.copy() for path, tensor in state.items()}
    next(rounds)
    for path, tensor in state.items():
        np.testing.assert_array_equal(tensor, kept[path], err_msg=path)


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("samples", [1, 3])
def test_evaluation_equals_its_direct_computation(name: str, samples: int, split: str) -> None:
    trained = train_to_the_end(configure(name, seed=4, samples=samples))
    experiment, evaluation = trained.experiment, trained.evaluations(split)[-1]
    model: Any = experiment.loop._step.model  # type: ignore[attr-defined]
    x = getattr(experiment.data, split).double()
    noise = None
    if not isinstance(model, SamplingFree):
        shape = (*((samples,) if samples > 1 else ()), len(x), 2)
        noise = torch.randn(shape, generator=generator(4, "evaluation", split, 0), dtype=torch.float64)
    with torch.no_grad():
        terms, points, mean = batch_terms(model, x, noise), point_terms(model, x, noise), model.encode(x).mean
    root = math.sqrt(len(x))
    gap = points.elbo - points.entropy_sum
    expected = {
        "elbo": terms.elbo,
        "log_likelihood": terms.log_likelihood,
        "decoder_entropy": terms.decoder_entropy,
        "decoder_log_var": terms.decoder_log_var,
        "decoder_residual": terms.decoder_residual,
        "gap": terms.elbo - terms.entropy_sum,
        "elbo_standard_error": points.elbo.std() / root,
        "gap_standard_error": gap.std() / root,
        "decoder_residual_standard_error": points.decoder_residual.std() / root,
        "entropy_sum_standard_error": points.entropy_sum.expand(len(x)).std() / root,
        "kl": terms.kl,
        "encoder_entropy": terms.encoder_entropy,
        "prior_entropy": terms.prior_entropy,
        "prior_residual": terms.prior_residual,
        "prior_residual_standard_error": points.prior_residual.std(0) / root,
        "mean_variance": mean.var(0, correction=0),
    }
    found = dict(evaluation.scalars) | dict(evaluation.per_latent)
    assert set(found) == set(expected)
    for quantity, value in expected.items():
        np.testing.assert_allclose(found[quantity][0], value.detach().numpy(), rtol=1e-9, atol=1e-11, err_msg=quantity)


def test_evaluation_of_many_points_is_that_of_all_of_them_together() -> None:
    experiment = build_experiment(configure("linear-vae"))
    x = normal(0, 9001, 4)
    evaluation = Evaluator("train", x, (0,), None, 2).evaluate(experiment.loop._step, 0, 0)
    terms = batch_terms(experiment.loop._step.model, x, None)  # type: ignore[attr-defined]
    assert evaluation.points == 9001
    assert evaluation.scalars["elbo"][0] == pytest.approx(terms.elbo.item(), rel=1e-12)
    np.testing.assert_allclose(evaluation.per_latent["kl"][0], terms.kl.detach().numpy(), rtol=1e-12)


def test_evaluation_of_one_point_has_no_spread_and_no_warning() -> None:
    experiment = build_experiment(configure("vae-1"))
    evaluation = Evaluator("train", normal(0, 1, 4), (0,), (), 2).evaluate(experiment.loop._step, 0, 0)
    assert evaluation.scalars["elbo_standard_error"].tolist() == [0.0]


@pytest.mark.parametrize(("name", "replicas"), [("vae-1", 1), ("vae-2", 1), ("vae-2", 2), ("linear-vae", 1)])
def test_optimal_variances_are_the_closed_form_over_all_training_points_at_each_evaluation(
    name: str, replicas: int
) -> None:
    trained = train_to_the_end(configure(name, variances="optimal", replicas=replicas, evaluate_every=1))
    for evaluation in trained.evaluations("train")[1:]:
        np.testing.assert_allclose(evaluation.scalars["decoder_residual"], 0.0, atol=1e-10)
        if name == "vae-2":
            np.testing.assert_allclose(evaluation.per_latent["prior_residual"], 0.0, atol=1e-10)
            np.testing.assert_allclose(evaluation.scalars["gap"], 0.0, atol=1e-10)


def test_recorded_beta_is_that_of_the_schedule_and_the_elbo_is_unweighted() -> None:
    trained = train_to_the_end(configure("vae-1", annealing={"name": "linear"}))
    series = trained.series()
    np.testing.assert_allclose(series["beta"][:, 0], np.minimum(1, np.arange(30) / (0.3 * 29)), rtol=1e-12)
    np.testing.assert_allclose(series["elbo"], series["log_likelihood"] - series["kl"].sum(-1), rtol=1e-12)


def test_annealing_weighs_the_kl_in_the_loss() -> None:
    plain = train_to_the_end(configure("vae-1", epochs=20, learning_rate=1e-2))
    free = train_to_the_end(
        configure("vae-1", epochs=20, learning_rate=1e-2, annealing={"name": "constant", "weight": 0.0})
    )
    assert free.series()["kl"][-1].sum() > plain.series()["kl"][-1].sum()


def run_into(records: list[Record], experiment: Experiment) -> None:
    """Train to the end and put every record into the list as it comes."""
    for found in experiment.loop.rounds():
        records += found


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_non_finite_term_stops_the_run_and_is_named_and_the_rows_before_it_are_kept(replicas: int) -> None:
    experiment = build_experiment(configure("vae-1", epochs=50, replicas=replicas, learning_rate=1e200))
    records: list[Record] = []
    with pytest.raises(NonFiniteError) as raised:
        run_into(records, experiment)
    kept = [record for record in records if isinstance(record, Rows)]
    assert [step for rows in kept for step in rows.step] == [0]
    for rows in kept:
        assert all(np.isfinite(values).all() for values in (*rows.scalars.values(), *rows.per_latent.values()))
    message = str(raised.value)
    assert message.startswith("step 1: ")
    assert ("of replica 0" in message) == (replicas == 2)
    assert "the last good row is step 0" in message


@pytest.mark.parametrize(
    ("column", "term"),
    [(1, "decoder_log_var"), (3, "standardised_second_moment of latent 1"), (4, "encoder_log_var of latent 0")],
)
def test_the_message_names_the_first_term_that_is_not_finite(
    monkeypatch: pytest.MonkeyPatch, column: int, term: str
) -> None:
    experiment = build_experiment(configure("vae-1"))
    update = SingleStep.__call__

    def poisoned(self: SingleStep, *arguments: Any) -> Any:
        columns = update(self, *arguments)
        if experiment.loop.done == 3:
            columns[column] = math.nan
        return columns

    monkeypatch.setattr(SingleStep, "__call__", poisoned)
    with pytest.raises(NonFiniteError, match=rf"step 3: {term} is nan; the last good row is step 2"):
        run_into([], experiment)


@pytest.mark.parametrize("name", MODELS)
def test_rows_hold_the_terms_at_the_parameters_before_the_update(name: str) -> None:
    experiment = build_experiment(configure(name))
    model: Any = experiment.loop._step.model  # type: ignore[attr-defined]
    drawn = experiment.loop._batches.draw(0, 1)
    with torch.no_grad():
        terms = batch_terms(model, next(drawn.x), drawn.noise[0] if drawn.noise else None)
    series = train_to_the_end(configure(name)).series()
    for quantity in (
        "log_likelihood",
        "decoder_entropy",
        "decoder_log_var",
        "elbo",
        "kl",
        "encoder_entropy",
        "prior_entropy",
        "prior_log_var",
    ):
        expected = getattr(terms, quantity).detach().numpy()
        np.testing.assert_allclose(series[quantity][0, 0], expected, rtol=1e-10, atol=1e-12, err_msg=quantity)


def test_columns_of_every_step_and_replica_become_rows_of_their_own() -> None:
    columns = np.random.default_rng(0).normal(size=(2, 3, 8))
    rows = rows_from_columns(np.array([4, 5]), np.array([0.5, 1.0]), columns, 7)
    alone = rows_from_columns(np.array([5]), np.array([1.0]), columns[1:, 2:], 7)
    assert rows.scalars["beta"].tolist() == [[0.5] * 3, [1.0] * 3]
    for name, values in rows.scalars.items():
        assert values.shape == (2, 3)
        assert values[1, 2] == alone.scalars[name][0, 0], name
    for name, values in rows.per_latent.items():
        assert values.shape == (2, 3, 2)
        assert values[1, 2].tolist() == alone.per_latent[name][0, 0].tolist(), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_and_parameters_have_the_type_of_the_run(dtype: str) -> None:
    trained = train_to_the_end(configure("vae-2", dtype=dtype))
    assert {values.dtype.name for values in trained.series().values()} == {dtype}
    model = {path: tensor for path, tensor in trained.experiment.loop.state().items() if path.startswith("model/")}
    assert {tensor.dtype.name for tensor in model.values()} == {dtype}
