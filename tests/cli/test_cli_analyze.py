"""``elboverse analyze``: options from attrs classes, tables, JSON, figures, and messages for what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.synthetic_runs import write_run

from elboverse.cli import main
from elboverse.cli.tables import formatted

ROOT = Path(__file__).parents[2]


class Ran:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def elboverse(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs the command line in this process."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run.h5", latent_dim=12, active=3)


def test_the_analyses_are_listed_with_their_summaries(elboverse: Callable[..., Ran]) -> None:
    shown = elboverse("analyze", "--help").out
    for name in ("bounds", "collapse", "stationarity"):
        assert re.search(rf"^  {name}  +\w", shown, re.MULTILINE)


def test_the_fields_of_an_analysis_are_its_options(elboverse: Callable[..., Ran]) -> None:
    shown = " ".join(elboverse("analyze", "collapse", "--help").out.split())
    assert "--threshold FLOAT" in shown
    assert "--drop-threshold FLOAT" in shown
    assert "[default: 0.4189]" in shown
    assert "--replica INTEGER" in shown
    assert "an existing file is replaced" in shown


def test_collapse_shows_every_latent_uncut_and_uncoloured(elboverse: Callable[..., Ran], run_file: Path) -> None:
    ran = elboverse("analyze", "collapse", run_file)
    assert ran.code == 0
    assert ran.err == ""
    rows = re.findall(r"^ +(\d+) .*(?:active|collapsed)", ran.out, re.MULTILINE)
    assert sorted(map(int, rows)) == list(range(12))
    assert "…" not in ran.out
    assert "\x1b" not in ran.out


def test_an_option_changes_what_it_says(elboverse: Callable[..., Ran], run_file: Path) -> None:
    assert "(the paper's criterion): 3 of 12" in elboverse("analyze", "collapse", run_file).out
    shown = elboverse("analyze", "collapse", run_file, "--threshold", "-9").out
    assert "encoder entropy < -9 (the paper's criterion): 0 of 12" in shown


@pytest.mark.parametrize("analysis", ["bounds", "collapse", "stationarity"])
def test_json_is_all_that_is_printed(elboverse: Callable[..., Ran], run_file: Path, analysis: str) -> None:
    figure = run_file.with_name("figure.svg")
    ran = elboverse("analyze", analysis, run_file, "--json", "--figure", figure)
    content = json.loads(ran.out)
    described = content["runs"][0] if analysis == "bounds" else content
    assert (content["analysis"], described["run"], described["status"]) == (analysis, str(run_file), "finished")
    assert content["notes"]
    assert ran.err == f"Figure: {figure}\n"


def test_the_keys_of_collapse_in_json_are_those_documented(elboverse: Callable[..., Ran], run_file: Path) -> None:
    content = json.loads(elboverse("analyze", "collapse", run_file, "--json").out)
    assert list(content) == [
        *("analysis", "run", "status", "notes"),
        *("threshold", "drop_threshold", "ceiling", "source", "latent_dim", "replicas", "criteria"),
    ]
    assert list(content["criteria"][0]) == [*("criterion", "threshold", "active", "values", "standard_errors", "sweep")]
    assert list(content["replicas"][0]) == [
        *("replica", "active_by_threshold", "active_by_drop", "active_units", "latents")
    ]
    assert list(content["replicas"][0]["latents"][0]) == [
        *("latent", "encoder_entropy", "prior_entropy", "entropy_drop", "kl", "mean_variance"),
        *("collapsed_by_threshold", "collapsed_by_drop"),
    ]


def test_a_number_that_is_not_finite_is_null_in_json(elboverse: Callable[..., Ran], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", points=1)
    content = json.loads(elboverse("analyze", "stationarity", path, "--json").out)
    assert content["evaluations"][-1]["replicas"][0]["quantities"][0]["standard_error"] is None


@pytest.mark.parametrize(("suffix", "start"), [(".pdf", b"%PDF"), (".png", b"\x89PNG"), (".SVG", b"<?xml")])
def test_a_figure_is_written_in_the_format_of_its_suffix_over_an_existing_file(
    elboverse: Callable[..., Ran], run_file: Path, suffix: str, start: bytes
) -> None:
    figure = run_file.with_name(f"figure{suffix}")
    figure.write_text("old")
    ran = elboverse("analyze", "bounds", run_file, "--figure", figure)
    assert ran.out.endswith(f"Figure: {figure}\n")
    assert figure.read_bytes().startswith(start)
    assert {file.name for file in run_file.parent.iterdir() if "tmp" in file.name} == set()


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("figure.gif", "expected a file that ends in .pdf, .png, .svg"),
        ("figure", "expected a file that ends in .pdf, .png, .svg"),
        ("nowhere/figure.pdf", "nowhere does not exist"),
        ("folder.pdf", "is a folder"),
    ],
)
def test_a_figure_that_cannot_be_written_is_refused_before_any_work(
    elboverse: Callable[..., Ran], tmp_path: Path, figure: str, message: str
) -> None:
    (tmp_path / "folder.pdf").mkdir()
    ran = elboverse("analyze", "collapse", tmp_path / "missing.h5", "--figure", tmp_path / figure)
    assert ran.code == 1
    assert ran.out == ""
    assert message in ran.err
    assert "missing.h5" not in ran.err


def test_a_figure_that_fails_to_be_drawn_leaves_the_existing_file(
    elboverse: Callable[..., Ran], install: Callable[..., str], run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELBOVERSE_LOAD_PLUGINS")
    install("undrawable", PLUGIN.format(name="undrawable", options="", result=_RESULT.format("{}", "lambda: 1 / 0")))
    figure = run_file.with_name("figure.pdf")
    figure.write_text("old")
    ran = elboverse("analyze", "undrawable", run_file, "--figure", figure)
    assert ran.code == 1
    assert "ZeroDivisionError" in ran.err
    assert figure.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop-threshold", "-1"], "--drop-threshold: got -1.0; expected a number ≥ 0"),
        (["--threshold", "nan"], "--threshold: got nan (a number); expected a finite number"),
        (["--threshold", "high"], "'high' is not a valid float"),
        (["--replica", "1"], "replica 1; expected 0 … 0, since the run has 1 replica"),
        (["--treshold", "1"], "No such option"),
    ],
)
def test_a_wrong_option_is_one_clear_message(
    elboverse: Callable[..., Ran], run_file: Path, arguments: list[str], message: str
) -> None:
    ran = elboverse("analyze", "collapse", run_file, *arguments)
    assert ran.code in {1, 2}
    assert ran.out == ""
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_an_unknown_analysis_is_told_with_those_that_exist(elboverse: Callable[..., Ran], run_file: Path) -> None:
    ran = elboverse("analyze", "colapse", run_file)
    assert ran.code == 1
    assert "did you mean 'collapse'?" in ran.err
    assert "Known: animate, bounds, collapse, " in ran.err


def test_an_analysis_of_several_runs_takes_several_files(elboverse: Callable[..., Ran], tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, seed=seed) for seed, name in enumerate(("a.h5", "b.h5"))]
    shown = elboverse("analyze", "compare", "--help").out
    assert "RUN.h5 ..." in shown
    ran = elboverse("analyze", "compare", *paths)
    assert ran.code == 0
    assert re.search(r"^ +a\.h5 .*\n +b\.h5 ", ran.out, re.MULTILINE)
    content = json.loads(elboverse("analyze", "bounds", *paths, "--json").out)
    assert content["runs"] == [{"run": str(path), "status": "finished"} for path in paths]


def test_an_analysis_of_one_run_refuses_two(elboverse: Callable[..., Ran], run_file: Path) -> None:
    ran = elboverse("analyze", "collapse", run_file, run_file)
    assert ran.code == 2
    assert "unexpected extra argument" in ran.err


def test_more_than_one_table_is_printed_with_titles(elboverse: Callable[..., Ran], tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"{model}.h5", model=model) for model in ("vae-1", "vae-2")]
    ran = elboverse("analyze", "compare", *paths)
    assert re.search(r"^What differs in their configs\n[^|]+ model\.name +vae-1 +vae-2", ran.out, re.MULTILINE)


@pytest.mark.parametrize("content", [None, b"", b"not a run", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_a_file_that_is_no_run_is_one_clear_message(
    elboverse: Callable[..., Ran], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "run.h5"
    if content is not None:
        path.write_bytes(content)
    ran = elboverse("analyze", "collapse", path)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("Error: ")
    assert str(path) in ran.err


def test_a_truncated_run_is_one_clear_message(elboverse: Callable[..., Ran], run_file: Path) -> None:
    image = run_file.read_bytes()
    run_file.write_bytes(image[: len(image) // 2])
    ran = elboverse("analyze", "collapse", run_file)
    assert ran.code == 1
    assert str(run_file) in ran.err
    assert run_file.read_bytes() == image[: len(image) // 2]


# Analyses of plugins

PLUGIN = """
    from pathlib import Path
    from typing import Literal

    import attrs

    from elboverse.contracts import Result
    from elboverse.components.hookspecs import Component, hookimpl

    @attrs.frozen(kw_only=True)
    class Options:
        pass
        {options}

    def build(options, run):
        return {result}

    @hookimpl
    def elboverse_analyses():
        return [Component("{name}", Options, build, "what a plugin offers")]
