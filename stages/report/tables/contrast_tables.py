"""What each part of the method changes: pairs of variants that differ in one part, as a table."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    VLBA,
    caption,
    difference_cell,
    footer,
    meanings,
    p_cell,
    split_title,
    verdict_cell,
    verdict_words,
    verdicts,
)
from stages.report.tables.table import METRICS_ABREAST, Block, Cell, Group, Notes, Table, cut


def table(results: DatasetNumbers) -> Table | None:
    """Every pair of variants that differ in one part of the method: what that part changes, all else equal."""
    if results.contrasts.empty:
        return None
    notes, blocks, words = Notes(), [], results.smallest_effect is not None
    for metrics in cut(list(results.protocol.headline), METRICS_ABREAST):
        groups = []
        for split in results.splits:
            of_split = results.contrasts[results.contrasts["split"] == split]
            pairs = of_split[of_split["metric"] == metrics[0]]
            rows = [
                [
                    Cell(part(results, pair)),
                    *(
                        cell
                        for metric in metrics
                        for cell in _contrast_cells(results, contrast(results, pair, split, metric), notes, words)
                    ),
                ]
                for pair in pairs.itertuples()
            ]
            groups.append(Group(split_title(results, split), rows))
        headings = [text for metric in metrics for text in (f"Δ {metric}", "adj. p", *["verdict"] * words)]
        blocks.append(Block([], ["part of the method", *headings], groups))
    return Table(
        key="contrasts",
        caption=caption(results, "What each part of the method changes, all else equal,"),
        blocks=blocks,
        notes=notes.lines,
        footer=[
            *footer(results, results.splits),
            f"Δ: difference between a variant with the part and one without it{_pairs(results)}.",
            *verdicts(results, results.splits),
            "Adj. p: the p-value after Holm's adjustment.",
            *([verdict_words(results)] if words else []),
            f"{VLBA} Contrast: the contrastive loss.",
            *meanings(results, list(results.protocol.headline)),
        ],
    )


def part(results: DatasetNumbers, pair: object) -> str:
    """The part of the method in which a pair of variants differs; where several pairs share it, what tells them apart.

    Args:
        results: of the dataset.
        pair: with `what`, `variant` and `against`.
    """
    pairs = _all_pairs(results)
    sharing = pairs[pairs["what"] == pair.what]
    if len(sharing) == 1:
        return pair.what
    if (sharing["against"] == pair.against).sum() == 1:
        return f"{pair.what} over {results.label(pair.against)}"
    return _named(results, pair)


def contrast(results: DatasetNumbers, pair: object, split: str, metric: str) -> pd.Series:
    """The row of `results.contrasts` about a pair of variants, named as `variant` and `against`."""
    found = results.contrasts
    same = (found["variant"] == pair.variant) & (found["against"] == pair.against)
    return found[same & (found["split"] == split) & (found["metric"] == metric)].iloc[0]


def _contrast_cells(results: DatasetNumbers, row: pd.Series, notes: Notes, words: bool) -> list[Cell]:
    why = f"{results.label(row['variant'])} and {results.label(row['against'])} have no seed in common."
    cells = [difference_cell(row, notes, why), p_cell(row, "p_holm", notes, why)]
    return [*cells, verdict_cell(row, notes, why)] if words else cells


def _all_pairs(results: DatasetNumbers) -> pd.DataFrame:
    return results.contrasts[["what", "variant", "against"]].drop_duplicates()


def _pairs(results: DatasetNumbers) -> str:
    """The pairs whose rows have the part alone."""
    unnamed = [pair for pair in _all_pairs(results).itertuples() if part(results, pair) == pair.what]
    return ": " * bool(unnamed) + "; ".join(_named(results, pair) for pair in unnamed)


def _named(results: DatasetNumbers, pair: object) -> str:
    return f"{pair.what}, {results.label(pair.variant)} over {results.label(pair.against)}"
