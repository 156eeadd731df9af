"""Runs of elboverse in MLflow."""

from elboverse import Component, hookimpl

__all__ = ["elboverse_sinks"]


@hookimpl
def elboverse_sinks() -> list[Component]:
    """Return the sink ``mlflow``."""
    return [
        Component(
            "mlflow",
            "elboverse_mlflow.sink:MLflowOptions",
            "elboverse_mlflow.sink:build",
            "a run of MLflow: the config as parameters, metrics through training, figures",
        )
    ]
