"""What language contributes: masks without a model, and the same models given expressions of other images."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    caption,
    footer,
    listing,
    marked,
    mean_cell,
    meanings,
    name_cell,
    why_no_number,
)
from stages.report.tables.table import Block, Cell, Group, Notes, Table, interval, number_cell, signed

ONE_IMAGE = "A split of one image has no expressions of other images."


def table(results: DatasetNumbers) -> Table:
    """Controls and what language contributes, a column for each split, in the protocol's first headline metric."""
    notes, rows = Notes(), _rows(results)
    masks = list(dict.fromkeys(rows.loc[rows["without_model"], "system"]))
    by_place = rows.set_index(["system", "split"])

    def cells(system: str, difference: bool) -> list[Cell]:
        found = [by_place.loc[(system, split)] for split in results.splits]
        why = why_no_number(results, system) if system not in masks else ""
        if difference:
            return [_difference_cell(row, notes, why or ONE_IMAGE) for row in found]
        return [mean_cell(row, notes, why or ONE_IMAGE) for row in found]

    def named(difference: bool) -> list[list[Cell]]:
        return [[name_cell(results, name, notes), *cells(name, difference)] for name in results.variants]

    groups = [
        Group("without a model", [[Cell(name), *cells(name, False)] for name in masks]),
        Group("given expressions of other images", named(difference=False)),
        Group("what language contributes: own minus others' expressions, in points", named(difference=True)),
    ]
    return Table(
        key="controls",
        caption=caption(results, f"Controls, and what language contributes: {results.metric}"),
        blocks=[Block([], ["", *(marked(results, split) for split in results.splits)], groups)],
        notes=notes.lines,
        footer=[
            *footer(results, results.splits),
            "Whole image: the mask is the whole image. Center box: a box in the middle with half the image's sides. "
            "Their intervals are over images alone.",
            "Given expressions of other images: each expression is replaced by one of another image of its split, the "
            "same for every model. A model that ignores words loses nothing.",
            "What language contributes: on the same expressions and seeds, taken before rounding.",
            *meanings(results, [results.metric]),
        ],
    )


def warning(results: DatasetNumbers) -> str:
    """For which variants language is not shown to matter on the splits that chose no epoch; empty where there are none.

    It is where the interval of what language contributes is not above 0.
    """
    rows = _rows(results)
    rows = rows[rows["split"].isin(results.unseen) & rows["difference_low"].le(0)]
    said = []
    for variant in results.scored:
        on = [
            f"{signed(row['difference'])} {interval(row['difference_low'], row['difference_high'])} on {row['split']}"
            for _, row in rows[rows["system"] == variant].iterrows()
        ]
        said += [f"{variant} ({listing(on)})"] if on else []
    if not said:
        return ""
    return (
        f"Language is not shown to matter for {listing(said)}: {results.metric} with its own expressions minus that "
        "with expressions of other images, in points."
    )


def _rows(results: DatasetNumbers) -> pd.DataFrame:
    return results.language[results.language["metric"] == results.metric]


def _difference_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    note = interval(row["difference_low"], row["difference_high"])
    return number_cell(row["difference"], signed, notes, why, note)
