"""A package that elboverse knows nothing of: one dataset and one VAE variant."""

from elboverse import Component, hookimpl


@hookimpl
def elboverse_datasets():
    return [Component("ladder", f"{__name__}.dataset:LadderOptions", f"{__name__}.dataset:build", "rungs of a ladder")]


@hookimpl
def elboverse_models():
    return [Component("tanh-vae", f"{__name__}.model:TanhOptions", f"{__name__}.model:TanhVAE", "one tanh layer")]
