"""``elboverse reproduce``: an experiment of one's own from config to verdict, the shipped ones, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.synthetic_runs import write_run
from support.trained_runs import write_optimal_run

from elboverse.cli import main
from elboverse.runfile import Run

CONFIG = """# A small experiment.
name = "mine"
[model]
name = "linear-vae"
[dataset]
name = "pca"
points = 400
dimension = 4
[training]
epochs = 4
batch_size = 100
device = "cpu"
"""

EXPECTED = """
minutes = 0.1
quick = ["training.epochs=2"]

[figure]
analysis = "bounds"

[[expect]]
what = "the last ELBO"
analysis = "bounds"
path = "final.-1.elbo"
source = "{source}"
{limits}
"""


class Ran:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs ``elboverse reproduce`` in this process."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = 0
        try:
            main(["reproduce", *map(str, arguments)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ran(code, *capsys.readouterr())

    return run


def experiment(folder: Path, limits: str, *more: str) -> Path:
    config = folder / "mine.toml"
    config.write_text(CONFIG, encoding="utf-8")
    text = EXPECTED.format(limits=limits, source="an equation that is known") + "\n".join(more)
    (folder / "mine.expected.toml").write_text(text, encoding="utf-8")
    return config


def test_an_experiment_whose_expectations_are_met_passes(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    ran = reproduce(experiment(tmp_path, "at_most = 100.0"), "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert re.search(r"the last ELBO +≤ 100 +-\d+\.\d+ +PASS +an equation that is known", ran.out)
    assert "All 1 expectations are met." in ran.out
    assert "scaled" not in ran.out
    assert "Not as in" not in ran.out
    assert (tmp_path / "out" / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "mine.pdf").read_bytes().startswith(b"%PDF")
    with Run.open(tmp_path / "out" / "run.h5") as run:
        assert run.config["training"]["epochs"] == 4


def test_an_expectation_that_is_not_met_fails_with_an_exit_code_of_its_own(
    reproduce: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = reproduce(experiment(tmp_path, "value = 100.0\ntolerance = 1.0"), "--out", tmp_path / "out")
    assert ran.code == 3
    assert re.search(r"the last ELBO +100 ± 1 +-\d+\.\d+ +FAIL", ran.out)
    assert "1 of 1 expectations is not met." in ran.out


def test_the_scaled_down_experiment_says_so_and_has_its_own_settings_and_limits(
    reproduce: Callable[..., Ran], tmp_path: Path
) -> None:
    left_out = '[[expect]]\nwhat = "x"\nanalysis = "bounds"\npath = "x"\nsource = "s"\nat_most = 1\nin_quick = false'
    config = experiment(tmp_path, "at_least = 100.0\nquick = { at_most = 100.0 }", left_out)
    ran = reproduce(config, "--quick", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "mine, scaled down (--quick): expected against measured" in ran.out
    assert "not that of the paper" in ran.out
    assert "(in brackets): training.epochs is 2 (4)." in ran.out
    with Run.open(tmp_path / "out" / "run.h5") as run:
        assert run.config["training"]["epochs"] == 2


def test_finished_runs_are_judged_without_training(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    config = experiment(tmp_path, "at_most = 100.0")
    runs = [
        write_run(tmp_path / name / "run.h5", elbo=elbo, model="linear-vae")
        for name, elbo in (("a", -50.0), ("b", 150.0))
    ]
    before = [path.read_bytes() for path in runs]
    ran = reproduce(config, "--from", runs[0], "--from", runs[1], "--json")
    assert ran.code == 3
    content = ran.json
    assert [run["run"] for run in content["runs"]] == [str(path) for path in runs]
    assert content["figures"] == [str(tmp_path / "a" / "mine.png"), str(tmp_path / "a" / "mine.pdf")]
    (row,) = content["expectations"]
    assert row["measured"][0] == pytest.approx(150.0, abs=5.0)
    assert (row["lower"], row["upper"], row["passed"], content["passed"]) == (None, 100.0, False, False)
    assert content["departures"]["model.latent_dim"] == {"experiment": [2], "runs": [None]}
    assert [path.read_bytes() for path in runs] == before


def test_an_analysis_of_one_run_is_made_of_each_and_of_each_replica(
    reproduce: Callable[..., Ran], tmp_path: Path
) -> None:
    more = """
[[expect]]
what = "active latents"
analysis = "collapse"
path = "replicas.0.active_by_drop"
every_replica = true
source = "as the runs were written"
value = 3
tolerance = 0
"""
    config = experiment(tmp_path, "at_most = 100.0", more)
    runs = [
        write_run(tmp_path / name / "run.h5", latent_dim=9, active=active, replicas=replicas, model="linear-vae")
        for name, active, replicas in (("a", 3, 2), ("b", 2, 1))
    ]
    ran = reproduce(config, "--from", runs[0], "--from", runs[1], "--json")
    assert ran.code == 3
    assert ran.json["expectations"][1]["measured"] == [3, 3, 2]
    assert reproduce(config, "--from", runs[0], "--json").json["expectations"][1]["passed"]
    assert re.search(
        r"active latents +3 +2 … 3 \(3\) +FAIL", reproduce(config, "--from", *[runs[0], "--from", runs[1]]).out
    )


def test_what_is_not_finite_fails(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    more = """
[[expect]]
what = "a standard error"
analysis = "stationarity"
path = "evaluations.-1.replicas.0.quantities.name=gap.standard_error"
source = "one point has none"
at_least = -1e300
"""
    config = experiment(tmp_path, "at_most = 100.0", more)
    ran = reproduce(config, "--from", write_run(tmp_path / "run.h5", points=1, model="linear-vae"))
    assert ran.code == 3
    assert re.search(r"a standard error +≥ -1e\+300 +not finite in 1 of 1 +FAIL", ran.out)


def test_the_optimum_of_a_linear_vae_meets_what_is_expected_of_verification_a(
    reproduce: Callable[..., Ran], tmp_path: Path
) -> None:
    more = """
