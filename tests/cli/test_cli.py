"""The command line: help, listings, exit codes, and one clear message for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from elboverse._version import __version__
from elboverse.cli import COMMANDS, main
from elboverse.components.hookspecs import HOOKS
from elboverse.config import named_configs
from elboverse.runfile import Run


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints, and check that it succeeds and complains about nothing."""
    main(list(arguments))
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of a command that fails, and check that it is one, with exit code 1 and no traceback."""
    assert exit_code(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("Error: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("arguments", [[], ["train"], ["analyze"], ["config"], ["config", "check"], ["plugins"]])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], arguments: list[str], option: str) -> None:
    assert output(capsys, *arguments, option).startswith(" ".join(["Usage: elboverse", *arguments]))


def test_the_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "--help")
    assert all(name in text and summary in text for name, (_, summary) in COMMANDS.items())


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--version") == f"elboverse, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tarin"],
        ["--nothing"],
        ["train", "--epochs", "3"],
        ["config", "chekc"],
        ["train", "a", "b"],
        ["config", "check"],
    ],
)
def test_wrong_usage_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: elboverse")


def test_without_a_command_the_help_is_shown_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code() == 2
    assert "Commands:" in capsys.readouterr().err


def test_plugins_lists_the_components_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "plugins")
    assert text.startswith(f"built-in  (elboverse {__version__})\n")
    assert {line.split()[0] for line in text.splitlines()[1:]} == set(HOOKS)


def test_plugins_as_json_holds_what_the_listing_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (built_in,) = json.loads(output(capsys, "plugins", "--json"))
    assert built_in.keys() == {"name", "distribution", "version", "failure", "components", "contract", "problems"}
    (vae,) = [one for one in built_in["components"] if one["name"] == "vae-1"]
    assert vae["kind"] == "model"


def test_plugins_tells_why_one_could_not_be_loaded(
    capsys: pytest.CaptureFixture[str], install: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(install)
    module = install("broken", "1 / 0")
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "broken")
    text = output(capsys, "plugins")
    assert "broken  (broken-dist 1.2.3)\n  could not be loaded: ZeroDivisionError: division by zero\n" in text
    assert f"{module}.py:1 in <module>" in text


def test_config_list_shows_every_shipped_config_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "config", "list").splitlines()
    assert [line.split()[0] for line in lines] == list(named_configs())
    assert all(len(line.split()) > 1 for line in lines)


def test_config_show_prints_the_whole_config_as_toml_with_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    shown = tomllib.loads(output(capsys, "config", "show", "circle", "--set", "model.latent_dim=5"))
    assert shown["model"]["latent_dim"] == 5
    assert shown["training"]["samples"] == 1


def test_config_show_without_a_name_shows_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert tomllib.loads(output(capsys, "config", "show"))["name"] == "circle"


def test_what_config_show_prints_is_a_config_without_faults(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(output(capsys, "config", "show", "circle"), encoding="utf-8")
    assert output(capsys, "config", "check", str(path)) == f"{path}: no faults\n"


def test_config_check_lists_every_fault(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('sed = 1\ndataset = "circle"\n[training]\nepochs = "many"\n', encoding="utf-8")
    text = message(capsys, "config", "check", str(path))
    assert "2 faults in the configuration" in text
    assert "sed: unknown key (did you mean 'seed'?)" in text
    assert "training.epochs: got 'many' (a string); expected an integer" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["train", "circel"], "did you mean 'circle'?"),
        (["train", "missing.toml"], "missing.toml: no such file"),
        (["train", "--set", "dataset.name=circel"], "unknown dataset 'circel'"),
        (["train", "--set", "model.name=vae-2"], "constraint: missing"),
        (["train", "--set", "model.latent_dim=2.5"], "model.latent_dim: got 2.5 (a number); expected an integer"),
        (["train", "--set", "epochs"], "give it as key.path=value"),
        (["train", "--set", "training.device=abacus"], "training.device: got 'abacus'"),
        (["train", "--set", "dataset.points=50"], "batch"),
        (["config", "show", "nowhere"], "no config 'nowhere'"),
        (["analyze", "collapse", "missing.h5"], "missing.h5: no such file"),
        (["analyze", "colapse", "missing.h5"], "did you mean 'collapse'?"),
    ],
)
def test_a_mistake_gives_one_message_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in message(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_training_and_analysing_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["training.epochs=2", "dataset.points=400", "training.batch_size=50", "training.device=cpu"]
    main(["train", "--out", str(folder), *(part for setting in settings for part in ("--set", setting))])
    text = capsys.readouterr().out
    assert text.startswith("Training vae-1 on circle: 2 epochs, batch 50, seed 0\n")
    assert text.rstrip().endswith(f"elboverse analyze collapse {folder / 'run.h5'}")
    before = (folder / "run.h5").read_bytes()
    assert "--overwrite" in message(capsys, "train", "--out", str(folder), "--set", "dataset.points=2048")
    assert (folder / "run.h5").read_bytes() == before
    found = json.loads(output(capsys, "analyze", "collapse", str(folder / "run.h5"), "--json"))
    assert found["analysis"] == "collapse"


def test_quiet_training_prints_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = ["training.epochs=1", "dataset.points=100", "training.batch_size=50", "training.device=cpu"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert output(capsys, "train", "--quiet", "--out", str(tmp_path / "run"), *arguments) == ""


SMALL = ("--set", "dataset.points=200", "--set", "training.epochs=1", "--set", "training.batch_size=50", "-q")


def test_seeds_train_one_replica_for_each(tmp_path: Path) -> None:
    main(["train", "circle", *SMALL, "--seeds", "3..5", "--out", str(tmp_path / "run")])
    run = Run.open(tmp_path / "run" / "run.h5")
    assert run.replicas == 3
    assert run.config["seed"] == 3


def test_replicas_are_short_for_their_setting(tmp_path: Path) -> None:
    main(["train", "circle", *SMALL, "--replicas", "2", "--out", str(tmp_path / "run")])
    assert Run.open(tmp_path / "run" / "run.h5").config["training"]["replicas"] == 2


@pytest.mark.parametrize("seeds", ["5..3", "1", "a..b", "1..", "-1..2"])
def test_seeds_that_are_no_range_are_refused_with_an_example(capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    assert exit_code("train", "circle", "--seeds", seeds) == 2
    assert "such as 0..99" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_output_is_told_in_a_sentence() -> None:
    command = [sys.executable, "-m", "elboverse", "config", "show", "circle"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "No space left on device" in ended.stderr


def test_training_reports_shape_and_range_of_the_users_own_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("a,b\n" + "\n".join(f"{number - 0.5},{-2 * number}" for number in range(101)))
    table = f'[dataset]\nname = "array"\npath = "{tmp_path / "own.csv"}"\nheld_out = 0.0\n'
    (tmp_path / "own.toml").write_text(table + "[training]\nepochs = 1\nbatch_size = 50\n")
    main(["train", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "101 training and 0 held-out points of shape 2, values -200 to 99.5, scaling min-max" in printed


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError(), ""),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12800 bytes. Error"),
            "12800 bytes",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has"), "20.50 GiB"),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["networks.mlp.MLPNetwork.__init__", "models.vae1.VAE1.decode"])
def test_memory_that_runs_out_is_told_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    error: Exception,
    asked: str,
) -> None:
    def failing(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(f"elboverse.builtin.{place}", failing)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--out", str(tmp_path / "run")])
    assert ended.value.code == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(
        f"Error: out of memory, {asked} were asked for" if asked else "Error: out of memory; take"
    )


@pytest.mark.parametrize("where", ["model.latent_dim=10000000", "model.network.hidden=[10000000]"])
def test_an_absurd_size_of_a_model_is_refused_before_memory_is_asked_for(
    capsys: pytest.CaptureFixture[str], where: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", "show", "--set", where])
    assert ended.value.code == 1
    assert "expected a number ≥ 1 and ≤ 1e+06" in capsys.readouterr().err


def test_a_mistyped_command_is_told_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2
    assert "no command 'trian' (did you mean 'train'?); there is analyze, choose-h, config" in capsys.readouterr().err


def test_a_warning_of_ours_is_one_plain_line_wherever_it_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("counts.csv").write_text("a,b\n" + "1,2\n3,0\n0,1\n2,2\n" * 10, encoding="utf-8")
    settings = ["training.epochs=1", "training.until=epochs", "training.batch_size=10"]
    with warnings.catch_warnings():  # what the command line sets is undone
        warnings.simplefilter("default")
        main(["train", "counts.csv", "--out", "r", "-q", *(word for one in settings for word in ("--set", one))])
    shown = [line for line in capsys.readouterr().err.splitlines() if "whole numbers" in line]
    assert [line.partition(": ")[0] for line in shown] == ["Warning"]


def test_an_analysis_typed_as_a_command_is_told_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["collapse", "run.h5"])
    assert ended.value.code == 2
    assert "no command 'collapse' (did you mean `elboverse analyze collapse`?)" in capsys.readouterr().err
