"""The estimator of scikit-learn: its own checks, pipelines and searches, and the numbers of PCA."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from elboverse.sklearn import VAE

SKIPPED = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set, and VAE takes no other arrays than NumPy's"
}


@parametrize_with_checks([VAE(n_components=2, max_epochs=10, random_state=0)])
def test_it_passes_scikit_learn_s_checks_of_estimators(estimator: Any, check: Any) -> None:
    if (name := check.func.__name__) in SKIPPED:
        pytest.skip(f"{name}: {SKIPPED[name]}")
    check(estimator)


def test_a_linear_one_scores_as_pca_does() -> None:
    points = StandardScaler().fit_transform(load_wine().data)
    vae = VAE(
        2, model="linear-vae", scaling="none", dtype="float64", learning_rate=0.01, max_epochs=6000,
        early_stopping=True, tol=1e-4, random_state=0,
    ).fit(points)  # fmt: skip
    assert vae.converged_
    count = len(points)
    # PCA divides the variances by N − 1: its density is that of the optimum with variances N/(N − 1) as large.
    assert vae.score(points) == pytest.approx(PCA(2).fit(points).score(points), abs=points.shape[1] / count**2)


def test_early_stopping_ends_before_the_last_epoch() -> None:
    points = load_iris().data
    patient = VAE(1, model="linear-vae", learning_rate=0.02, max_epochs=5000, early_stopping=True, random_state=0)
    patient.fit(points)
    assert patient.converged_
    assert patient.n_iter_ < 5000


def test_it_works_in_a_pipeline_and_a_grid_search() -> None:
    points, species = load_iris(return_X_y=True)
    steps = make_pipeline(
        StandardScaler(), VAE(2, max_epochs=150, learning_rate=0.01, random_state=0), LogisticRegression()
    )
    search = GridSearchCV(steps, {"vae__n_components": [1, 2]}, cv=3).fit(points, species)
    assert search.best_score_ > 0.8


def test_a_pickled_one_gives_the_same_numbers_and_holds_arrays_alone() -> None:
    points = load_iris().data
    vae = VAE(2, max_epochs=5, random_state=0).fit(points)
    vae.transform(points)
    pickled = pickle.dumps(vae)
    assert b"torch" not in pickled
    np.testing.assert_array_equal(pickle.loads(pickled).transform(points), vae.transform(points))


def test_the_random_state_decides_everything() -> None:
    points = load_iris().data
    first, second, other = (VAE(2, max_epochs=5, random_state=seed).fit(points).transform(points) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_tables_come_out_where_they_are_asked_for() -> None:
    frame = load_iris(as_frame=True).data
    latents = VAE(2, max_epochs=5, random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert isinstance(latents, pd.DataFrame)
    assert list(latents.columns) == ["vae0", "vae1"]


def test_a_clone_is_not_fitted_and_has_the_same_parameters() -> None:
    vae = VAE(3, hidden=(4,), scaling="min-max", random_state=0)
    assert clone(vae).get_params() == vae.get_params()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "latent_dim"),
        ({"scaling": "robust"}, "scaling"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"model": "vae-9"}, "vae-9"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**parameters).fit(load_iris().data)


def test_samples_and_inverse_transforms_are_in_data_units() -> None:
    points = load_iris().data
    vae = VAE(2, max_epochs=300, learning_rate=0.01, random_state=0).fit(points)
    assert vae.sample(500, random_state=0).mean(0) == pytest.approx(points.mean(0), abs=0.6)
    assert np.square(vae.inverse_transform(vae.transform(points)) - points).mean() < 0.3 * points.var(0).mean()
