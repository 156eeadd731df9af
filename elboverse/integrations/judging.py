"""``elboverse.judge``: an already trained model, three callables and data, and what is to be said of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from elboverse.contracts import Result, Table
from elboverse.integrations.assessing import Assessment, assess
from elboverse.integrations.keeping import Keeper
from elboverse.integrations.points import Callables, as_points, evaluation_of
from elboverse.integrations.reporting import document_of, result_of, result_of_document
from elboverse.runfile import RUN_FILE

__all__ = ["KeptReport", "Report", "judge", "report_of"]


def _text(result: Result) -> str:
    from rich.console import Console  # only to print

    text = io.StringIO()
    console = Console(file=text, width=100, no_color=True, highlight=False, markup=False)
    tables: tuple[Result | Table, ...] = (result, *result.further)
    for table in tables:
        console.print(f"{table.title}\n{'  '.join(table.columns)}")
        for row in table.rows:
            console.print("  ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    for note in result.notes:
        console.print(note)
    return text.getvalue()


@attrs.frozen(eq=False)
class KeptReport:
    """A report that a run file holds: what was said when the model was judged.

    Args:
        document: of the run file.
        name: of the model.
    """

    document: dict[str, Any]
    name: str

    def __str__(self) -> str:
        return _text(self.result())

    def result(self) -> Result:
        """Return tables, notes, numbers and figure, as an analysis does."""
        return result_of_document(self.document, self.name)


@attrs.frozen(eq=False)
class Report:
    """What was found, to print, to draw and to save.

    Args:
        assessment: the numbers.
        name: of the model.
    """

    assessment: Assessment
    name: str

    def __str__(self) -> str:
        return _text(self.result())

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run file that every analysis reads, and return its path.

        Args:
            path: a folder, or a path that ends in ``.h5``.
            overwrite: replace what is there.

        Raises:
            RunFileError: it exists, or cannot be written.
        """
        path = Path(path)
        file = (path if path.suffix == ".h5" else path / RUN_FILE).absolute()
        keeper = Keeper(file, name=self.name, resume=False, step=None, overwrite=overwrite, interval=0.0, sinks=())
        try:
            table = self.assessment.table
            keeper.dimension, keeper.latent_dim = self.assessment.dimension, table.kl.shape[1]
            keeper.learns = table.profiled_log_var is None
            keeper.append_evaluation(evaluation_of(table, "held_out", 0), "float64")
            keeper.put_document("judgement", document_of(self.result()))
            keeper.save("finished", 0)
        finally:
            keeper.close()
        return file

    def result(self) -> Result:
        """Return tables, notes, numbers and figure, as an analysis does."""
        return result_of(self.assessment, self.name)


def judge(
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any] | None,
    data: Any,
    *,
    prior: Any = None,
    points: int = 1000,
    samples: int = 1000,
    seed: int = 0,
    gaps: bool = False,
    dequantised: bool = False,
    name: str = "model",
    progress: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Return what is to be said of a trained model.

    Args:
        encode: points → q(z|x): a torch distribution, a `DiagonalGaussian` or (mean, log_var).
        decode: latents (n, H) → p(x|z), of the same kinds; or a mean alone, whose variance is then its mean squared
            error; None for a model without a likelihood, whose encoder alone is judged, per channel.
        data: held-out points: a tensor or an array (N, …), or a loader.
        prior: p(z), or a function that returns it; a standard normal by default.
        points: of how many points the importance-weighted bounds are taken.
        samples: k of the largest bound.
        seed: of all draws.
        gaps: split the gap of 128 points into that of the family of q and that of the encoder; it takes a while.
        dequantised: the points are integers with uniform noise added, so that bits per dimension are defined.
        name: what the model is called.
        progress: told what is being done.

    Raises:
        DataError: data or what a callable returns cannot be used; the message says which, and what to pass.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 1) * 2**0.5  # z ~ N(0, 1), x ~ N(z, 1)
        >>> report = judge(lambda x: Normal(x / 2, 0.5**0.5), lambda z: Normal(z, 1.0), x, samples=20)
        >>> type(report).__name__
        'Report'
    """
    model = Callables(encode, decode, prior)
    found = assess(
        model,
        as_points(data),
        points=points,
        samples=samples,
        seed=seed,
        gaps=gaps,
        dequantised=dequantised,
        progress=progress,
    )
    return Report(found, name)


def report_of(assessment: Assessment, name: str) -> Report:
    """Return the report of an assessment."""
    return Report(assessment, name)
