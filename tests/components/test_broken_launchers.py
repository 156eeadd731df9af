"""Launchers that break their contract: told with distribution and version, and what was trained is kept."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from elboverse.cli import main
from elboverse.runfile import Run

LAUNCHER = """
import sys, attrs
from elboverse import Component, hookimpl
from elboverse.contracts import Outcome, Progress

@attrs.frozen
class Options:
    pass

class Tried:
    def __init__(self, options):
        pass

    def check(self):
        pass

    def stop(self):
        pass

    def launch(self, jobs, perform):
        for job in jobs:
            yield perform(job)

{body}

@hookimpl
def elboverse_launchers():
    return [Component("tried", Options, Tried, "a launcher that is tried")]
"""

SWEEP = {
    "model": {"name": "linear-vae"},
    "dataset": {"name": "pca", "points": 80, "dimension": 3},
    "training": {"epochs": 1, "batch_size": 20, "device": "cpu"},
    "sweep": {"model.latent_dim": [1, 2]},
}

# What the class does beside `Tried`, a part of the sentence that is told, and how many runs are kept.
BROKEN = {
    "no launcher": ("Tried = lambda options: 3", "got a int, which has no check and no launch and no stop", 0),
    "raises when built": ("def __init__(self, options): raise KeyError('oops')", "failed: KeyError: 'oops'", 0),
    "raises when checked": ("def check(self): raise OSError('no cluster')", "failed: OSError: no cluster", 0),
    "yields something else": ("def launch(self, jobs, perform): yield 3", "launch yields 3; expected Progress or", 0),
    "returns something else": ("def launch(self, jobs, perform): return 3", "launch must yield Progress and", 0),
    "tells of another run": (
        "def launch(self, jobs, perform): yield Outcome(name='other', status='finished')",
        "it tells of a run 'other'; expected one of latent_dim=1, latent_dim=2",
        0,
    ),
    "another status": (
        "def launch(self, jobs, perform): yield Outcome(name=jobs[0].name, status='done')",
        "has status 'done'; expected 'finished', 'failed'",
        0,
    ),
    "raises amid a study": (
        """
        def launch(self, jobs, perform):
            yield perform(jobs[0])
            sys.exit('bye')
        """,
        "failed: SystemExit: bye",
        1,
    ),
    "says finished without training": (
        "def launch(self, jobs, perform): yield from (Outcome(name=job.name, status='finished') for job in jobs)",
        "says that it is finished, but it left no run file; perform(job) trains it",
        0,
    ),
    "forgets a run": ("def launch(self, jobs, perform): yield perform(jobs[0])", "never told how it ended", 1),
}


@pytest.mark.parametrize(("body", "sentence", "kept"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_launcher_is_told_and_what_was_trained_is_kept(
    tmp_path: Path,
    install: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    sentence: str,
    kept: int,
) -> None:
    code = textwrap.dedent(body)
    if not body.startswith("Tried"):
        code = "class Tried(Tried):\n" + textwrap.indent(code, "    ")
    install("tried", LAUNCHER.format(body=code))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "tried")
    (tmp_path / "study.toml").write_text(tomli_w.dumps(SWEEP), encoding="utf-8")
    out = tmp_path / "study"
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tmp_path / "study.toml"), "--launcher", "tried", "--out", str(out)])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert "launcher 'tried' of plugin tried (tried-dist 1.2.3)" in told
    assert "Traceback" not in told
    files = sorted(out.glob("*/run.h5"))
    assert len(files) == kept
    for file in files:
        assert Run.open(file).status == "finished"
        assert f"elboverse train --resume {out}" in told
