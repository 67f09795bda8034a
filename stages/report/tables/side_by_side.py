"""Numbers of variants side by side, as `report.tables` in `params.yaml` chooses: their values, and what stands out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import has_intervals
from stages.report.tables.table import Cell, Group, Notes, interval, number_cell, percent
from stages.statistics.comparison import LARGEST_P


def cell(results: DatasetNumbers, row: pd.Series, notes: Notes, why: str) -> Cell:
    """A mean with its interval, or its standard deviation and number of seeds; bold where that is supported.

    Args:
        row: with mean, low, high, std and seeds; with difference and supported, to the reference.
    """
    style = results.written.tables
    note = interval(row["low"], row["high"]) if style.values == "interval" else spread(row)
    better = style.marks == "supported" and bool(row["supported"]) and row["difference"] > 0
    return number_cell(row["mean"], percent, notes, why, note, bold=better)


def spread(row: pd.Series) -> str:
    """What stands beside a mean over seeds: their standard deviation and number, of std and seeds."""
    return f"± {percent(row['std'])} ({row['seeds']:.0f})" if row["seeds"] > 1 else f"({row['seeds']:.0f})"


def spread_said(seeds: int) -> str:
    """For a caption: what a mean over seeds with its `spread` is."""
    return f"mean ± standard deviation over {seeds} seeds (number of seeds)" if seeds > 1 else "one seed"


def ranked(results: DatasetNumbers, rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """The rows of the variants with the best number of each column bold and the second underlined, where chosen.

    Numbers that are printed alike rank alike.
    """
    rows = [list(row) for row in rows]
    if results.written.tables.marks != "best" or len(rows) < 2:
        return rows
    for column in range(len(rows[0])):
        printed = {float(percent(row[column].value)) for row in rows if row[column].value is not None}
        best, second, *_ = [*sorted(printed, reverse=True), None, None]
        for row in rows:
            if row[column].value is not None:
                shown = float(percent(row[column].value))
                row[column] = replace(row[column], bold=shown == best, underlined=shown == second)
    return rows


def groups(results: DatasetNumbers, published: list[list[Cell]], rows: list[list[Cell]]) -> list[Group]:
    """Rows by where their numbers come from; without a title where all are the project's.

    Args:
        rows: of the variants, and then of the systems that others made.
    """
    number = len(results.variants)
    found = [
        Group("published", published),
        Group(f"this project, recipe {results.recipe}", rows[:number]),
        Group("predictions of others", rows[number:]),
    ]
    found = [group for group in found if group.rows]
    return found if len(found) > 1 else [Group("", rows)]


def described(datasets: Sequence[DatasetNumbers], splits: Sequence[str], cells: Iterable[Cell]) -> str:
    """For a caption: what the numbers are, and what stands out.

    Args:
        splits: those of the datasets that the table shows.
        cells: of the variants.
    """
    first, seeds = datasets[0], len(datasets[0].seeds)
    over = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    if first.written.tables.values == "std":
        values = spread_said(seeds)
    elif any(has_intervals(results, _of(results, splits)) for results in datasets):
        values = f"{over} [95 % interval over {first.over}]"
    else:
        values = over
    return f"In percent: {values}. {_marks(datasets, splits, cells)}".rstrip()


def _marks(datasets: Sequence[DatasetNumbers], splits: Sequence[str], cells: Iterable[Cell]) -> str:
    first = datasets[0]
    if len(first.systems) == 1:
        return ""
    if first.written.tables.marks == "best":
        return "Bold: the best of a column; underlined: the second best; both whether or not a difference is supported."
    reasons = [results.no_verdict(split) for results in datasets for split in _of(results, splits)]
    if all(reasons):
        return f"Nothing is bold: {reasons[0]}."
    better = f"better than {first.label(first.reference)} and supported (p < {LARGEST_P} after Holm's adjustment)"
    return f"Bold: {better}." if any(cell.bold for cell in cells) else f"Nothing is bold: no variant is {better}."


def _of(results: DatasetNumbers, splits: Sequence[str]) -> list[str]:
    return [split for split in results.splits if split in splits]
