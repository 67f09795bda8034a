"""What the experiment can show: the smallest difference that it would support, and the seeds that others need."""

import math

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import listing, marked, seeds_said
from stages.report.tables.table import Block, Cell, Group, Notes, Table, number_cell, percent
from stages.statistics import planning
from stages.statistics.comparison import headline_pairs
from stages.statistics.planning import Plan


def sentence(results: DatasetNumbers) -> str:
    """The smallest true difference that the experiment supports, on splits that chose no epoch; empty without any."""
    sizes = [
        f"{percent(plan.smallest)} points on {split}"
        for split, plan in _plans(results).items()
        if split in results.unseen
    ]
    if not sizes:
        return ""
    return (
        f"A true difference of {listing(sizes)} between a pair of the headline would be supported in "
        f"{100 * planning.POWER:g} % of cases. "
    )


def table(results: DatasetNumbers) -> Table | None:
    """For each split the smallest difference that is supported, and the seeds that others need."""
    notes, plans = Notes(), _plans(results)
    if not plans:
        return None
    never = f"More than {planning.MOST_SEEDS} seeds: more images are needed too."
    rows = [
        [
            Cell(marked(results, split)),
            number_cell(plan.smallest, percent, notes, ""),
            *(
                number_cell(math.nan if needed is None else needed, lambda value: f"{value:.0f}", notes, never)
                for needed in plan.needed
            ),
        ]
        for split, plan in plans.items()
    ]
    pairs = next(iter(plans.values())).pairs
    return Table(
        key="plan",
        caption=f"What differences the experiment can show on {results.name}: {results.metric}, in points.",
        blocks=[
            Block(
                [],
                ["split", "smallest", *(f"seeds for {points}" for points in planning.DIFFERENCES)],
                [Group("", rows)],
            )
        ],
        notes=notes.lines,
        footer=[
            seeds_said(results),
            f"Smallest: the true difference, in points, that is supported in {100 * planning.POWER:g} % of cases.",
            "Seeds for 1, 2 and 3: how many seeds support a true difference of so many points in as many cases, with "
            "these images, and seeds that spread as these do.",
            f"Both are of a pair of the headline ({pairs} in all), at the level of the first step of Holm's "
            "adjustment, with the mean of the variances of all pairs. A pair that spreads more needs more.",
        ],
    )


def _plans(results: DatasetNumbers) -> dict[str, Plan]:
    """Split -> its plan, for each split that has one."""
    comparison = results.comparison.reset_index()
    headline = headline_pairs(results.contrasts, results.highlight, results.reference)
    plans = {
        split: planning.plan(comparison, results.contrasts, results.reference, headline, split, results.metric)
        for split in results.splits
    }
    return {split: plan for split, plan in plans.items() if plan}
