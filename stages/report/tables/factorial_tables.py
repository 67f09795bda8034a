"""A factorial as a table: what VLBA and contrast do on their own, and together."""

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    VLBA,
    caption,
    difference_cell,
    footer,
    listing,
    meanings,
    no_verdicts,
    p_cell,
    split_title,
)
from stages.report.tables.table import Block, Cell, Group, Notes, Table
from stages.statistics.factorial import SUPPORTED

NO_SEED = "Its cells have no seed in common."


def table(results: DatasetNumbers) -> Table | None:
    """Main effects and interactions in the protocol's headline metrics, rows grouped by split; None without any."""
    if results.effects is None:
        return None
    notes, metrics = Notes(), list(results.protocol.headline)
    by_place = results.effects.set_index(["split", "what", "metric"])
    groups = [
        Group(
            split_title(results, split),
            [
                [
                    Cell(what),
                    *(
                        cell
                        for metric in metrics
                        for row in [by_place.loc[(split, what, metric)]]
                        for cell in (difference_cell(row, notes, NO_SEED), p_cell(row, "p_holm", notes, NO_SEED))
                    ),
                ]
                for what in results.effects["what"].unique()
            ],
        )
        for split in results.splits
    ]
    kinds, contrasts = results.factorial.levels
    return Table(
        key="factorial",
        caption=caption(results, "Effects of VLBA and contrast in a factorial"),
        blocks=[Block([], ["effect", *(text for metric in metrics for text in (f"Δ {metric}", "adj. p"))], groups)],
        notes=notes.lines,
        footer=[
            *footer(results, results.splits),
            f"Cells: every VLBA ({', '.join(kinds)}) with every contrast ({', '.join(contrasts)}).",
            "Effect of a VLBA: the mean over contrasts of the difference to no VLBA. Effect of a contrast: the mean "
            "over kinds of VLBA of the difference to no contrast. Interaction: the contrast's difference beside this "
            "VLBA minus its difference without VLBA; above 0, both together give more than the sum of each alone.",
            *_verdicts(results),
            "Adj. p: the p-value after Holm's adjustment.",
            f"{VLBA} Contrast: the contrastive loss.",
            *meanings(results, metrics),
        ],
    )


def _verdicts(results: DatasetNumbers) -> list[str]:
    reasons = no_verdicts(results, results.splits)
    bold = [f"Bold: supported, that is {SUPPORTED}."] if sum(map(len, reasons.values())) < len(results.splits) else []
    return bold + [f"Nothing is bold on {listing(of)}: {reason}." for reason, of in reasons.items()]
