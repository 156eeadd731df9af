"""``elboverse report``: a page of its own, complete and escaped, that a browser shows without complaint."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.builders import configure
from support.run_samples import sample
from support.synthetic_runs import write_run
from support.trained_runs import write_trained_run

from elboverse.cli import main

VOID = {"meta", "img"}


class Page(html.parser.HTMLParser):
    """What a page holds, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def sources(self) -> list[str]:
        return [value for _, name, value in self.attributes if name == "src"]


def report(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Path:
    main(["report", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return Path(captured.out.strip())


def message(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["report", *(str(argument) for argument in arguments)])
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_a_report_has_every_analysis_that_applies_and_says_why_others_do_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = Page(report(capsys, write_trained_run(tmp_path / "run.h5", configure("vae-1"))).read_text(encoding="utf-8"))
    sections = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert sections == ["collapse", "stationarity", "samples", "latents", "spectrum", "variance"]
    assert len(page.sources) == len(sections)
    text = " ".join(page.texts)
    assert "bounds is drawn from recorded steps" in text
    assert "compare needs at least two runs" in text
    assert re.search(r"vae-1\s+built-in\s+elboverse\s+0", text)
    assert '"latent_dim": 2' in text
    assert '"python"' in text


def test_a_report_without_the_model_has_what_the_trajectories_tell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = report(capsys, write_run(tmp_path / "run.h5")).read_text(encoding="utf-8")
    assert [part for part in ("bounds", "collapse", "stationarity") if f'<section id="{part}">' in text] == [
        *("bounds", "collapse", "stationarity")
    ]
    assert "the trained model cannot be rebuilt" in text
    assert re.search(r"<p>Averaged over the last 40 recorded steps: ELBO \d", text)


def test_a_report_loads_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = Page(report(capsys, write_run(tmp_path / "run.h5")).read_text(encoding="utf-8"))
    assert page.sources
    assert all(re.match(r"data:image/(svg\+xml|png);base64,", source) for source in page.sources)
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert any("default-src 'none'" in value for _, _, value in page.attributes)


def test_everything_in_a_run_is_escaped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hostile = "</pre><script>alert('&')</script>"
    documents = {
        "config": {"name": hostile, "model": {"name": hostile}},
        "environment": {"device": hostile},
        "components": [{"kind": hostile, "name": hostile}, 3],
        "data": {"unit": hostile},
    }
    path = sample(tmp_path / "run.h5", documents=documents)
    page = Page(report(capsys, path).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert any(hostile in text for text in page.texts)


def test_a_report_is_not_written_over_a_file_unasked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5")
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert "give --overwrite" in message(capsys, path, "--out", out)
    assert out.read_text() == "mine"
    assert report(capsys, path, "-o", out, "--overwrite") == out
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "nowhere does not exist" in message(capsys, path, "--out", tmp_path / "nowhere" / "page.html")


def test_an_empty_run_has_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.h5", steps=0, evaluations=0, status="running")
    text = report(capsys, path).read_text(encoding="utf-8")
    assert "<section" not in text
    assert "no evaluation is recorded" in text


def test_a_browser_shows_a_report_without_complaint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = report(capsys, write_run(tmp_path / "run.h5"))
    picture = tmp_path / "page.png"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    shown = ("--enable-logging=stderr", f"--screenshot={picture}", "--window-size=1000,1400", page.as_uri())
    done = subprocess.run([browser, *quiet, folder, *shown], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