[[expect]]
what = "ELBO above the exact optimum"
analysis = "spectrum"
path = "quantities.name=ELBO.trained"
minus = "quantities.name=ELBO.optimum"
source = "closed form"
at_least = -1e-9
at_most = 1e-9
"""
    config = experiment(tmp_path, "at_most = 100.0", more)
    text = (tmp_path / "mine.expected.toml").read_text(encoding="utf-8")
    parts = text.replace('[figure]\nanalysis = "bounds"', '[figure]\nanalysis = "spectrum"').split("[[expect]]")
    (tmp_path / "mine.expected.toml").write_text("[[expect]]".join([parts[0], parts[2]]), encoding="utf-8")
    run, _ = write_optimal_run(tmp_path / "optimal" / "run.h5", latent_dim=2)
    assert reproduce(config, "--from", run).code == 0
    saddle, _ = write_optimal_run(tmp_path / "saddle" / "run.h5", latent_dim=2, active=(0,))
    assert reproduce(config, "--from", saddle).code == 3


def test_without_a_name_the_experiments_are_listed_with_their_data_and_time(reproduce: Callable[..., Ran]) -> None:
    ran = reproduce()
    assert ran.code == 0
    assert re.search(r"^ *verification-a +generated +about \d+ min +Verification \(a\)", ran.out, re.MULTILINE)
    assert re.search(r"^ *susy +susy: needs elboverse-susy +about \d+", ran.out, re.MULTILINE)
    rows = {row["name"]: row for row in reproduce("--list", "--json").json}
    generated = {name for name, row in rows.items() if row["data"] == "generated"}
    assert {"manifold", "verification-a", "verification-c"} <= generated
    assert rows["mnist"]["data"] == "mnist: needs elboverse-images"


def test_an_unknown_experiment_is_refused_with_those_that_exist(reproduce: Callable[..., Ran]) -> None:
    ran = reproduce("verification-d")
    assert ran.code == 1
    assert (
        "Error: no experiment 'verification-d' (did you mean 'verification-c'?); give one of celeba, manifold"
        in ran.err
    )


def test_a_config_without_expectations_is_refused(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    config = experiment(tmp_path, "at_most = 1.0")
    (tmp_path / "mine.expected.toml").unlink()
    ran = reproduce(config)
    assert ran.code == 1
    assert (
        f"{tmp_path / 'mine.expected.toml'}: no such file; it says what is expected of the runs of mine.toml" in ran.err
    )


def test_an_experiment_that_cannot_be_scaled_down_says_so(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    config = experiment(tmp_path, "at_most = 1.0")
    expected = tmp_path / "mine.expected.toml"
    expected.write_text(expected.read_text(encoding="utf-8").replace('"training.epochs=2"', ""), encoding="utf-8")
    ran = reproduce(config, "--quick", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "--quick: mine has no scaled-down version; leave the option out" in ran.err


@pytest.mark.parametrize("option", [("--set", "seed=1"), ("--overwrite",)])
def test_finished_runs_are_taken_as_they_are(
    reproduce: Callable[..., Ran], tmp_path: Path, option: tuple[str, ...]
) -> None:
    ran = reproduce(experiment(tmp_path, "at_most = 1.0"), "--from", tmp_path / "run.h5", *option)
    assert ran.code == 2
    assert "--from takes runs as they are" in ran.err


def test_missing_data_are_told_before_anything_is_trained(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    ran = reproduce("mnist", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "elboverse-images provides it: pip install elboverse-images" in ran.err
    assert not (tmp_path / "out").exists()


SWEPT = """

[sweep]
"model.latent_dim" = [1, 2]
"""


def test_an_experiment_may_be_a_sweep(reproduce: Callable[..., Ran], tmp_path: Path) -> None:
    config = experiment(tmp_path, "at_most = 100.0")
    config.write_text(config.read_text(encoding="utf-8") + SWEPT, encoding="utf-8")
    ran = reproduce(config, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    paths = [tmp_path / "out" / f"latent_dim={count}" / "run.h5" for count in (1, 2)]
    assert [run["run"] for run in ran.json["runs"]] == list(map(str, paths))
    assert ran.json["departures"] == {}
    assert (tmp_path / "out" / "mine.png").is_file()
    again = reproduce(config, "--from", tmp_path / "out", "--json")
    assert again.json["expectations"] == ran.json["expectations"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "linear-vae"', 'name = "vae-1"'), "has the model 'vae-1', where mine has linear-vae"),
        (('name = "pca"', 'name = "pca-ring"'), "has the dataset 'pca-ring', where mine has pca"),
    ],
)
def test_runs_of_another_experiment_are_refused(
    reproduce: Callable[..., Ran], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = experiment(other, "at_most = 100.0")
    config.write_text(config.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    assert reproduce(config, "--out", other / "out").code == 0
    ran = reproduce(experiment(tmp_path, "at_most = 100.0"), "--from", other / "out")
    assert ran.code == 1
    assert message in ran.err


def test_limits_that_are_wider_for_the_scaled_down_experiment_say_so(
    reproduce: Callable[..., Ran], tmp_path: Path
) -> None:
    config = experiment(tmp_path, "at_most = 100.0\nquick = { at_most = 200.0 }")
    assert "an equation that is known; wider, scaled down" in reproduce(config, "--quick", "--out", tmp_path / "q").out
    assert "wider, scaled down" not in reproduce(config, "--out", tmp_path / "whole").out
