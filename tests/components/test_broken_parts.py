"""Parts of a run that break their contract, each refused before the first step under its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from elboverse.cli import main

PLUGIN = """
import math, attrs, torch
from torch import nn
from elboverse import Component, DiagonalGaussian, hookimpl

@attrs.frozen
class Options:
    pass

class Likelihood(nn.Module):
    outputs, support, theorem, location = 1, "real", "", True
    def __init__(self, options, data_shape): super().__init__()
    def forward(self, outputs): return DiagonalGaussian(outputs[0], torch.zeros(()))

class Prior(nn.Module):
    theorem = ""
    def __init__(self, options, latent_dim, data_shape): super().__init__(); self.zeros = torch.zeros(latent_dim)
    def forward(self, encode): return DiagonalGaussian(self.zeros, self.zeros)

class Posterior(nn.Module):
    def __init__(self, options, latent_dim): super().__init__(); self.width = 2 * latent_dim
    def initial_bias(self, log_var): return torch.zeros(self.width)
    def forward(self, outputs): return DiagonalGaussian(*outputs.chunk(2, -1))

class Network:
    def __init__(self, options, data_shape, latent_dim):
        self.dimension, self.encoder_features, self.decoder_features = math.prod(data_shape), 4, 4
        self.encoder, self.decoder = nn.Linear(self.dimension, 4), nn.Linear(latent_dim, 4)
    def build_output(self): return nn.Linear(4, self.dimension)
    def output_activation(self, values): return values

class Regulariser:
    def __init__(self, options): pass
    def extra(self, x, q, z): return {"term": q.mean.square().mean()}

class Optimiser:
    def __init__(self, options): pass
    def state(self, values): return {}
    def update(self, values, gradients, state, rate): values.add_(gradients, alpha=-rate)

class Schedule:
    def __init__(self, options): pass
    def weight(self, step, total_steps): return 1.0

class Constraint:
    def __init__(self, options): pass
    def project(self, weight): return weight
"""

HOOKS = {
    "likelihood": ("elboverse_likelihoods", "Likelihood"),
    "prior": ("elboverse_priors", "Prior"),
    "posterior": ("elboverse_posteriors", "Posterior"),
    "network": ("elboverse_networks", "Network"),
    "regulariser": ("elboverse_regularisers", "Regulariser"),
    "optimiser": ("elboverse_optimisers", "Optimiser"),
    "annealing": ("elboverse_annealing_schedules", "Schedule"),
    "constraint": ("elboverse_weight_constraints", "Constraint"),
}

SELF = "class {name}({name}):\n    "
BROKEN = [
    ("likelihood", "def forward(self, outputs): return None", "p(x|z) is a NoneType without mean and log_prob"),
    ("likelihood", "def forward(self, outputs): return outputs[0]", "p(x|z) is a Tensor without log_prob and sample"),
    ("likelihood", "def forward(self): return 1", "p(x|z) failed: TypeError: "),
    ("likelihood", "outputs = '1'", "outputs is '1'; expected a number of output layers"),
    ("likelihood", "support = 'reals'", "support is 'reals'; expected one of real, binary"),
    ("likelihood", "theorem = None", "theorem is None; expected a sentence"),
    ("prior", "def forward(self, encode): return None", "p(z) is a NoneType without log_prob and sample"),
    ("prior", "def forward(self, encode): raise KeyError('x')", "failed: KeyError: 'x'"),
    (
        "prior",
        "def forward(self, encode): return torch.distributions.Normal(self.zeros, 1.0)",
        "log_prob(z) of 3 points with 2 latents has shape (3, 2); expected (3,)",
    ),
    ("posterior", "def initial_bias(self, log_var): return 0", "initial_bias(log_var) returns a int"),
    ("posterior", "def forward(self, outputs): return DiagonalGaussian(outputs, outputs)", "q(z|x) of 3 points has a"),
    ("network", "def build_output(self): return None", "TypeError: 'NoneType' object is not callable"),
    ("network", "def build_output(self): return nn.Linear(4, 9)", "the mean of decode(z) has shape (2, 9)"),
    ("network", "output_activation = None", "TypeError: 'NoneType' object is not callable"),
    ("regulariser", "def extra(self, x, q, z): return [1]", "must return name → tensor of shape (), not [1]"),
    ("regulariser", "def extra(self, x): return {}", "extra(x, q, z) failed: TypeError"),
    ("regulariser", "def extra(self, x, q, z): return {'a': x.add_(1).sum()}", "changes its arguments in place"),
    ("regulariser", "def extra(self, x, q, z): return {'a': z.sum() * torch.rand(())}", "draws random numbers"),
    ("regulariser", "def extra(self, x, q, z): return {'a': z.sum() * math.nan}", "'a' of extra(x, q, z) is nan"),
    ("optimiser", "def state(self, values): return [1]", "state(values) must return a dict of tensors, not [1]"),
    ("optimiser", "def state(self, values): return {'a': torch.zeros(3)}", "has shape (3,) for 4 values"),
    ("optimiser", "def update(self, values, gradients, state, rate): pass", "changes no value"),
    ("optimiser", "def update(self, values): pass", "update(values, gradients, state, rate) failed: TypeError"),
    ("optimiser", "def update(self, values, *rest): values.add_(torch.randn(4))", "draws random numbers"),
    ("annealing", "def weight(self, step, total_steps): return 'a'", "weight(step, total_steps) failed: ValueError"),
    ("annealing", "def weight(self, step): return 1.0", "weight(step, total_steps) failed: TypeError"),
    ("constraint", "project = 3", "project(weight) failed: TypeError: 'int' object is not callable"),
    ("constraint", "def project(self, weight): return weight * math.nan", "project(weight) is not finite"),
]


@pytest.mark.parametrize(("kind", "body", "sentence"), BROKEN, ids=[f"{kind}: {body[:40]}" for kind, body, _ in BROKEN])
def test_a_broken_part_is_refused_before_the_first_step_under_its_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, body: str, sentence: str
) -> None:
    hook, name = HOOKS[kind]
    offer = f"@hookimpl\ndef {hook}(): return [Component('tried', Options, {name}, 'tried')]\n"
    plugin = tmp_path / "tried.py"
    plugin.write_text(f"{PLUGIN}\n{SELF.format(name=name)}{body}\n\n{offer}", encoding="utf-8")
    chosen = {"constraint": ["model.name=vae-2", "constraint=tried"]}.get(kind, [f"{kind}=tried"])
    if kind in {"likelihood", "prior", "posterior", "network"}:
        chosen = [f'model={{name="vae", {kind}="tried"}}']
    settings = ["training.epochs=1", "dataset.points=60", "training.batch_size=20", "training.device=cpu", *chosen]
    overrides = [part for setting in settings for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--quiet", "circle", "--plugin", str(plugin), "--out", str(tmp_path / "run"), *overrides])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert f"{kind} 'tried' of plugin tried (tried.py sha256:" in told
    assert sentence in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()
