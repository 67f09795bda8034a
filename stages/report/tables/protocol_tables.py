"""The same models under each protocol: what the convention is worth, and where published results of it stand."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import (
    data_warning,
    limits,
    meanings,
    name_cell,
    seeds_said,
    split_title,
    why_no_number,
)
from stages.report.tables.published_values import OURS, agreeing, method_cell
from stages.report.tables.side_by_side import spread, spread_said
from stages.report.tables.table import REFERENCE_MARK, Block, Cell, Group, Notes, Table, number_cell, percent
from stages.scoring.protocols import Protocol

RANGE = "range"
OTHER_INPUT = "Where a protocol has an input of its own, its numbers differ by that too, and not by the counting alone."
SAME_MASKS = (
    "Masks of a file of predictions are the same under each protocol, so its range is that of the counting alone."
)


def tables(results: DatasetNumbers) -> list[Table]:
    """One for each headline metric of the protocols: a row for each system and a column for each protocol.

    None where the models are scored under one protocol alone.
    """
    if results.under_each is None:
        return []
    metrics = dict.fromkeys(metric for protocol in results.protocols for metric in protocol.headline)
    return [_table(results, results.under_each, metric) for metric in metrics]


def _table(results: DatasetNumbers, under_each: pd.DataFrame, metric: str) -> Table:
    notes, own = Notes(), results.protocol.name
    names = [protocol.name for protocol in results.protocols]
    of_metric = under_each[under_each["metric"] == metric]
    groups = []
    for split in results.splits:
        if theirs := _published(results, split, metric, notes):
            groups.append(Group(f"{split}, published", theirs))
        found = _over_seeds(of_metric[of_metric["split"] == split])
        rows = [
            [
                name_cell(results, system, notes),
                *_cells(found.get(system, pd.DataFrame()), names, notes, _why_no_number(results, system)),
            ]
            for system in results.systems
        ]
        groups.append(Group(split_title(results, split), rows))
    beside = any(group.title.endswith(", published") for group in groups)
    return Table(
        key=f"protocols-{metric}",
        caption=f"{metric} of the same models on {results.name} under each protocol. In percent: "
        f"{spread_said(len(results.seeds))}.",
        blocks=[Block([("", 1), ("protocol", len(names)), ("", 1)], ["variant", *names, RANGE], groups)],
        notes=notes.lines,
        footer=[
            f"{RANGE.capitalize()}: the highest mean of a row minus the lowest, in points: what the choice of protocol "
            "is worth.",
            f"The best epoch of each model was chosen under {own}; every other result of this report is of {own} too.",
            *map(convention, results.protocols),
            *([OTHER_INPUT] if any(protocol.fit for protocol in results.protocols) else []),
            *([SAME_MASKS] if results.others else []),
            *(
                [
                    "Published values stand in the column of their own protocol; they are single numbers, from other "
                    f"encoders and training than these (recipe {results.recipe}, trained on "
                    f"{OURS[results.source['kind']]}).",
                    *(f"Protocol {each.name}: {each.differs}" for each in results.protocols if each.differs),
                ]
                if beside
                else []
            ),
            seeds_said(results),
            *([f"{data_warning(results)}."] if data_warning(results) else []),
            *limits(results, results.splits),
            *meanings(results, [metric]),
        ],
    )


def convention(protocol: Protocol) -> str:
    """Where a protocol counts, and what it takes for inside."""
    image = {
        None: "the recipe's input",
        "stretch": f"stretched to {protocol.size} x {protocol.size} pixels",
        "letterbox": f"fitted into {protocol.size} x {protocol.size} pixels",
    }[protocol.fit]
    grid = {"original": "at the image's size", "input": "on that grid"}[protocol.grid]
    inside = f"a pixel is inside above {protocol.threshold:g}"
    return f"{protocol.name}: {image}, counted {grid}, {inside}."


def _why_no_number(results: DatasetNumbers, system: str) -> str:
    if system in results.others:
        return f"Masks of the size at which {results.protocol.name} counts, and this protocol does not."
    return why_no_number(results, system)


def _over_seeds(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """System -> protocol x (mean, std, seeds); std is that of n - 1, and missing for one seed or one file."""
    return {
        str(variant): of_variant.groupby("protocol")["value"].agg(mean="mean", std="std", seeds="count")
        for variant, of_variant in rows.groupby("variant")
    }


def _cells(found: pd.DataFrame, protocols: list[str], notes: Notes, why: str) -> list[Cell]:
    """A number under each protocol, and their range."""
    found = found.reindex(protocols) if len(found) else pd.DataFrame(index=protocols, columns=["mean", "std", "seeds"])
    cells = [number_cell(row["mean"], percent, notes, why, spread(row)) for _, row in found.iterrows()]
    return [*cells, number_cell(found["mean"].max() - found["mean"].min(), percent, notes, why)]


def _published(results: DatasetNumbers, split: str, metric: str, notes: Notes) -> list[list[Cell]]:
    """A row for each method with a value on a split, in the column of its own protocol."""
    known, rows = agreeing(results, results.protocols, [split]), []
    for method, of_method in known[known["metric"] == metric].groupby("method", sort=False):
        row = of_method.iloc[0]
        cells = [
            Cell(f"{row['value']:.2f}", value=row["value"] / 100)
            if protocol.name == row["protocol"]
            else Cell(REFERENCE_MARK)
            for protocol in results.protocols
        ]
        rows.append([method_cell(method, of_method, notes), *cells, Cell(REFERENCE_MARK)])
    return rows
