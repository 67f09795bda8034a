"""All datasets in one table of the usual layout: a row for each variant, a column for each split, and the average.

The average is over the splits that chose no epoch.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables import side_by_side
from stages.report.tables.captions import (
    data_warning,
    limits,
    listing,
    meanings,
    name_cell,
    of_a_file,
    protocol_said,
    why_no_number,
)
from stages.report.tables.published_values import agreeing, method_cell, set_names, value_cell
from stages.report.tables.table import MISSING, Block, Cell, Notes, Table
from stages.runtime.refer_sets import FORMATS
from stages.statistics import averages

AVERAGE = "test average"
TITLES = {"refcoco": "RefCOCO", "refcoco+": "RefCOCO+", "refcocog": "RefCOCOg"}


class Column(NamedTuple):
    """A split of a dataset: where its numbers come from, and the set that it is shown under.

    A further dataset is a column of its own name, under none.
    """

    results: DatasetNumbers
    split: str
    title: str

    @property
    def heading(self) -> str:
        return self.split.removeprefix(f"{self.results.set_of(self.split)}_")


def tables(datasets: Sequence[DatasetNumbers]) -> list[Table]:
    """One table for each headline metric of the protocol; published results of the same protocol stand above."""
    return [_table(datasets, metric) for metric in datasets[0].protocol.headline]


def _table(datasets: Sequence[DatasetNumbers], metric: str) -> Table:
    first, notes = datasets[0], Notes()
    columns = [Column(results, split, _title(results, split)) for results in datasets for split in results.splits]
    titles = list(dict.fromkeys(column.title or column.split for column in columns))
    theirs = _published(columns, metric, notes)
    chose = [column.split for column in columns if column.split not in column.results.unseen]
    means = _averages(datasets, metric) if len(columns) - len(chose) > 1 else None
    systems = list(dict.fromkeys(name for results in datasets for name in results.systems))
    systems.sort(key=lambda name: name not in first.variants)
    rows = []
    for name in systems:
        cells = [_cell(column, name, metric, notes) for column in columns]
        if means is not None:
            cells.append(side_by_side.cell(first, means[name], notes, _why(datasets, name)))
        rows.append(cells)
    names = [_name_cell(datasets, name, notes) for name in systems]
    rows = side_by_side.ranked(first, rows)
    ours = [[name, *cells] for name, cells in zip(names, rows, strict=True)]
    over = [AVERAGE] if means is not None else []
    if over:
        theirs = [[*row, Cell("")] for row in theirs]
    heads = itertools.groupby(columns, key=lambda column: (column.results.name, column.title))
    spans = [(title, len(list(of_title))) for (_, title), of_title in heads]
    warned = [f"{results.name}: {warning}." for results in datasets if (warning := data_warning(results))]
    about = [sentence for results in datasets for sentence in limits(results, results.splits)]
    average = (
        f"{AVERAGE.capitalize()}: the mean of the columns"
        + (f" but {listing(list(dict.fromkeys(chose)))}" if chose else "")
        + ", each with the same weight."
    )
    return Table(
        key=f"wide-{metric}",
        caption=f"{metric} of every variant on {listing(titles)}. "
        f"{side_by_side.described(datasets, [column.split for column in columns], itertools.chain(*rows))}",
        blocks=[
            Block(
                [("", 1), *spans, *([("", 1)] * len(over))],
                ["variant", *(column.heading for column in columns), *over],
                side_by_side.groups(first, theirs, ours),
            )
        ],
        notes=notes.lines,
        footer=[
            protocol_said(first),
            *warned,
            *([average] if over else []),
            *(["Published values are single numbers, from other encoders and training."] if theirs else []),
            *dict.fromkeys(about),
            *meanings(first, [metric]),
        ],
    )


def _title(results: DatasetNumbers, split: str) -> str:
    """The set that a split belongs to, as papers write it where all of it is there; else the dataset's name."""
    source = results.source
    if split in results.further:
        return ""
    if source.get("kind") == "mix":
        return TITLES[results.set_of(split)] + (" (part)" if results.partial else "")
    if source.get("kind") not in FORMATS or results.partial:
        return results.name
    chosen = "" if source["split_by"] == "unc" else f" ({source['split_by']})"
    return TITLES[source["name"]] + chosen


def _published(columns: list[Column], metric: str, notes: Notes) -> list[list[Cell]]:
    """A row for each method with a value in one of the columns."""
    places = [set_names(column.results.source, [column.split]).get(column.split, ("", "")) for column in columns]
    datasets = {column.results.name: column.results for column in columns}
    agree = [agreeing(results, [results.protocol], results.splits) for results in datasets.values()]
    known = pd.concat(agree).drop_duplicates()
    known = known[known["metric"] == metric]
    return [
        [
            method_cell(method, rows, notes),
            *(value_cell(rows[rows["dataset"] == dataset], split, metric, notes) for dataset, split in places),
        ]
        for method, rows in known.groupby("method", sort=False)
    ]


def _name_cell(datasets: Sequence[DatasetNumbers], name: str, notes: Notes) -> Cell:
    """The name of a variant, or of one of the others, with what is said of it on each dataset that it is on."""
    first, *later = [results for results in datasets if name in results.systems]
    cell = name_cell(first, name, notes)
    if name not in first.others:
        return cell
    more = dict.fromkeys(of_a_file(results, name) for results in later)
    more.pop(of_a_file(first, name), None)
    return replace(cell, text=cell.text + "".join(map(notes.mark, more)))


def _cell(column: Column, variant: str, metric: str, notes: Notes) -> Cell:
    if variant not in column.results.systems:
        return Cell(MISSING + notes.mark(why_no_number(column.results, variant)))
    row = column.results.row(variant, column.split, metric)
    return side_by_side.cell(column.results, row, notes, why_no_number(column.results, variant))


def _why(datasets: Sequence[DatasetNumbers], variant: str) -> str:
    return next((why for results in datasets if (why := why_no_number(results, variant))), "")


def _averages(datasets: Sequence[DatasetNumbers], metric: str) -> pd.DataFrame:
    """The mean over the unseen splits of all datasets, a column for each variant: mean, low, high, std ..."""
    of_metric = [results.averages_in(metric) for results in datasets]
    splits = [len(results.unseen) for results in datasets]
    found = of_metric[0] if len(datasets) == 1 else averages.pooled(of_metric, [n / sum(splits) for n in splits])
    by_pair = found.set_index(["variant", "against"])
    reference = datasets[0].reference
    rows = {}
    for variant in dict.fromkeys(name for results in datasets for name in results.systems):
        if (variant, "") not in by_pair.index:  # one of the others that has no predictions on one of the datasets
            rows[variant] = dict.fromkeys(("mean", "low", "high", "std", "seeds", "difference"), math.nan)
            rows[variant]["supported"] = False
            continue
        own = by_pair.loc[(variant, "")]
        over = by_pair.loc[(variant, reference)] if variant != reference else own
        rows[variant] = {
            "mean": own["value"],
            **{key: own[key] for key in ("low", "high", "std", "seeds")},
            "difference": over["value"] if variant != reference else 0.0,
            "supported": bool(over["supported"]),
        }
    return pd.DataFrame(rows)
