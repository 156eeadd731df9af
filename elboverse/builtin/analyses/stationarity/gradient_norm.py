"""How large the gradient of the ELBO is at a trained model, beside what the noise of the estimate alone would give.

With ĝ = mean_b g_b over B batches of points, E‖ĝ‖² = ‖g‖² + tr Cov(g_b)/B: where the gradient g vanishes, its estimate
has a norm of about √(tr Cov(g_b)/B), the noise. It is that of the unweighted ELBO, β = 1, without a weight constraint.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array, Reading
from elboverse.contracts import Table
from elboverse.errors import AnalysisError

__all__ = ["GradientNorm", "gradient_norms", "gradient_table"]

_POINTS: Final = 10_000
_BATCHES: Final = 10


@attrs.frozen(eq=False)
class GradientNorm:
    """The gradient of one replica.

    Args:
        replica: its number.
        norms: parameter → ‖ĝ‖ in nats per point and unit of the parameter.
        noises: parameter → the norm that the noise alone would give.
    """

    replica: int
    norms: dict[str, float]
    noises: dict[str, float]

    @property
    def norm(self) -> float:
        """‖ĝ‖ of all parameters together."""
        return float(np.sqrt(sum(norm**2 for norm in self.norms.values())))

    @property
    def noise(self) -> float:
        """The noise of all parameters together."""
        return float(np.sqrt(sum(noise**2 for noise in self.noises.values())))

    def table(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parameters = [{"name": name, "norm": self.norms[name], "noise": self.noises[name]} for name in self.norms]
        return {"replica": self.replica, "norm": self.norm, "noise": self.noise, "parameters": parameters}


def gradient_norms(reading: Reading) -> list[GradientNorm]:
    """Return the gradient of each replica read, from training points; torch is imported now.

    Raises:
        AnalysisError: the trained model cannot be rebuilt, or there are fewer than ten training points.
    """
    from elboverse.analysis.trained import TrainedModel  # torch, which only the gradient needs

    found = []
    for replica in reading.replicas:
        trained = TrainedModel.of(reading.run, replica)
        points = trained.points("train", slice(_POINTS))
        if len(points) < _BATCHES:
            raise AnalysisError(
                f"{reading.run.path}: {len(points)} training points, and the gradient's noise is estimated from at "
                f"least {_BATCHES}; leave --gradient out"
            )
        gradients = trained.gradients(points, _BATCHES, "stationarity")
        found.append(
            GradientNorm(
                replica,
                {name: float(np.linalg.norm(values.mean(0))) for name, values in gradients.items()},
                {name: _noise(values) for name, values in gradients.items()},
            )
        )
    return found


def _noise(values: Array) -> float:
    return float(np.sqrt(values.var(0, ddof=1).sum() / len(values)))


def gradient_table(found: list[GradientNorm]) -> Table:
    """Return the norms by parameter: of several replicas, of that with the largest."""
    worst = max(found, key=lambda one: one.norm)
    title = "Gradient of the ELBO" + (f" of replica {worst.replica}, the largest" if len(found) > 1 else "")
    return Table(
        title=title,
        columns=("parameter", "norm", "noise alone"),
        rows=[
            ("all", worst.norm, worst.noise),
            *((name, worst.norms[name], worst.noises[name]) for name in worst.norms),
        ],
    )
