"""``elboverse evaluate`` and ``elboverse judge``: a trained model on held-out points."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from elboverse.errors import AnalysisError, DataError

if TYPE_CHECKING:
    from elboverse.integrations.judging import KeptReport, Report

__all__ = ["evaluate", "judge"]

_POINTS = click.option(
    "--points", type=click.IntRange(1), default=1000, show_default=True, help="Points of the bounds."
)
_SAMPLES = click.option(
    "--samples", type=click.IntRange(2), default=1000, show_default=True, help="Samples per point, k."
)
_GAPS = click.option("--gaps", is_flag=True, help="Split the gap into that of q's family and that of the encoder.")
_DEQUANTISED = click.option(
    "--dequantised", is_flag=True, help="The data are integers with uniform noise added: give bits per dimension."
)
_FIGURE = click.option("--figure", type=click.Path(path_type=Path), metavar="FILE.pdf|png|svg", help="Draw the bounds.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--replica", type=click.IntRange(0), default=0, show_default=True, help="Number of the replica.")
@_POINTS
@_SAMPLES
@_GAPS
@_DEQUANTISED
@_FIGURE
@_JSON
def evaluate(
    path: Path,
    replica: int,
    points: int,
    samples: int,
    gaps: bool,
    dequantised: bool,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Bound ln p(x) of held-out points under the trained model of a run, and say how far to trust the bounds."""
    from elboverse.cli.figures import check_figure
    from elboverse.integrations.evaluating import evaluate_run  # torch, not at start-up
    from elboverse.runfile import Run

    if figure is not None:
        check_figure(figure)
    with Run.open(path) as run:
        report = evaluate_run(
            run,
            replica,
            points=points,
            samples=samples,
            gaps=gaps,
            dequantised=dequantised,
            progress=_progress,
        )
        _show(report, figure, as_json)


@click.command()
@click.argument("model", metavar="FILE.py:NAME")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Held-out points: .npy or .csv.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write a run file into this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the run file that is there.")
@_POINTS
@_SAMPLES
@_GAPS
@_DEQUANTISED
@_FIGURE
@_JSON
def judge(
    model: str,
    data: Path,
    out: Path | None,
    overwrite: bool,
    points: int,
    samples: int,
    gaps: bool,
    dequantised: bool,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Judge an already trained model: NAME in FILE.py has encode, decode (or None) and, if not N(0, I), a prior."""
    import torch  # not at start-up

    from elboverse.integrations.judging import judge as judged

    subject = _attribute(model)
    if not callable(getattr(subject, "encode", None)) or not hasattr(subject, "decode"):
        raise DataError(
            f"{model}: got a {type(subject).__name__} without encode and decode; expected an object with both"
        )
    report = judged(
        subject.encode,
        subject.decode,
        torch.from_numpy(_array(data)).to(torch.get_default_dtype()),
        prior=getattr(subject, "prior", None),
        points=points,
        samples=samples,
        gaps=gaps,
        dequantised=dequantised,
        name=model.rpartition(":")[2],
        progress=_progress,
    )
    written = None if out is None else report.save(out, overwrite=overwrite)
    _show(report, figure, as_json)
    if written is not None:
        click.echo(f"Run file: {written}", err=as_json)


def _progress(stage: str) -> None:
    click.echo(f"… {stage}", err=True)


def _show(report: Report | KeptReport, figure: Path | None, as_json: bool) -> None:
    from elboverse.cli.figures import check_figure, write_figure
    from elboverse.cli.tables import print_result

    result = report.result()
    if figure is not None:
        check_figure(figure)
        if result.draw is None:
            raise AnalysisError("--figure: a model without a likelihood has no bounds to draw; leave the option out")
        write_figure(result.draw, figure)
    if as_json:
        click.echo(
            json.dumps({"notes": list(result.notes), **_finite(dict(result.data))}, indent=2, ensure_ascii=False)
        )
    else:
        print_result(result, sys.stdout)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _attribute(text: str) -> Any:
    """Return NAME of FILE.py:NAME, or of an importable module:NAME.

    Raises:
        DataError: no such file, module or name exists.
    """
    source, colon, name = text.rpartition(":")
    if not colon or not source or not name:
        raise DataError(f"{text}: expected FILE.py:NAME, such as my_models.py:vae")
    if source.endswith(".py"):
        path = Path(source)
        if not path.is_file():
            raise DataError(f"{source}: no such file; expected the Python file that defines {name}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise DataError(f"{source}: cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent.absolute()))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise DataError(f"{source}: cannot be imported: {type(error).__name__}: {error}") from error
    else:
        try:
            module = importlib.import_module(source)
        except ImportError as error:
            raise DataError(f"{source}: cannot be imported: {error}") from error
    if not hasattr(module, name):
        raise DataError(f"{source}: has no {name!r}; expected the name of an object with encode and decode")
    return getattr(module, name)


def _array(path: Path) -> Any:
    import numpy as np  # not at start-up

    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    raise DataError(f"{path}: got {path.suffix or 'no suffix'}; expected a .npy or .csv file of points (N, …)")
