"""The project's results beside published ones, only where dataset, split, metric and protocol agree."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import limits, name_cell, seeds_said, why_no_number
from stages.report.tables.published_values import (
    OURS,
    agreeing,
    method_cell,
    on_these_splits,
    set_names,
    value_cell,
)
from stages.report.tables.table import MISSING, Block, Cell, Group, Notes, Table, interval, percent
from stages.scoring.metrics import METRICS


def statement(results: DatasetNumbers) -> str:
    """Which published results are set beside the project's numbers, which are not, and why."""
    if results.source.get("kind") not in OURS:
        return f"No published results are set beside these: {results.name} does not belong to the RefCOCO family."
    if results.partial:
        return "No published results are set beside these: the dataset is only a part of the published one."
    candidates = on_these_splits(results, results.splits)
    if candidates.empty:
        return f"The project knows no published results on the splits of {results.name}."
    sentences = []
    protocol, known = results.protocol.name, candidates[candidates["protocol"] != ""]
    elsewhere = [other.name for other in results.protocols[1:]]
    others = known[~known["protocol"].isin([protocol, *elsewhere])]
    if not (known["protocol"] == protocol).any():
        sentences.append(f"The project knows no published results of protocol {protocol}.")
    if (also := known[known["protocol"].isin(elsewhere)]).size:
        sentences.append(f"Beside the same models under their own protocol, in a table of that: {_by_protocol(also)}.")
    if not others.empty:
        sentences.append(f"Not set beside these results, whose protocol is {protocol}: {_by_protocol(others)}.")
    unknown = candidates.loc[candidates["protocol"] == "", "method"].unique()
    if len(unknown):
        sentences.append(f"Not set beside any results, because their protocol is not known: {', '.join(unknown)}.")
    return " ".join(sentences)


def _by_protocol(rows: pd.DataFrame) -> str:
    """`LAVT, MagNet: protocol lavt; CRIS: protocol cris`."""
    return "; ".join(
        f"{', '.join(of_protocol['method'].unique())}: protocol {name}"
        for name, of_protocol in rows.groupby("protocol", sort=False)
    )


def table(results: DatasetNumbers) -> Table | None:
    """Published results of the same dataset, split, metric and protocol, above the project's; None without any."""
    beside = agreeing(results, [results.protocol], results.splits)
    if beside.empty:
        return None
    names, notes, blocks = set_names(results.source, results.splits), Notes(), []
    ordered = dict.fromkeys([*results.protocol.headline, *METRICS])
    metrics = [metric for metric in ordered if (beside["metric"] == metric).any()]
    for dataset in dict.fromkeys(name for name, _ in names.values()):
        of_dataset = beside[beside["dataset"] == dataset]
        if of_dataset.empty:
            continue
        splits = {split: published for split, (name, published) in names.items() if name == dataset}
        columns = [
            (split, metric)
            for split in splits
            for metric in metrics
            if ((of_dataset["split"] == splits[split]) & (of_dataset["metric"] == metric)).any()
        ]
        spans = [(splits[split], sum(of_split == split for of_split, _ in columns)) for split in splits]
        theirs = [
            [
                method_cell(method, rows, notes),
                *(value_cell(rows, splits[split], metric, notes) for split, metric in columns),
            ]
            for method, rows in of_dataset.groupby("method", sort=False)
        ]
        ours = [
            [
                name_cell(results, variant, notes),
                *(_own_cell(results, variant, split, metric, notes) for split, metric in columns),
            ]
            for variant in results.systems
        ]
        blocks.append(
            Block(
                [("", 1), *spans],
                ["method", *(metric for _, metric in columns)],
                [
                    Group(f"published, {dataset}", theirs),
                    Group(
                        f"this project, recipe {results.recipe}, trained on {OURS[results.source['kind']]}",
                        ours[: len(results.variants)],
                    ),
                    *([Group("predictions of others", ours[len(results.variants) :])] if results.others else []),
                ],
            )
        )
    return Table(
        key="published",
        caption=f"Results on {results.name} beside published ones of the same dataset, split, metric and protocol "
        f"({results.protocol.name}). In percent.",
        blocks=blocks,
        notes=notes.lines,
        footer=[
            "Published values are single numbers without intervals, from other encoders and training than these.",
            seeds_said(results),
            f"Brackets: 95 % intervals of this project's results, over {results.over}.",
            *([f"Protocol {results.protocol.name}: {results.protocol.differs}"] if results.protocol.differs else []),
            *limits(results, results.splits),
            statement(results),
        ],
    )


def _own_cell(results: DatasetNumbers, variant: str, split: str, metric: str, notes: Notes) -> Cell:
    row = results.row(variant, split, metric)
    if pd.isna(row["mean"]):
        return Cell(MISSING + notes.mark(why_no_number(results, variant)))
    return Cell(percent(row["mean"], 2), interval(row["low"], row["high"]), value=float(row["mean"]))
