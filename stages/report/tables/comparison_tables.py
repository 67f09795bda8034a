"""Variants compared with the reference: the main table, every metric, and how sure the differences are."""

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    caption,
    difference_cell,
    footer,
    mean_cell,
    meanings,
    name_cell,
    p_cell,
    split_title,
    verdict_cell,
    verdict_words,
    why_no_difference,
    why_no_number,
)
from stages.report.tables.table import (
    METRICS_ABREAST,
    MISSING,
    REFERENCE_MARK,
    Block,
    Cell,
    Group,
    Notes,
    Table,
    cut,
    interval,
    number_cell,
    percent,
)


def main_table(results: DatasetNumbers) -> Table:
    """The protocol's headline metrics, each with its difference to the reference; rows are grouped by split."""
    return _table_of_metrics(
        results,
        key="main",
        title="Variants compared",
        sections=[(splits, [list(results.protocol.headline)]) for splits in by_set(results).values()],
        spread=results.over != "images alone",
    )


def full_tables(results: DatasetNumbers) -> list[Table]:
    """Every metric with its difference, rows grouped by split; one table for each of the sets that are mixed."""
    metrics = cut(results.metrics, METRICS_ABREAST)
    return [
        _table_of_metrics(
            results,
            key=f"full-{name}".rstrip("-"),
            title="Every metric",
            sections=[(splits, metrics)],
        )
        for name, splits in by_set(results).items()
    ]


def difference_table(results: DatasetNumbers) -> Table | None:
    """Of every variant the difference in the first headline metric, its p-values, and how often it is better."""
    others = [name for name in results.systems if name != results.reference]
    if not others:
        return None
    notes, metric, words = Notes(), results.metric, results.smallest_effect is not None

    def row(variant: str, split: str) -> list[Cell]:
        found = results.row(variant, split, metric)
        why = why_no_difference(results, variant)
        better = number_cell(
            found["improvement"],
            percent,
            notes,
            why,
            interval(found["improvement_low"], found["improvement_high"]),
        )
        return [
            name_cell(results, variant, notes),
            difference_cell(found, notes, why),
            *(p_cell(found, column, notes, why) for column in ("p", "p_holm")),
            *([verdict_cell(found, notes, why)] if words else []),
            better,
        ]

    groups = [Group(split_title(results, split), [row(name, split) for name in others]) for split in results.splits]
    return Table(
        key="differences",
        caption=caption(results, f"How sure the differences to {results.label(results.reference)} are"),
        blocks=[Block([], ["variant", f"Δ {metric}", "p", "adj. p", *["verdict"] * words, "better (%)"], groups)],
        notes=notes.lines,
        footer=[
            *footer(results, results.splits, differences=True),
            "Adj. p: the p-value after Holm's adjustment.",
            *([verdict_words(results)] if words else []),
            f"Better: probability that the variant's IoU on a random expression is above that of "
            f"{results.label(results.reference)} under the same seed; ties count half, so 50 is no difference.",
            *meanings(results, [metric]),
        ],
    )


def by_set(results: DatasetNumbers) -> dict[str, list[str]]:
    """Splits by the set that they are named after; the name is empty for a single set, and for further datasets."""
    sets: dict[str, list[str]] = {}
    for split in results.splits:
        sets.setdefault(results.set_of(split), []).append(split)
    return sets


def _table_of_metrics(
    results: DatasetNumbers,
    key: str,
    title: str,
    sections: list[tuple[list[str], list[list[str]]]],
    spread: bool = False,
) -> Table:
    """One or more blocks for each (splits, [metrics of a block, ...]): each metric has its difference beside it.

    Args:
        spread: each mean has the standard deviation over seeds beside it.
    """
    notes, compares = Notes(), len(results.systems) > 1
    blocks = [
        Block(
            spans=[],
            headings=[
                "variant",
                *(text for metric in metrics for text in (metric, *["std"] * spread, *[f"Δ {metric}"] * compares)),
            ],
            groups=[
                Group(
                    split_title(results, split),
                    [_row_of_metrics(results, variant, split, metrics, notes, spread) for variant in results.systems],
                )
                for split in splits
            ],
        )
        for splits, parts in sections
        for metrics in parts
    ]
    splits = [split for splits, _ in sections for split in splits]
    metrics_of_table = [metric for _, parts in sections for metrics in parts for metric in metrics]
    return Table(
        key=key,
        caption=caption(results, title),
        blocks=blocks,
        notes=notes.lines,
        footer=[
            *footer(results, splits, differences=True),
            *(["Std: the standard deviation over the seeds of a variant, in points."] if spread else []),
            *meanings(results, metrics_of_table),
        ],
    )


def _row_of_metrics(
    results: DatasetNumbers, variant: str, split: str, metrics: list[str], notes: Notes, spread: bool
) -> list[Cell]:
    cells = [name_cell(results, variant, notes)]
    for metric in metrics:
        row = results.row(variant, split, metric)
        cells.append(mean_cell(row, notes, why_no_number(results, variant)))
        if spread:
            one = f"{results.label(variant)} has a single seed with scores."
            cells.append(number_cell(row["std"], percent, notes, why_no_number(results, variant) or one))
        if len(results.systems) == 1:
            continue
        if variant == results.reference:
            cells.append(Cell(REFERENCE_MARK if variant in results.scored else MISSING))
        else:
            cells.append(difference_cell(row, notes, why_no_difference(results, variant)))
    return cells