"""

_RESULT = 'Result(title="title", columns=(), rows=(), data={}, draw={})'


@pytest.fixture
def plugin(install: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that installs a plugin with the analysis ``mine``."""
    monkeypatch.delenv("ELBOVERSE_LOAD_PLUGINS")

    def installed(*options: str, result: str = _RESULT.format("{}", "None")) -> None:
        lines = "\n        ".join(options)
        install("mine", PLUGIN.format(name="mine", options=lines, result=result))

    return installed


def test_fields_of_every_supported_type_reach_the_analysis(
    elboverse: Callable[..., Ran], plugin: Callable[..., None], run_file: Path
) -> None:
    plugin(
        "count: int",
        "scale: float | None = None",
        "label: str = 'a'",
        "folder: Path = Path('here')",
        "smooth: bool = True",
        "kind: Literal['mean', 'median'] = 'mean'",
        "levels: tuple[float, ...] = attrs.field(factory=tuple)",
        "window: tuple[int, int] = (0, 1)",
        result=_RESULT.format("{'given': repr(options), 'path': isinstance(options.folder, Path)}", "None"),
    )
    assert "--smooth / --no-smooth" in elboverse("analyze", "mine", "--help").out
    ran = elboverse(
        *("analyze", "mine", run_file, "--json", "--count", "3", "--scale", "0.5", "--no-smooth"),
        *("--folder", "there", "--kind", "median", "--levels", "1", "--levels", "2", "--window", "4", "5"),
    )
    given = json.loads(ran.out)["given"]
    assert "count=3, scale=0.5, label='a'" in given
    assert "smooth=False, kind='median', levels=(1.0, 2.0), window=(4, 5)" in given
    assert json.loads(ran.out)["path"] is True
    assert elboverse("analyze", "mine", run_file, "--json", "--count", "3").code == 0
    assert "Missing option '--count'" in elboverse("analyze", "mine", run_file).err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("table: dict[str, int] = attrs.field(factory=dict)", "no command-line option can have"),
        ("mixed: int | str = 1", "no command-line option can have"),
        ("figure: str = ''", "may not be called figure"),
    ],
)
def test_a_field_that_cannot_be_an_option_is_the_plugins_fault(
    elboverse: Callable[..., Ran], plugin: Callable[..., None], run_file: Path, option: str, message: str
) -> None:
    plugin(option)
    ran = elboverse("analyze", "mine", run_file)
    assert ran.code == 1
    assert message in ran.err
    assert "mine-dist" in ran.err


