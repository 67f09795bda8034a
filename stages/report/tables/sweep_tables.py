"""Sweeps as tables: the result of each value of the number in which the variants differ."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.sweeps import Sweep
from stages.report.tables.captions import limits, marked, verdicts
from stages.report.tables.table import (
    MISSING,
    REFERENCE_MARK,
    Block,
    Cell,
    Group,
    Table,
    interval,
    percent_cell,
    signed,
)


def table(results: DatasetNumbers, sweep: Sweep, metric: str) -> Table:
    """One row for each value of the key that is swept, with its result on every split."""
    rows = []
    for label, value, variant in zip(sweep.labels, sweep.values, sweep.variants, strict=True):
        cells = [Cell(label, value=value), Cell(results.label(variant))]
        for split in results.splits:
            row = results.row(variant, split, metric)
            cells.append(percent_cell(row["mean"], interval(row["low"], row["high"])))
            cells.append(Cell(REFERENCE_MARK) if variant == results.reference else _difference(row))
        rows.append(cells)
    return Table(
        key=f"sweep-{sweep.key}",
        caption=(
            f"{metric} in percent over {sweep.key}, with 95 % intervals over {results.over}. Δ: difference to "
            f"{results.label(results.reference)} on the same expressions and seeds."
        ),
        blocks=[
            Block(
                spans=[("", 2), *((marked(results, split), 2) for split in results.splits)],
                headings=[sweep.key, "variant", *[metric, f"Δ {metric}"] * len(results.splits)],
                groups=[Group("", rows)],
            )
        ],
        footer=[*limits(results, results.splits), *verdicts(results, results.splits)],
    )


def _difference(row: pd.Series) -> Cell:
    if pd.isna(row["difference"]):
        return Cell(MISSING)
    note = interval(row["difference_low"], row["difference_high"])
    return Cell(signed(row["difference"]), note, bold=bool(row["supported"]), value=float(row["difference"]))
