"""`reports/headline.json`, the one file of metrics for DVC: a number for each variant and split, with its interval.

DVC makes a column of every number outside a list, so the numbers of the headline alone stand outside one.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers, verdict

FILE = Path("headline.json")  # in reports/


def to_json(datasets: Sequence[DatasetNumbers]) -> bytes:
    """Percent and points, rounded to two decimals; null where there is no number.

    Returns:
        metric, variant: of the headline. For each split that it is about, but those of further datasets, the variant's
        mean and its difference to the reference, below the dataset's name where there are several. all: these, their
        intervals and the verdict, for every dataset, split and variant.
    """
    first = datasets[0]
    shown = {results.name: _headline(results) for results in datasets}
    content = {
        "metric": first.metric,
        "variant": first.named_highlight,
        **(shown if len(datasets) > 1 else shown[first.name]),
        "all": [row for results in datasets for row in _rows(results)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _headline(results: DatasetNumbers) -> dict[str, float | None]:
    """In few columns with short names: a table of DVC has them all in one row, after the path of the file."""
    found, own = {}, [split for split in results.unseen if split not in results.further]
    for split in own or results.unseen:
        numbers = _numbers(results, results.named_highlight, split)
        found |= {split: numbers["mean"], f"{split}_diff": numbers["difference"]}
    return found


def _rows(results: DatasetNumbers) -> list[dict]:
    return [
        {"dataset": results.name, "split": split, "variant": variant, **_numbers(results, variant, split)}
        for split in results.splits
        for variant in results.systems
    ]


def _numbers(results: DatasetNumbers, variant: str, split: str) -> dict:
    row = results.row(variant, split, results.metric)
    return {
        "mean": _points(row["mean"]),
        "interval": [_points(row["low"]), _points(row["high"])],
        "difference": _points(row["difference"]),
        "difference_interval": [_points(row["difference_low"]), _points(row["difference_high"])],
        "verdict": None if variant == results.reference else verdict(row) or None,
    }


def _points(value: float) -> float | None:
    return None if pd.isna(value) else round(100 * float(value), 2)
