"""The comparison as comma-separated values, for other programs to read."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.table import MINUS, points, probability


def to_csv(results: DatasetNumbers) -> str:
    """One row for each split and variant; percent rounded as in the tables, each number in a column of its own."""
    rows = [
        {
            "dataset": results.name,
            "protocol": results.protocol.name,
            "partial": results.partial,
            "split": split,
            "expressions": results.counts[split],
            "images": results.images[split],
            "variant": variant,
            "seeds": int(results.row(variant, split, results.metric)["seeds"]),
            "missing seeds": " ".join(map(str, results.missing.get(variant, []))),
            "intervals over": "images alone" if variant in results.others else results.over,
            "no verdict": results.row(variant, split, results.metric)["no_verdict"]
            if variant in results.others
            else results.no_verdict(split),
            **{
                key: value
                for metric in results.metrics
                for key, value in _csv_cells(results.row(variant, split, metric), metric).items()
            },
        }
        for split in results.splits
        for variant in results.systems
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def _csv_cells(row: pd.Series, metric: str) -> dict[str, str]:
    columns = {
        "": "mean",
        " low": "low",
        " high": "high",
        " std": "std",
        " difference": "difference",
        " difference low": "difference_low",
        " difference high": "difference_high",
    }
    cells = {f"{metric}{name}": _plain(row[column]) for name, column in columns.items()}
    p = "" if pd.isna(row["p_holm"]) else probability(row["p_holm"])
    supported = str(bool(row["supported"])).lower()
    return cells | {f"{metric} p adjusted": p, f"{metric} supported": supported, f"{metric} verdict": row["verdict"]}


def _plain(value: float) -> str:
    return "" if pd.isna(value) else points(value, 1).replace(MINUS, "-")
