"""Runs of every likelihood on points of its own, through the command line, for the tests and for the soak."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.reliable import assert_same_run, train_in_pieces

from elboverse.cli import main
from elboverse.components.registry import discover
from elboverse.config import from_table, load
from elboverse.runfile import Run

LIKELIHOODS: dict[str, dict[str, Any]] = {
    "gaussian": {"name": "gaussian", "initial_log_var": -1.0},
    "gaussian per dimension": {"name": "gaussian", "variance": "per-dimension", "initial_log_var": -1.0},
    "gaussian function": {"name": "gaussian", "variance": "function", "initial_log_var": -1.0},
    "bernoulli": {"name": "bernoulli"},
    "categorical": {"name": "categorical", "categories": 3},
    "continuous-bernoulli": {"name": "continuous-bernoulli"},
    "poisson": {"name": "poisson"},
    "poisson with library": {"name": "poisson", "library": True, "typical_library": 60.0},
    "poisson-softmax": {"name": "poisson-softmax", "typical_library": 60.0},
    "negative-binomial": {"name": "negative-binomial", "mean": "log"},
    "negative-binomial with library": {"name": "negative-binomial", "typical_library": 60.0},
    "laplace": {"name": "laplace", "initial_log_scale": -0.5},
    "generalised-normal": {"name": "generalised-normal", "power": 3.0, "initial_log_scale": 0.0},
    "student-t": {"name": "student-t", "initial_log_scale": -0.5},
    "gamma": {"name": "gamma"},
    "gamma with fixed shape": {"name": "gamma", "shape": "fixed"},
    "beta": {"name": "beta"},
    "log-normal": {"name": "log-normal"},
    "exponential": {"name": "exponential"},
}

ANALYSES = ("bounds", "collapse", "latents", "samples", "stationarity", "variance")
"""Those that look at one run of any family."""


def table(likelihood: str, *, epochs: int, points: int) -> dict[str, Any]:
    """Return the config of a run on points of that likelihood; two replicas, each with data of its own."""
    chosen = LIKELIHOODS[likelihood]
    return {
        "name": likelihood,
        "model": {
            "name": "vae",
            "latent_dim": 2,
            "network": {"name": "mlp", "hidden": [16]},
            "likelihood": chosen,
        },
        "dataset": {"name": "family", "likelihood": chosen, "points": points},
        "training": {
            "epochs": epochs,
            "batch_size": 100,
            "learning_rate": 1e-2,
            "variance_learning_rate": 2e-2,
            "replicas": 2,
            "replica_group": 2,
            "evaluate_every": epochs // 2,
            "device": "cpu",
        },
        "learning_rate_schedule": {"name": "cosine"},
    }


def toml(settings: dict[str, Any]) -> str:
    """Return a table of the config as TOML, each table below it in one line."""

    def value(one: Any) -> str:
        if isinstance(one, dict):
            return "{ " + ", ".join(f"{key} = {value(below)}" for key, below in one.items()) + " }"
        return json.dumps(one)

    return "\n".join(f"{key} = {value(one)}" for key, one in settings.items())


def walked(likelihood: str, folder: Path, *, epochs: int, points: int, analyses: Sequence[str] = ()) -> Run:
    """Train in two pieces and in one, compare them bitwise, make the report and analyses with it; return the run."""
    config = folder / "config.toml"
    config.write_text(toml(table(likelihood, epochs=epochs, points=points)), encoding="utf-8")
    whole = folder / "whole"
    command("train", str(config), "--out", str(whole), "--quiet")
    steps = Run.open(whole).steps
    pieces = train_in_pieces(load(str(config)), folder / "pieces", [len(steps) // 3])
    assert_same_run(pieces, whole / "run.h5")
    for analysis in analyses:
        command("analyze", analysis, str(whole), "--figure", str(folder / f"{analysis}.svg"), "--json")
    command("report", str(whole))
    return Run.open(whole)


def command(*arguments: str) -> None:
    """Run a command line and see to it that it ends well."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as ended:
        code = ended.code or 0  # type: ignore[assignment]
    assert code == 0, arguments


def assert_calibrated_and_below_the_truth(run: Run, likelihood: str) -> None:
    """Check R_dec at the end, and the held-out ELBO of each replica against the truth of its own data."""
    residual, error = (
        np.asarray(run.evaluation("train", f"decoder_residual{end}"))[-1] for end in ("", "_standard_error")
    )
    varentropy = 3.0  # D/2 of a Gaussian decoder in six dimensions
    if "decoder_varentropy" in run.evaluation_names("train"):
        varentropy = np.asarray(run.evaluation("train", "decoder_varentropy"))[-1]
    assert (np.abs(residual) <= np.maximum(2 * error, 0.02 * varentropy)).all(), (residual, error)
    elbo, spread = (np.asarray(run.evaluation("held_out", f"elbo{end}"))[-1] for end in ("", "_standard_error"))
    registry = discover({"ELBOVERSE_LOAD_PLUGINS": ""})
    for replica in range(run.replicas):
        config = from_table(run.config, registry)
        truth = config.dataset.build(config.seed + replica).held_out_log_likelihood
        if truth is None:
            assert likelihood == "negative-binomial with library"
        else:
            assert elbo[replica] <= truth + 2 * spread[replica]
            assert elbo[replica] >= truth - 0.5  # or it would say nothing
