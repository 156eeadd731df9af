"""From a table to points: which column is the index, which the labels, which are dimensions, what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table, listed
from elboverse.data.reading.numerals import Numerals, read_numerals
from elboverse.errors import DataError, nearest

__all__ = ["points_of_table"]

LABEL_NAMES: Final = frozenset(
    [
        "label",
        "labels",
        "target",
        "targets",
        "class",
        "classes",
        "y",
        "species",
        "category",
        "diagnosis",
        "cell_type",
        "celltype",
        "cluster",
    ]
)
"""Names, in small letters, by which a column is taken for labels."""

_INDEX_NAMES: Final = frozenset(
    ["id", "index", "idx", "row", "rownames", "row_id", "rowid", "sample_id", "sampleid", "no", "nr"]
)
_UNNAMED: Final = re.compile(r"(Unnamed: \d+(_level_\d+)?)?\Z")
_SENTINELS: Final = (-99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, -1e30, 1e20, 1e30)
_FAR: Final = 1.0


def points_of_table(table: Table, path: Path, options: ReadingOptions) -> RawPoints:
    """Return the points of a table.

    Raises:
        DataError: a named column is not there, a column mixes numbers and text, values are missing, or no column is
            left.
    """
    if not table.rows:
        raise DataError(f"{path}: there are no rows in it besides the names of its columns")
    findings = table.findings
    names = _unique(table.names, findings)
    named = any(table.names)
    read: dict[int, Numerals | None] = {}

    def numerals(at: int) -> Numerals | None:
        """Return a column of texts as numbers; None where it holds numbers already."""
        if at not in read:
            column = table.columns[at]
            plain = column.dtype.kind in "fiub" and not options.missing_values
            read[at] = None if plain else read_numerals(column.tolist(), table.decimal, options.missing_values)
        return read[at]

    def is_text(at: int) -> bool:
        found = numerals(at)
        return found is not None and bool(found.text.sum() * 2 > (~found.missing).sum())

    left = list(range(len(names)))
    if empty := [at for at in left if _is_empty(numerals(at)) and _UNNAMED.match(table.names[at]) and at]:
        left = [at for at in left if at not in empty]
        findings.append(Finding("columns", f"{len(empty)} columns without names and values are left out"))
    label = _find(options.label, table.names, names, path, "dataset.label") if options.label not in (None, "") else None
    index, index_name = table.index, table.index_name
    given = list(
        dict.fromkeys(_find(one, table.names, names, path, "dataset.conditions") for one in options.conditions)
    )
    left = [at for at in left if at not in given]
    if options.columns is not None:
        chosen = _chosen(options.columns, table, names, left, path)
        if index is None and named and 0 in left and 0 not in chosen and label != 0 and _UNNAMED.match(table.names[0]):
            index = table.columns[0]
        left = chosen
    elif index is None and len(left) > 1 and label != 0 and (guess := _index(table, is_text(0), named)):
        findings.append(guess)
        if guess.about == "index":
            index, index_name = table.columns[0], table.names[0]
            left.remove(0)
    if label is None and options.label is None:
        label = _label(table, names, left, is_text, findings, options)
    if label in left and options.columns is None:
        left.remove(label)
    left = [at for at in left if at not in given]
    if options.columns is None:
        others = [at for at in left if is_text(at)]
        if others and len(others) < len(left):
            left = [at for at in left if at not in others]
            texts = listed([repr(names[at] or f"column {at + 1}") for at in others], 5)
            findings.append(Finding("columns", f"columns of text are left out: {texts}", "dataset.columns", True))
    if not left:
        raise DataError(f"{path}: no column is left to train on; dataset.columns names those that are dimensions")
    for at in left:
        _require_numbers(numerals(at), table, at, names, path)
    values = np.stack([_values(table.columns[at], numerals(at)) for at in left], axis=1)
    ways = sorted({way for at in left if (found := numerals(at)) is not None for way in found.ways})
    if ways:
        findings.append(
            Finding("numbers", f"some numbers are written with {', '.join(ways)}; they are read as numbers")
        )
    kept = _kept(values, [numerals(at) for at in left], table, [names[at] for at in left], path, options)
    _warn_of_sentinels(values[kept], [names[at] or f"column {at + 1}" for at in left], findings)
    rows = np.flatnonzero(kept)
    conditions = {
        names[at] or f"column {at + 1}": _condition(table, at, numerals(at), is_text(at), kept, names, path)
        for at in given
    }
    shown = [f"{names[at]} [{table.units[at]}]" if table.units and table.units[at] else names[at] for at in left]
    labels = None if label is None else _labels(table.columns[label])[kept]
    return RawPoints(
        values=values if kept.all() else values[kept],
        names=tuple(shown) if named else (),
        index=(np.arange(table.rows) if index is None else np.asarray(index))[kept],
        index_name=index_name if not _UNNAMED.match(index_name) else "",
        labels=labels,
        label_name="" if label is None else names[label] or f"column {label + 1}",
        conditions=conditions,
        findings=tuple(findings),
        place=lambda row: table.place(int(rows[row])),
        is_curve=_is_curve(table.names, left),
    )


def _unique(names: Sequence[str], findings: list[Finding]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if name and seen[name] > 1 else name)
    if repeated := [name for name, times in seen.items() if name and times > 1]:
        findings.append(Finding("names", f"columns of one name are numbered: {listed(repeated, 5)}"))
    return unique


def _is_empty(found: Numerals | None) -> bool:
    return found is not None and bool(found.missing.all())


def _find(wanted: str | int | None, raw: Sequence[str], names: Sequence[str], path: Path, option: str) -> int:
    if isinstance(wanted, int):
        if -len(names) <= wanted < len(names):
            return wanted % len(names)
        raise DataError(f"{path}: {option}: got column {wanted}; expected 0 … {len(names) - 1}")
    for known in (names, raw):
        if wanted in known:
            return list(known).index(str(wanted))
    if str(wanted).isdecimal() and int(str(wanted)) < len(names):
        return int(str(wanted))
    hint = nearest(str(wanted), names)
    has = (
        f"it has {listed([repr(name) for name in names if name])}"
        if any(names)
        else f"it names none of its {len(names)}"
    )
    raise DataError(f"{path}: {option}: no column is called {wanted!r}{f' ({hint})' if hint else ''}; {has}")


def _chosen(
    wanted: Sequence[str | int], table: Table, names: Sequence[str], left: Sequence[int], path: Path
) -> list[int]:
    without = [name[1:] for name in wanted if isinstance(name, str) and name.startswith("!")]
    if not without:
        return list(dict.fromkeys(_find(name, table.names, names, path, "dataset.columns") for name in wanted))
    if len(without) != len(wanted):
        raise DataError("dataset.columns: got names both with and without !; expected columns to take, or to leave out")
    out = {_find(name, table.names, names, path, "dataset.columns") for name in without}
    return [at for at in left if at not in out]


def _index(table: Table, textual: bool, named: bool) -> Finding | None:
    """Return what speaks for the first column being an index; one about ``"columns"`` says that it is none, perhaps."""
    name, column = table.names[0], table.columns[0]
    unique = len(set(column.tolist())) == len(column) > 1
    counts = (
        column.dtype.kind in "iu" and len(column) > 1 and column[0] in (0, 1) and bool((np.diff(column) == 1).all())
    )
    whole = column.dtype.kind in "iu"
    unnamed = named and bool(_UNNAMED.match(name))
    if unnamed and counts:
        return Finding(
            "index", f"the first column has no name and counts from {column[0]}: it is the index, no dimension"
        )
    if unnamed and unique and (textual or whole):
        return Finding("index", "the first column has no name: it is taken for the index", "dataset.columns", whole)
    if textual and unique:
        return Finding("index", f"the first column{f' {name!r}' if name else ''} names each row: it is the index")
    if named and name.strip().lower() in _INDEX_NAMES and (counts or (whole and unique)):
        return Finding("index", f"the first column {name!r} is taken for the index", "dataset.columns", True)
    if counts and len(column) > 3:
        called = f" {name!r}" if name else ""
        return Finding(
            "columns",
            f"the first column{called} counts the rows, yet is taken for a dimension",
            "dataset.columns",
            True,
        )
    return None


def _label(
    table: Table,
    names: Sequence[str],
    left: Sequence[int],
    is_text: Any,
    findings: list[Finding],
    options: ReadingOptions,
) -> int | None:
    if options.columns is not None:
        left = [at for at in range(len(names)) if at not in left]
    plain = [re.sub(r"[ -]", "_", name.strip().lower()) for name in table.names]
    by_name = [at for at in left if plain[at] in LABEL_NAMES and not (plain[at] == "y" and "x" in plain)]
    texts = [at for at in left if is_text(at) and 1 < len(set(map(str, table.columns[at].tolist()))) <= table.rows // 2]
    guesses = ([at for at in by_name if is_text(at)] or by_name or texts)[:1]
    if not guesses or (len(left) == 1 and options.columns is None):
        return None
    at = guesses[0]
    called = repr(names[at]) if names[at] else f"column {at + 1}"
    findings.append(Finding("label", f"{called} is taken for the labels of the rows, no dimension", "dataset.label"))
    return at


def _require_numbers(found: Numerals | None, table: Table, at: int, names: Sequence[str], path: Path) -> None:
    if found is None or not found.text.any():
        return
    row = int(np.flatnonzero(found.text)[0])
    shown = str(table.columns[at][row]).strip()
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    named = f" ({names[at]})" if names[at] else ""
    advice = "" if found.text.sum() > 3 else f'; dataset.missing_values = ["{shown}"] takes it for a missing value'
    raise DataError(f"{path}: {table.place(row)}, column {at + 1}{named}: got {shown!r}; expected a number{advice}")


def _values(column: NDArray[Any], found: Numerals | None) -> NDArray[np.float64]:
    return column.astype(np.float64) if found is None else found.values


def _kept(
    values: NDArray[np.float64],
    found: Sequence[Numerals | None],
    table: Table,
    names: Sequence[str],
    path: Path,
    options: ReadingOptions,
) -> NDArray[np.bool_]:
    """Return which rows stay: without those that are blank, and without those that lack values if the user says so."""
    missing = np.isnan(values)
    blank: NDArray[np.bool_] = np.asarray(missing.all(axis=1))
    if blank.any() and not blank.all():
        table.findings.append(Finding("missing", f"{int(blank.sum())} blank rows are left out"))
        missing[blank] = False
    lacking: NDArray[np.bool_] = np.asarray(missing.any(axis=1))
    if not lacking.any():
        return ~blank if not blank.all() else ~lacking
    columns = missing.sum(axis=0)
    marks = Counter[str]()
    for one in found:
        marks.update(one.marks if one is not None else {})
    row, column = (int(place[0]) for place in np.nonzero(missing))
    written = listed([repr(mark) if mark else "an empty cell" for mark, _ in marks.most_common(4)]) or "NaN"
    where = listed(
        [f"{names[at] or f'column {at + 1}'} ({columns[at]:,})" for at in np.flatnonzero(columns).tolist()], 8
    )
    if options.missing == "error":
        raise DataError(
            f"{path}: got {int(columns.sum()):,} missing values, written as {written}, in {int(lacking.sum()):,} of "
            f"{table.rows:,} rows, by column: {where}; the first in {table.place(row)}, column {column + 1}. "
            'dataset.missing = "drop-rows" leaves these rows out'
        )
    table.findings.append(
        Finding(
            "missing", f"{int(lacking.sum()):,} rows with missing values ({written}) are left out; by column: {where}"
        )
    )
    return ~(blank | lacking)


def _warn_of_sentinels(values: NDArray[np.float64], names: Sequence[str], findings: list[Finding]) -> None:
    for column, name in zip(values.T, names, strict=True):
        for mark in _SENTINELS:
            marked = column == mark
            count = int(marked.sum())
            if not count or count * 2 > len(column):
                continue
            others = column[~marked]
            low, high = float(others.min()), float(others.max())
            if max(low - mark, mark - high) > _FAR * (high - low):
                times = f"{count:,} times" if count > 1 else "once"
                text = f"{mark:g} occurs {times} in {name}, far from its other values; does it mark a missing value?"
                findings.append(Finding("missing", text, "dataset.missing_values", True))


def _condition(
    table: Table,
    at: int,
    found: Numerals | None,
    textual: bool,
    kept: NDArray[np.bool_],
    names: Sequence[str],
    path: Path,
) -> NDArray[Any]:
    """Return a column of conditions: numbers, or texts where most of its cells are."""
    values = _labels(table.columns[at]) if textual else _values(table.columns[at], found)
    empty = np.array([not str(value) or value in {"None", "nan"} for value in values]) if textual else np.isnan(values)
    if (empty & kept).any():
        row = int(np.flatnonzero(empty & kept)[0])
        raise DataError(
            f"{path}: {table.place(row)}, column {at + 1} ({names[at]}): got nothing; expected a condition in each row"
        )
    return values[kept]


def _labels(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype == object:
        return np.asarray([str(label).strip() for label in column], dtype=str)
    return column


def _is_curve(names: Sequence[str], left: Sequence[int]) -> bool:
    """Return whether the dimensions' names are ascending or descending numbers, such as wavelengths."""
    try:
        steps = np.diff([float(names[at]) for at in left])
    except ValueError:
        return False
    return len(steps) > 8 and bool((steps > 0).all() or (steps < 0).all())
