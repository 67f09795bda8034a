"""Published results, and which of them may stand beside the project's: the same dataset, split, metric and protocol.

`published.csv` has one row for each method, dataset, split and metric: the value in percent, how the method was
trained, the source of the value, and the protocol of `stages.scoring.protocols` that the method's own evaluation
follows. The protocol is empty where it is not known; such a value is never set beside another.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from stages.data.prepared import set_of
from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.table import MISSING, Cell, Notes
from stages.runtime.refer_sets import FORMATS, SPLIT_BY
from stages.scoring.protocols import Protocol

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
            if name in source["mix"]
        }
    return {}


def on_these_splits(results: DatasetNumbers, splits: list[str]) -> pd.DataFrame:
    """Published results on some splits of a dataset, under any protocol."""
    known, wanted = read(), set(set_names(results.source, splits).values())
    return known[[key in wanted for key in zip(known["dataset"], known["split"], strict=True)]]


def agreeing(results: DatasetNumbers, protocols: Collection[Protocol], splits: list[str]) -> pd.DataFrame:
    """Those of some protocols; none beside partial data."""
    if results.source.get("kind") not in OURS or results.partial:
        return read().head(0)
    found = on_these_splits(results, splits)
    return found[found["protocol"].isin([protocol.name for protocol in protocols])]


def method_cell(method: str, rows: pd.DataFrame, notes: Notes) -> Cell:
    """The name of a method, with a footnote on its training and the source."""
    return Cell(method + notes.mark(f"{rows['training'].iloc[0]}; source: {rows['source'].iloc[0]}."))


def value_cell(rows: pd.DataFrame, split: str, metric: str, notes: Notes) -> Cell:
    """The value of a method, of which rows are, on a split; a dash with a footnote where there is none."""
    found = rows.loc[(rows["split"] == split) & (rows["metric"] == metric), "value"]
    if found.empty:
        return Cell(MISSING + notes.mark("Not published, or not known to the project."))
    return Cell(f"{found.iloc[0]:.2f}", value=found.iloc[0] / 100)


def _published_name(name: str, split_by: str) -> str:
    return name if split_by == "unc" else f"{name}-{split_by}"
