"""``elboverse report``: one page that says all there is to say about a run, readable without a network or a server."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click

import elboverse
from elboverse import contracts
from elboverse.analysis.making import analysed
from elboverse.analysis.reading import Reading
from elboverse.cli.options import structured
from elboverse.cli.tables import formatted
from elboverse.components.registry import Registered, Registry, discover
from elboverse.contracts import Result
from elboverse.errors import AnalysisError, ElboverseError
from elboverse.files import replaced
from elboverse.runfile import Run, located

__all__ = ["page", "report"]

_LARGEST_SVG: Final = 400_000
"""Bytes of a vector figure beyond which its picture is smaller and faster to show."""

_FIRST: Final = ("bounds", "collapse", "stationarity", "samples")
"""The analyses that a reader wants first; the others follow by name."""

_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load: nothing but what is inside."""

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
nav a { margin-right: 1rem; }
a { color: #0072B2; }
img { width: 100%; max-width: 52rem; height: auto; display: block; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #eee; vertical-align: bottom; }
th { border-bottom: 1px solid #999; }
td.text, th.text { text-align: left; }
.about, .command { color: #666; }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; }
"""


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the page; report.html beside the run file if not given.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where the data of the run are now, if they have moved; they must be the same.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
def report(run: Path, out: Path | None, data: Path | None, *, overwrite: bool) -> None:
    """Write a page about RUN.h5, or the run in a folder: what every analysis that applies says, and the config.

    The page is one HTML file that loads nothing: figures are inside it.
    """
    run = located(run)
    out = run.with_name("report.html") if out is None else out
    if out.suffix.lower() not in {".html", ".htm"}:
        raise AnalysisError(
            f"--out {out}: got a file of type {out.suffix!r}; expected .html, which a browser can print"
        )
    if out.exists() and not overwrite:
        raise AnalysisError(f"{out}: already exists; give --overwrite to replace it, or another file with --out")
    if not out.parent.is_dir():
        raise AnalysisError(f"--out: the folder {out.parent} does not exist; create it first")
    with Run.open(run) as opened:
        content = page(opened.with_data(data), discover())
    try:
        with replaced(out) as temporary:
            temporary.write_text(content, encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"--out: {out} cannot be written: {error.strerror}") from error
    click.echo(out)


def page(run: Run, registry: Registry) -> str:
    """Return the page about a run.

    Args:
        run: any.
        registry: its analyses are made, with the options' defaults; those that do not apply are listed with the reason.
    """
    sections, left_out = [], []
    for registered in _in_order(registry):
        try:
            with Run.open(run.path) as own:  # so that what an analysis does to its run does not reach the next
                sections.append((registered.name, _section(registered, registry, own)))
        except ElboverseError as error:
            left_out.append((registered.name, str(error)))
    name = run.config.get("name")
    title = name if isinstance(name, str) and name else run.path.name
    links = "".join(f'<a href="#{_escaped(name)}">{_escaped(name)}</a>' for name, _ in sections)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_escaped(title)}: elboverse</title><style>{_STYLE}</style></head><body>",
            f"<h1>{_escaped(title)}</h1>",
            f'<p class="about">{_escaped(_about(run))}</p>',
            *(f"<p><strong>{_escaped(sentence)}</strong></p>" for sentence in Reading(run).verdict()),
            f"<nav>{links}</nav>",
            *(section for _, section in sections),
            _left_out(left_out),
            _document("Config", run.config),
            _components(run),
            _document("Data", run.data),
            _document("Environment", run.environment),
            "</body></html>",
            "",
        ]
    )


def _in_order(registry: Registry) -> Iterable[Registered]:
    names = registry.names("analysis")
    first = [name for name in _FIRST if name in names]
    return [registry.find("analysis", name) for name in (*first, *(name for name in names if name not in first))]


def _about(run: Run) -> str:
    steps = int(run.steps[-1]) + 1 if len(run.steps) else 0
    replicas = f", {run.replicas} replicas" if run.replicas > 1 else ""
    return (
        f"{run.path}: {run.status}, {steps:,} steps recorded{replicas}, {run.latent_dim} latents; started "
        f"{run.created} with elboverse {run.elboverse_version}; reported by elboverse {elboverse.__version__}"
    )


def _section(registered: Registered, registry: Registry, run: Run) -> str:
    config = registered.config_class()
    required = [field.name for field in attrs.fields(config) if field.init and field.default is attrs.NOTHING]
    if required:
        raise AnalysisError(f"needs --{required[0].replace('_', '-')}, which a report cannot choose")
    result = analysed(registered, structured(registry, config, {}), (run,))
    tables: tuple[Result | contracts.Table, ...] = (result, *result.further)
    name = _escaped(registered.name)
    summary = registered.component.summary
    return "\n".join(
        [
            f'<section id="{name}"><h2>{name}: {_escaped(summary)}</h2>',
            _figure(registered.name, result),
            *(f"<p>{_escaped(note)}</p>" for note in result.notes),
            *(_table(table) for table in tables),
            f'<p class="command"><code>elboverse analyze {name} {_escaped(str(run.path))}</code></p></section>',
        ]
    )


def _figure(name: str, result: Result) -> str:
    if result.draw is None:
        return ""
    from elboverse.analysis.style import render  # matplotlib, which only a figure needs

    figure = result.draw()
    kind, content = "svg+xml", render(figure, ".svg")
    if len(content) > _LARGEST_SVG:
        kind, content = "png", render(figure, ".png")
    encoded = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{encoded}" alt="figure of {_escaped(name)}">'


def _table(table: Result | contracts.Table) -> str:
    if not table.rows:
        return f"<p>{_escaped(table.title)}</p>"
    columns = [list(column) for column in zip(*table.rows, strict=True)]
    classes = [' class="text"' if all(isinstance(value, str | bool) for value in column) else "" for column in columns]
    heads = "".join(f"<th{kind}>{_escaped(name)}</th>" for kind, name in zip(classes, table.columns, strict=True))
    cells = [
        [f"<td{kind}>{_escaped(text)}</td>" for text in formatted(column)]
        for kind, column in zip(classes, columns, strict=True)
    ]
    rows = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
    opened = " open" if len(table.rows) <= 12 else ""
    return (
        f'<details{opened}><summary>{_escaped(table.title)}</summary><div class="wide"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div></details>"
    )


def _left_out(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{_escaped(name)}: {_escaped(reason)}</li>" for name, reason in left_out)
    return f"<h2>Left out</h2><ul>{items}</ul>"


def _document(title: str, document: Mapping[str, Any]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return f"<h2>{_escaped(title)}</h2><details><summary>as recorded</summary><pre>{_escaped(text)}</pre></details>"


def _components(run: Run) -> str:
    parts = [part for part in run.components if isinstance(part, dict)]
    columns = ("kind", "name", "plugin", "distribution", "version")
    table = contracts.Table(
        title="components with their plugins",
        columns=columns,
        rows=[tuple(str(part.get(column, "–")) for column in columns) for part in parts],
    )
    return f"<h2>Plugins</h2>{_table(table)}"


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
