"""The check-mark matrix of an ablation: which parts a variant has, and what it reaches on one split."""

import itertools

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables import side_by_side
from stages.report.tables.captions import (
    VLBA,
    data_warning,
    limits,
    meanings,
    name_cell,
    protocol_said,
    split_title,
    why_no_number,
)
from stages.report.tables.published_values import agreeing, method_cell, value_cell
from stages.report.tables.table import ARROW, CHECK, Block, Cell, Notes, Table
from stages.runtime.params import Variant

MORE = "Pr@0.5"  # beside the headline metrics
PARTS = (f"T{ARROW}P", f"P{ARROW}T", "contrast")
DIRECTIONS = {"text_to_pixel": (CHECK, ""), "pixel_to_text": ("", CHECK), "bidirectional": (CHECK, CHECK)}
CONTROLS = {
    "global_words": (("mean", ""), "Mean: the mean of the words at every pixel, without attention."),
    "no_exchange": (("off", "off"), "Off: the parameters of VLBA are there, and nothing is exchanged."),
}


def tables(results: DatasetNumbers) -> list[Table]:
    """One table for each split; none for a single variant."""
    return [_table(results, split) for split in results.splits] if len(results.systems) > 1 else []


def _table(results: DatasetNumbers, split: str) -> Table:
    notes, metrics = Notes(), list(dict.fromkeys([*results.protocol.headline, MORE]))
    theirs = _published(results, split, metrics, notes)
    rows = [
        [
            side_by_side.cell(results, results.row(variant, split, metric), notes, why_no_number(results, variant))
            for metric in metrics
        ]
        for variant in results.systems
    ]
    rows = side_by_side.ranked(results, rows)
    kinds = [kind for kind in dict.fromkeys(each.contrastive for each in results.made_of.values()) if kind != "none"]
    ours = [
        [name_cell(results, name, notes), *_parts(results.made_of.get(name), len(kinds) > 1), *cells]
        for name, cells in zip(results.systems, rows, strict=True)
    ]
    controls = {each.vlba for each in results.made_of.values()} & CONTROLS.keys()
    contrast = f"Contrast: the contrastive loss{', with its samples: pixels or instances' if len(kinds) > 1 else ''}."
    return Table(
        key=f"ablation-{split}",
        caption=f"The parts of AlignFormer on {results.name}, {split_title(results, split)}. "
        f"{side_by_side.described([results], [split], itertools.chain(*rows))}",
        blocks=[
            Block(
                [("", 1), ("VLBA", 2), ("", 1 + len(metrics))],
                ["variant", *PARTS, *metrics],
                side_by_side.groups(results, theirs, ours),
            )
        ],
        notes=notes.lines,
        footer=[
            f"{VLBA} {PARTS[0]}: text to pixel, {PARTS[1]}: pixel to text. {contrast}",
            *(CONTROLS[kind][1] for kind in sorted(controls)),
            protocol_said(results),
            *([f"{data_warning(results)}."] if data_warning(results) else []),
            *limits(results, [split]),
            *meanings(results, metrics),
        ],
    )


def _parts(variant: Variant | None, several: bool) -> list[Cell]:
    """What stands under `PARTS`, nothing for a system that others made; `several` kinds of contrast are told apart."""
    if variant is None:
        return [Cell("")] * len(PARTS)
    control, _ = CONTROLS.get(variant.vlba, (("", ""), ""))
    contrast = "" if variant.contrastive == "none" else f"{CHECK} {variant.contrastive}" if several else CHECK
    return [*map(Cell, DIRECTIONS.get(variant.vlba, control)), Cell(contrast)]


def _published(results: DatasetNumbers, split: str, metrics: list[str], notes: Notes) -> list[list[Cell]]:
    known = agreeing(results, [results.protocol], [split])
    return [
        [
            method_cell(method, rows, notes),
            *[Cell("")] * len(PARTS),
            *(value_cell(rows, rows["split"].iloc[0], metric, notes) for metric in metrics),
        ]
        for method, rows in known[known["metric"].isin(metrics)].groupby("method", sort=False)
    ]
