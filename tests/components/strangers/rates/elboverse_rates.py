"""An analysis with a figure: how many nats each latent carries at the end, and through training."""

from typing import ClassVar

import attrs
import numpy as np

from elboverse import Component, hookimpl
from elboverse.config.structuring import in_range
from elboverse.contracts import Result


@attrs.frozen(kw_only=True)
class Options:
    several_runs: ClassVar[bool] = False

    replica: int = attrs.field(default=0, validator=in_range(minimum=0), metadata={"help": "which replica"})


def build(options, run):
    rates = run.series("kl", replica=options.replica)  # (T, H), or (T, 1, H) where the run has one replica
    rates = rates.reshape(len(rates), -1)
    order = np.argsort(-rates[-1])

    def draw():
        from matplotlib.figure import Figure  # only a figure needs it

        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        for latent in order:
            axes.plot(run.steps, rates[:, latent], label=f"latent {latent}")
        axes.set(xlabel="step", ylabel="KL (nats)")
        axes.legend(frameon=False)
        return figure

    total = float(rates[-1].sum())
    return Result(
        title=f"rate of each latent, replica {options.replica}",
        columns=("latent", "KL (nats)", "share"),
        rows=[(int(h), float(rates[-1, h]), float(rates[-1, h]) / total) for h in order],
        notes=[f"The latents carry {total:.3g} nats together."],
        data={"kl": rates[-1].tolist()},
        draw=draw,
    )


@hookimpl
def elboverse_analyses():
    return [Component("rates", Options, build, "nats that each latent carries")]
