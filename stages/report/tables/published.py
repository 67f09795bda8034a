"""The project's results beside published ones, only where dataset, split, metric and protocol agree.

`published.csv` has one row for each method, dataset, split and metric: the value in percent, how the method was
trained, the source of the value, and the protocol of `stages.scoring.protocols` that the method's own evaluation
follows. The protocol is empty where it is not known; such a value is never set beside another.
"""

from pathlib import Path

import pandas as pd

from stages.data.prepared import set_of
from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import MADE_BY, limits, name_cell, seeds_said, why_no_number
from stages.report.tables.table import MISSING, Block, Cell, Group, Notes, Table, interval, percent
from stages.runtime.refer_sets import FORMATS, SPLIT_BY
from stages.scoring.metrics import METRICS

FILE = Path(__file__).with_name("published.csv")
COLUMNS = ["method", "training", "dataset", "split", "metric", "protocol", "value", "source"]
OURS = {**dict.fromkeys(FORMATS, "the dataset's own train split"), "mix": "several datasets together"}


def read() -> pd.DataFrame:
    """Published results with the columns `COLUMNS`, values in percent; `protocol` is empty where it is not known."""
    return pd.read_csv(FILE, dtype={"protocol": str}).fillna({"protocol": ""})[COLUMNS]


def set_names(source: dict, splits: list[str]) -> dict[str, tuple[str, str]]:
    """Evaluation split -> its dataset and split in `published.csv`; empty for a dataset that nobody published on."""
    if source.get("kind") in FORMATS:
        return {split: (_published_name(source["name"], source["split_by"]), split) for split in splits}
    if source.get("kind") == "mix":
        return {
            split: (_published_name(name, SPLIT_BY[name][0]), split.removeprefix(f"{name}_"))
            for split in splits
            for name in [set_of(split)]
        }
    return {}


def statement(results: DatasetNumbers) -> str:
    """Which published results are set beside the project's numbers, which are not, and why."""
    if results.source.get("kind") not in OURS:
        return f"No published results are set beside these: {results.name} does not belong to the RefCOCO family."
    if results.partial:
        return "No published results are set beside these: the dataset is only a part of the published one."
    candidates = _on_these_splits(results)
    if candidates.empty:
        return f"The project knows no published results on the splits of {results.name}."
    sentences = []
    protocol, known = results.protocol.name, candidates[candidates["protocol"] != ""]
    others = known[known["protocol"] != protocol]
    if not (known["protocol"] == protocol).any():
        sentences.append(f"The project knows no published results of protocol {protocol}.")
    if not others.empty:
        methods = "; ".join(
            f"{', '.join(rows['method'].unique())}: protocol {name}"
            for name, rows in others.groupby("protocol", sort=False)
        )
        sentences.append(f"Not set beside these results, whose protocol is {protocol}: {methods}.")
    unknown = candidates.loc[candidates["protocol"] == "", "method"].unique()
    if len(unknown):
        sentences.append(f"Not set beside any results, because their protocol is not known: {', '.join(unknown)}.")
    return " ".join(sentences)


def table(results: DatasetNumbers) -> Table | None:
    """Published results of the same dataset, split, metric and protocol, above the project's; None without any."""
    if results.source.get("kind") not in OURS or results.partial:
        return None
    agreeing = _on_these_splits(results)
    agreeing = agreeing[agreeing["protocol"] == results.protocol.name]
    if agreeing.empty:
        return None
    names, notes, blocks = set_names(results.source, results.splits), Notes(), []
    ordered = dict.fromkeys([*results.protocol.headline, *METRICS])
    metrics = [metric for metric in ordered if (agreeing["metric"] == metric).any()]
    for dataset in dict.fromkeys(name for name, _ in names.values()):
        of_dataset = agreeing[agreeing["dataset"] == dataset]
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
                Cell(method + notes.mark(f"{rows['training'].iloc[0]}; source: {rows['source'].iloc[0]}.")),
                *(_published_cell(rows, splits[split], metric, notes) for split, metric in columns),
            ]
            for method, rows in of_dataset.groupby("method", sort=False)
        ]
        ours = [
            [
                name_cell(results, variant, notes),
                *(_own_cell(results, variant, split, metric, notes) for split, metric in columns),
            ]
            for variant in results.variants
        ]
        blocks.append(
            Block(
                [("", 1), *spans],
                ["method", *(metric for _, metric in columns)],
                [
                    Group(f"published, {dataset}", theirs),
                    Group(f"this project, recipe {results.recipe}, trained on {OURS[results.source['kind']]}", ours),
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
            MADE_BY,
        ],
    )


def _published_name(name: str, split_by: str) -> str:
    return name if split_by == "unc" else f"{name}-{split_by}"


def _on_these_splits(results: DatasetNumbers) -> pd.DataFrame:
    known, wanted = read(), set(set_names(results.source, results.splits).values())
    return known[[key in wanted for key in zip(known["dataset"], known["split"], strict=True)]]


def _published_cell(rows: pd.DataFrame, split: str, metric: str, notes: Notes) -> Cell:
    found = rows.loc[(rows["split"] == split) & (rows["metric"] == metric), "value"]
    if found.empty:
        return Cell(MISSING + notes.mark("Not published, or not known to the project."))
    return Cell(f"{found.iloc[0]:.2f}", value=found.iloc[0] / 100)


def _own_cell(results: DatasetNumbers, variant: str, split: str, metric: str, notes: Notes) -> Cell:
    row = results.row(variant, split, metric)
    if pd.isna(row["mean"]):
        return Cell(MISSING + notes.mark(why_no_number(results, variant)))
    return Cell(percent(row["mean"], 2), interval(row["low"], row["high"]), value=float(row["mean"]))
