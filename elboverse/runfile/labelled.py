"""A run's trajectory as labelled arrays of other libraries; units and names of axes come from the run file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from elboverse.errors import AnalysisError

__all__ = ["Recorded", "html_of", "pandas_of", "xarray_of"]


class Recorded(Protocol):
    """What is read of a `Run`."""

    path: Path
    status: str
    elboverse_version: str
    replicas: int

    @property
    def steps(self) -> Any:
        """See `Run.steps`."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """See `Run.config`."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """See `Run.names`."""
        ...

    def series(self, name: str, *, replica: int | None = None) -> Any:
        """See `Run.series`."""
        ...

    def units(self, name: str) -> str:
        """See `Run.units`."""
        ...


def pandas_of(run: Recorded, replica: int = 0) -> Any:
    """Return a replica's trajectory as a `pandas.DataFrame`: a row per step, ``kl[0]``, ``kl[1]`` … per latent."""
    try:
        import pandas as pd  # an optional package
    except ImportError as error:
        raise AnalysisError("to_pandas needs pandas: pip install pandas") from error
    columns: dict[str, Any] = {}
    for name in run.names:
        values = run.series(name, replica=replica)
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}[{latent}]": values[:, latent] for latent in range(values.shape[1])}
    return pd.DataFrame(columns, index=pd.Index(run.steps, name="step"))


def xarray_of(run: Recorded) -> Any:
    """Return the trajectory as an `xarray.Dataset` with dimensions step, replica and latent, with units."""
    try:
        import xarray as xr  # an optional package
    except ImportError as error:
        raise AnalysisError("to_xarray needs xarray: pip install xarray") from error
    axes = ("step", "replica", "latent")
    series = {}
    for name in run.names:
        values = run.series(name)
        series[name] = (axes[: values.ndim], values, {"units": run.units(name)})
    sizes = {"replica": np.arange(run.replicas), "step": run.steps}
    return xr.Dataset(series, coords=sizes, attrs={"status": run.status, "elboverse_version": run.elboverse_version})


def html_of(run: Recorded) -> str:
    """Return what a notebook shows of a run: its state and where each replica's ELBO ended."""
    from html import escape

    last = ", ".join(f"{value:.4f}" for value in run.series("elbo")[-1]) if len(run.steps) else "nothing recorded"
    model, dataset = (run.config.get(key, {}).get("name", "?") for key in ("model", "dataset"))
    rows = {
        "model": model, "data": dataset, "status": run.status, "recorded steps": len(run.steps),
        "replicas": run.replicas, "last ELBO in nats": last, "file": run.path,
    }  # fmt: skip
    cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in rows.items())
    return f"<table>{cells}</table>"