@pytest.mark.parametrize(
    ("result", "arguments", "message"),
    [
        ("42", [], "must return a contracts.Result, not 42"),
        (_RESULT.format("{'key': {1, 2}}", "None"), ["--json"], "its data is not JSON"),
        (_RESULT.format("{}", "None"), ["--figure", "figure.pdf"], "has no figure"),
    ],
)
def test_a_result_that_cannot_be_used_is_one_clear_message(
    elboverse: Callable[..., Ran],
    plugin: Callable[..., None],
    run_file: Path,
    result: str,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin(result=result)
    monkeypatch.chdir(run_file.parent)
    ran = elboverse("analyze", "mine", run_file, *arguments)
    assert ran.code == 1
    assert message in ran.err
    assert ran.out == ""


def test_an_analysis_that_cannot_be_imported_does_not_hide_the_others(
    elboverse: Callable[..., Ran], install: Callable[..., str], run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELBOVERSE_LOAD_PLUGINS")
    install(
        "broken",
        """
        from elboverse.components.hookspecs import Component, hookimpl

        @hookimpl
        def elboverse_analyses():
            return [Component("broken", "no_such_module:Options", "no_such_module:build", "cannot be imported")]
        """,
    )
    assert "cannot be imported" in elboverse("analyze", "--help").out
    assert elboverse("analyze", "collapse", run_file).code == 0
    ran = elboverse("analyze", "broken", run_file)
    assert ran.code == 1
    assert "cannot import 'no_such_module:Options'" in ran.err


# Tables


def test_cells_of_a_column_share_their_decimals_and_nothing_small_is_shown_as_zero() -> None:
    assert formatted([1.0, 2.25, None]) == ["1.00", "2.25", "–"]
    assert formatted([0.123456, -7.0, 1e-9, 0.0]) == ["0.1235", "-7.0000", "1.0e-09", "0.0000"]
    assert formatted([123456.789, 1.0]) == ["123,456.8", "1.0"]
    assert formatted([float("nan"), float("inf")]) == ["–", "inf"]
    assert formatted([12000, True, "text"]) == ["12,000", "yes", "text"]


# Start-up


@pytest.mark.parametrize("figure", [False, True])
@pytest.mark.parametrize("analysis", ["bounds", "collapse", "compare", "stationarity"])
def test_an_analysis_of_what_is_recorded_imports_no_torch_and_matplotlib_only_for_a_figure(
    run_file: Path, analysis: str, figure: bool
) -> None:
    arguments = ["analyze", analysis, str(run_file), *([str(run_file)] if analysis == "compare" else [])]
    if figure:
        arguments += ["--figure", str(run_file.with_name("figure.pdf"))]
    code = (
        "import sys; from elboverse.cli import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'matplotlib', 'matplotlib.pyplot', 'tensorboard'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == ("['matplotlib']" if figure else "[]")


@pytest.mark.parametrize("command", [["analyze", "collapse"], ["analyze", "compare"], ["report"], ["export"]])
def test_a_run_is_given_by_its_folder_or_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    file = write_run(tmp_path / "run" / "run.h5")
    several = 2 if "compare" in command else 1
    main([*command, *[str(file)] * several])
    by_file = capsys.readouterr().out
    main([*command, *[str(file.parent)] * several, *(["--overwrite"] if len(command) == 1 else [])])
    assert capsys.readouterr().out == by_file


@pytest.mark.parametrize(
    ("latents", "named"), [([3], [3]), ([1, 2], [1, 2]), ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, None])], ids=str
)
def test_the_folder_of_a_sweep_is_no_run_and_its_runs_are_named(
    elboverse: Callable[..., Ran], tmp_path: Path, latents: list[int], named: list[int | None]
) -> None:
    (tmp_path / "sweep.toml").write_text(
        f'[dataset]\nname = "circle"\n[model]\nname = "vae-1"\n[sweep]\n"model.latent_dim" = {latents}\n'
    )
    ran = elboverse("analyze", "collapse", tmp_path)
    shown = ", ".join("…" if latent is None else f"{tmp_path}/latent_dim={latent}" for latent in named)
    message = f"{tmp_path} is the folder of a sweep, and this analysis reads one run; give one of {shown}"
    assert (ran.code, ran.err) == (1, f"Error: {message}\n")
