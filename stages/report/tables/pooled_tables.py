"""Differences pooled over the datasets of an experiment, as a table."""

from collections.abc import Sequence

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import capital, listing, meanings, protocol_said, seeds_said
from stages.report.tables.table import Block, Cell, Group, Notes, Table, interval, number_cell, probability, signed
from stages.statistics import averages
from stages.statistics.comparison import LARGEST_P

MISSING_SCORES = "A variant of the pair has no scores on one of the datasets."


def table(datasets: Sequence[DatasetNumbers]) -> Table | None:
    """Every pair of variants: its difference on each dataset, and the mean over datasets; None for a single dataset."""
    first, notes = datasets[0], Notes()
    if len(datasets) == 1 or len(first.systems) == 1:
        return None
    of_each = [results.averages_in(first.metric) for results in datasets]
    every = averages.pooled(of_each)
    by_pair = [found.set_index(["variant", "against"]) for found in of_each]
    rows = [
        [
            Cell(f"{first.label(pair['variant'])} over {first.label(pair['against'])}"),
            *(_cell(found.loc[(pair["variant"], pair["against"])], notes, bold=False) for found in by_pair),
            _cell(pair, notes, bold=bool(pair["supported"])),
            number_cell(
                pair["p_holm"], probability, notes, capital(f"{pair['no_verdict']}.") if pair["no_verdict"] else ""
            ),
        ]
        for _, pair in every[every["against"] != ""].iterrows()
    ]
    return Table(
        key="pooled",
        caption=f"Differences in {first.metric} pooled over {listing([results.name for results in datasets])}, in "
        "points, with 95 % intervals over images and seeds. Bold: supported, that is p < "
        f"{LARGEST_P} after Holm's adjustment, for the pairs of the headline and for all others by themselves.",
        blocks=[
            Block(
                [("", 1), *((results.name, 1) for results in datasets), ("pooled", 2)],
                ["pair", *[f"Δ {first.metric}"] * (len(datasets) + 1), "adj. p"],
                [Group("", rows)],
            )
        ],
        notes=notes.lines,
        footer=[
            seeds_said(first),
            protocol_said(first),
            "On each dataset: the mean over the splits that chose no epoch. Pooled: the mean over datasets, each with "
            "the same weight; runs on different datasets count as independent.",
            "Adj. p: the p-value after Holm's adjustment.",
            *meanings(first, [first.metric]),
        ],
    )


def _cell(row: pd.Series, notes: Notes, bold: bool) -> Cell:
    return number_cell(row["value"], signed, notes, MISSING_SCORES, interval(row["low"], row["high"]), bold)
