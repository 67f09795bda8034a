"""What the experiment can show: the smallest difference that it would support, and the seeds that others need."""

import math

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import MADE_BY, split_title
from stages.report.tables.table import Block, Cell, Group, Notes, Table, number_cell, percent, signed
from stages.statistics import planning
from stages.statistics.planning import Plan


def sentence(results: DatasetNumbers) -> str:
    """The smallest true differences that the experiment supports, over all pairs and splits; empty without any."""
    found = [percent(plan.smallest) for split in results.unseen for plan in _plans(results, split)]
    if not found:
        return ""
    least, most = min(found, key=float), max(found, key=float)
    reach = f"{least} points" if least == most else f"{least} to {most} points, depending on the pair of variants"
    return f"This experiment supports a true difference of {reach}, in {100 * planning.POWER:g} % of cases. "


def table(results: DatasetNumbers) -> Table | None:
    """For every pair that is compared: the smallest difference that is supported, and the seeds that others need."""
    notes, groups = Notes(), []
    never = f"More than {planning.MOST_SEEDS} seeds: more images are needed too."
    for split in results.splits:
        rows = [
            [
                Cell(f"{plan.variant} over {plan.against}"),
                number_cell(plan.difference, signed, notes, ""),
                number_cell(plan.smallest, percent, notes, ""),
                *(
                    number_cell(math.nan if needed is None else needed, lambda value: f"{value:.0f}", notes, never)
                    for needed in plan.seeds
                ),
            ]
            for plan in _plans(results, split)
        ]
        if rows:
            groups.append(Group(split_title(results, split), rows))
    if not groups:
        return None
    headings = ["pair", f"Δ {results.metric}", "smallest", *(f"seeds for {points}" for points in planning.DIFFERENCES)]
    return Table(
        key="plan",
        caption=f"What differences the experiment can show on {results.name}: {results.metric}, in points.",
        blocks=[Block([], headings, groups)],
        notes=notes.lines,
        footer=[
            f"Smallest: the true difference, in points, that is supported in {100 * planning.POWER:g} % of cases.",
            "Seeds for 1, 2 and 3: how many seeds support a true difference of so many points in as many cases, with "
            "these images, and seeds that spread as these do.",
            "Both are at the level of the first step of Holm's adjustment. The spread of a few seeds is itself known "
            "roughly only.",
            MADE_BY,
        ],
    )


def _plans(results: DatasetNumbers, split: str) -> list[Plan]:
    comparison = results.comparison.reset_index()
    return planning.plans(comparison, results.contrasts, results.reference, split, results.metric)
