"""The page on the format of the run file, made from the schema that writer and reader share."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from elboverse.runfile import schema

HEAD = """# The run file

A run is one HDF5 file, `run.h5`, in the run's folder. It is written whole and moved into place, so that it is valid at
any moment, also while training goes on; `elboverse.Run.open` reads it without torch, and so does any HDF5 library.
This page is made from the schema that writer and reader share.

```text
{layout}
```

It is format version {version}. Its status is one of {statuses}. Every dataset has a checksum; a series has its
unit as the attribute `units` and its axes as dimension labels. Information quantities are in nats per data point.

```python
import elboverse

config = {{"dataset": {{"name": "circle", "points": 200}}, "training": {{"epochs": 1}}}}
run = elboverse.train(config, out="runs/format")
assert run.series("elbo").shape == (len(run.steps), run.replicas)
assert run.series("encoder_entropy", replica=0).shape == (len(run.steps), run.latent_dim)
assert run.units("elbo") == "nat"
assert set(run.documents) >= {{"config", "environment", "components", "data"}}
```
"""

MEANINGS = {
    "beta": "weight β of the KL term in that step",
    "elbo": "ELBO with β = 1",
    "log_likelihood": "mean over points of E_q ln p(x\\|z)",
    "decoder_entropy": "H_dec, mean entropy of p(x\\|z)",
    "decoder_log_var": "ln σ², of Gaussian decoders (a mean where there are several)",
    "kl": "KL_h, mean KL of latent h from the prior",
    "encoder_entropy": "H_enc,h, mean entropy of the encoder",
    "prior_entropy": "H_prior,h",
    "prior_log_var": "ln α²_h",
    "elbo_standard_error": "standard error of the ELBO over points",
    "decoder_residual": "R_σ = log-likelihood + H_dec (less ln h)",
    "decoder_residual_standard_error": "its standard error",
    "gap": "ELBO − entropy sum",
    "gap_standard_error": "its standard error",
    "entropy_sum_standard_error": "standard error of the entropy sum",
    "prior_residual": "R_h = H_prior,h − H_enc,h − KL_h",
    "prior_residual_standard_error": "its standard error",
    "mean_variance": "Var_x E_q[z_h], of active units",
    "entropy_sum": "−H_dec + Σ H_enc,h − Σ H_prior,h (plus ln h)",
    "entropy_drop": "H_prior,h − H_enc,h",
    "log_reference": "mean ln h(x) of the reference measure; 0 for Gaussian decoders",
}

AXES = "Axes: T recorded steps, E evaluations, R replicas, H latents."


def page() -> str:
    """Return the page."""
    layout = (schema.__doc__ or "").split("\n\n")[1].replace("\n    ", "\n").removeprefix("    ")
    statuses = ", ".join(f"`{status}`" for status in schema.STATUSES)
    parts = [HEAD.format(layout=layout, version=schema.FORMAT_VERSION, statuses=statuses)]
    parts.append(f"## Series of recorded steps\n\n{AXES} Each is read by `run.series(NAME)`.\n")
    parts.append(table({"T, R": schema.TRAJECTORY_SCALARS, "T, R, H": schema.TRAJECTORY_PER_LATENT}))
    parts.append(
        "## Series of evaluations\n\nEach is read by `run.evaluation(SPLIT, NAME)`; splits are `run.splits`.\n"
    )
    parts.append(table({"E, R": schema.EVALUATION_SCALARS, "E, R, H": schema.EVALUATION_PER_LATENT}))
    follow = dict.fromkeys(schema.FOLLOWING, schema.NAT)
    parts.append("## Series that follow\n\nThey are there although they need not be stored, by the same calls.\n")
    parts.append(table({"": follow}))
    return "\n".join(parts)


def table(groups: Mapping[str, Mapping[str, str]]) -> str:
    """Return names, axes, units and meanings as a table."""
    lines = ["| name | axes | unit | meaning |", "|---|---|---|---|"]
    for axes, names in groups.items():
        lines += [f"| `{name}` | {axes} | {unit} | {MEANINGS.get(name, '')} |" for name, unit in names.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
