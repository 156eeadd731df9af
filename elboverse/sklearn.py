"""A variational autoencoder as an estimator of scikit-learn: in pipelines, grid searches and cross-validation.

scikit-learn is an optional extra: ``pip install 'elboverse[sklearn]'``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from elboverse.data.points import Points
from elboverse.errors import ElboverseError

if TYPE_CHECKING:
    from elboverse.analysis.trained import TrainedModel

__all__ = ["VAE"]

Array = npt.NDArray[Any]

_MOST_SEED = 2**31 - 1


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A VAE: ``transform`` gives the latent means of each row, ``score`` the mean ELBO in nats, in data units.

    Args:
        n_components: H, the number of latents; None takes half the columns, 2 to 10.
        model: the VAE type, such as ``"vae-1"`` or ``"linear-vae"``, or a table with its options.
        likelihood: the decoder's distribution, a name or a table with its options, for a model that takes one
            (``model="vae"``, which is then the default); None for that of the model.
        hidden: widths of the encoder's hidden layers; the decoder's are the same in reverse.
        scaling: ``"standard"``, ``"min-max"`` or ``"none"``, fitted on the training rows.
        max_epochs: passes over the rows; None takes about 3,000 updates.
        batch_size: rows per update; None takes min(1024, N).
        learning_rate: Adam's, of all parameters, variances included.
        validation_fraction: share of the rows that training does not see; `held_out_score_` is of them.
        early_stopping: end when the certificate of stationarity holds: in three evaluations in a row, each residual of
            the ELBO against the sum of its entropies is below `tol`, and the ELBO changes by less.
        tol: that many nats.
        dtype: ``"float32"`` or ``"float64"``.
        random_state: an integer for the same result in each fit.

    Attributes:
        n_components_: H.
        n_iter_: updates done.
        converged_: whether `early_stopping` ended the training.
        held_out_score_: the mean ELBO of the rows held out, in nats and scaled units; NaN if there are none.
        state_: the parameters, arrays by name.
        config_: the resolved config.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> VAE(n_components=2, max_epochs=5, random_state=0).fit_transform(load_iris().data).shape
        (150, 2)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        model: str | Mapping[str, Any] | None = None,
        likelihood: str | Mapping[str, Any] | None = None,
        hidden: Sequence[int] = (128, 64),
        scaling: str = "standard",
        max_epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 1e-3,
        validation_fraction: float = 0.0,
        early_stopping: bool = False,
        tol: float = 0.01,
        dtype: str = "float32",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.model = model
        self.likelihood = likelihood
        self.hidden = hidden
        self.scaling = scaling
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.tol = tol
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803 - scikit-learn's signature
        """Train on rows X of shape (N, D); y is ignored.

        Raises:
            ValueError: X is not what a table of numbers is, or a parameter is out of range.
        """
        rows = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        given = Points(values=rows, names=tuple(getattr(self, "feature_names_in_", ())))
        from elboverse.running.fitting import fitted  # torch is needed from here on
        from elboverse.running.given_data import resolved

        try:
            config, _ = resolved(self._table(rows, given))
            found = fitted(config, self.tol if self.early_stopping else None)
        except ElboverseError as error:
            raise ValueError(str(error)) from error
        self.config_: dict[str, Any] = found.config
        self.data_: dict[str, Any] = found.data
        self.state_: dict[str, Array] = found.state
        self.n_iter_: int = found.steps
        self.converged_: bool = found.stopped
        self.held_out_score_: float = found.held_out_elbo
        self.n_components_: int = self._trained.latent_dim
        return self

    def transform(self, X: Any) -> Array:  # noqa: N803
        """Return the latent means ν(x) of rows X, shape (N, H)."""
        latents: Array = self._trained.encode(self._rows(X)).astype(self._out_dtype(X), copy=False)
        return latents

    def inverse_transform(self, X: Any) -> Array:  # noqa: N803
        """Return the decoder's mean E[x|z] of latents X (N, H), in data units, shape (N, D)."""
        check_is_fitted(self)
        decoded: Array = self._trained.decode(check_array(X, dtype=[np.float64, np.float32]))
        return decoded

    def score_samples(self, X: Any) -> Array:  # noqa: N803
        """Return the ELBO of each row in nats, in data units: a lower bound of ln p(x), shape (N,)."""
        elbo: Array = self._trained.score(self._rows(X))["elbo"]
        return elbo

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002, N803 - scikit-learn's signature
        """Return the mean ELBO of the rows in nats, in data units, as `PCA.score` gives the mean log-likelihood."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Return rows drawn from the model, x ~ p(x|z) with z ~ p(z), in data units, shape (n_samples, D)."""
        check_is_fitted(self)
        return self._trained.sample(n_samples, seed=int(check_random_state(random_state).randint(_MOST_SEED)))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @property
    def _trained(self) -> TrainedModel:
        """The model, rebuilt from the arrays of `state_` where it has not been yet."""
        check_is_fitted(self, "state_")
        model: TrainedModel | None = self.__dict__.get("_model")
        if model is None:
            from elboverse.analysis.trained import TrainedModel  # torch is needed from here on

            model = TrainedModel.from_state(self.config_, self.data_, self.state_)
            self.__dict__["_model"] = model
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: parameters as arrays, no module."""
        state = dict(super().__getstate__())
        state.pop("_model", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _rows(self, rows: Any) -> Array:
        check_is_fitted(self)
        checked: Array = validate_data(self, rows, dtype=[np.float64, np.float32], reset=False)
        return checked

    def _out_dtype(self, rows: Any) -> Any:
        return np.float32 if getattr(rows, "dtype", None) == np.float32 else np.float64

    def _table(self, rows: Array, given: Points) -> dict[str, Any]:
        """Return the config of a fit.

        Raises:
            ValueError: a parameter is out of range.
        """
        count, dimension = rows.shape
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: got {self.validation_fraction!r}; expected 0 ≤ f < 1")
        train = count - int(count * self.validation_fraction)
        if train < 1:
            raise ValueError(f"validation_fraction: {self.validation_fraction} of {count} rows leaves none to train on")
        batch = min(self.batch_size or 1024, train)
        latents = self.n_components
        chosen = ("vae-1" if self.likelihood is None else "vae") if self.model is None else self.model
        model: dict[str, Any] = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
        if latents is not None or "latent_dim" not in model:
            model["latent_dim"] = max(1, min(10, max(2, dimension // 2))) if latents is None else latents
        if self.likelihood is not None:
            likelihood = self.likelihood
            model["likelihood"] = {"name": likelihood} if isinstance(likelihood, str) else dict(likelihood)
        if "linear" not in model["name"]:
            model.setdefault("network", {"name": "mlp", "hidden": [int(width) for width in self.hidden]})
        epochs = self.max_epochs or max(10, -(-3000 // max(1, train // batch)))
        seed = int(check_random_state(self.random_state).randint(_MOST_SEED))
        return {
            "name": "estimator",
            "seed": seed,
            "model": model,
            "dataset": {"data": given, "scaling": self.scaling, "held_out": float(self.validation_fraction)},
            "training": {
                "epochs": int(epochs),
                "batch_size": int(batch),
                "learning_rate": float(self.learning_rate),
                "variance_learning_rate": float(self.learning_rate),
                "evaluate_every": max(1, int(epochs) // 50) if self.early_stopping else int(epochs),
                "dtype": self.dtype,
            },
        }
