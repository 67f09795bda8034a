"""Results by slices of the expressions, as a table."""

from collections.abc import Sequence

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    caption,
    difference_cell,
    footer,
    mean_cell,
    meanings,
    of_a_file,
    why_no_difference,
    why_no_number,
)
from stages.report.tables.table import Block, Cell, Group, Notes, Table, cut
from stages.statistics.evidence import FEWEST_IMAGES
from stages.statistics.slices import FAMILIES

VARIANTS_ABREAST = 4


def table(results: DatasetNumbers) -> Table | None:
    """On the first evaluation split, the reference in every slice and the other variants' differences to it."""
    split = results.splits[0]
    rows = results.slices[results.slices["split"] == split]
    if rows.empty:
        return None
    metric, notes = rows["metric"].iloc[0], Notes()
    others = [name for name in results.systems if name != results.reference]
    by_row = rows.set_index(["family", "slice", "variant"])
    keys = rows[["family", "slice"]].drop_duplicates()

    def row(family: str, name: str, variants: Sequence[str], first: bool) -> list[Cell]:
        size = by_row.loc[(family, name, results.reference)]
        why = f"Fewer than {FEWEST_IMAGES} images: {name} ({family})." if pd.isna(size["mean"]) else ""
        cells = [Cell(name)]
        if first:
            cells.append(Cell(f"{int(size['expressions']):,}", value=float(size["expressions"])))
            cells.append(mean_cell(size, notes, why or why_no_number(results, results.reference)))
        for variant in variants:
            missing = why or why_no_difference(results, variant)
            cells.append(difference_cell(by_row.loc[(family, name, variant)], notes, missing))
        return cells

    blocks = []
    for place, variants in enumerate(cut(others, VARIANTS_ABREAST - 1, VARIANTS_ABREAST) or [[]]):
        first = place == 0
        groups = [
            Group(_family_title(family), [row(family, name, variants, first) for name in of_family["slice"]])
            for family, of_family in keys.groupby("family", sort=False)
        ]
        headings = ["expressions", f"{results.label(results.reference)} {metric}"] if first else []
        blocks.append(Block([], ["slice", *headings, *(_heading(results, name, notes) for name in variants)], groups))
    return Table(
        key="slices",
        caption=caption(results, f"Where it helps: slices of {split}"),
        blocks=blocks,
        notes=notes.lines,
        footer=[
            *footer(results, [split]),
            f"Δ: difference in {metric} to {results.label(results.reference)} on the same expressions and seeds, taken "
            "before rounding.",
            "Intervals are not adjusted for the number of slices: one in twenty misses by chance, so nothing is bold.",
            *meanings(results, [metric]),
        ],
    )


def _heading(results: DatasetNumbers, name: str, notes: Notes) -> str:
    """Of the column of a system's differences."""
    mark = notes.mark(of_a_file(results, name)) if name in results.others else ""
    return f"Δ {results.label(name)}{mark}"


def _family_title(name: str) -> str:
    family = FAMILIES[name]
    return f"{family.title} ({family.unit})" if family.unit else family.title
