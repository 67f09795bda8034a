"""What runs say of themselves: descriptions in Markdown, and tags that order and label the variants of a comparison."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from stages.statistics.evidence import unseen
from stages.tracking import mlruns

SHOWN = ("Metrics", "Variant", "Data", "Limits")  # sections of the model card, in the order of a description
NONE = "–"  # noqa: RUF001
LONGEST = 7500  # characters of a description; MLflow cuts tags at 8,000

Row = Mapping[str, str]


def of_training(variant: str, card: Path) -> str:
    """The description of a training's run: what it is, and the model card without its code and citation."""
    if not card.exists():
        return f"Variant `{variant}`."
    text = card.read_text(encoding="utf-8").rpartition("---\n")[2]
    title, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    named = {section.partition("\n")[0]: f"## {section}" for section in sections}
    heading = re.sub(r"\s*```.*?```\s*", "\n\n", title, flags=re.DOTALL).strip()
    return "\n\n".join([heading, *(named[name].strip() for name in SHOWN if name in named)])[:LONGEST]


def of_comparison(rows: Sequence[Row], said: Sequence[str], report: str | None) -> str:
    """The description of an ablation's run.

    Args:
        rows: of the comparison's table, in one metric.
        said: what the report says first, the best variant before its leads; none where there is no report.
        report: address of the report among the artifacts, if it is there.
    """
    splits = list(dict.fromkeys(row["split"] for row in rows))
    metric = rows[0]["metric"]
    head = ["variant", *(cell for split in splits for cell in (f"{metric} on {split}", "difference", "verdict"))]
    lines = [head, ["---"] * len(head)]
    for variant in ranked(rows):
        own = {row["split"]: row for row in rows if row["variant"] == variant}
        lines.append([f"`{variant}`", *(cell for split in splits for cell in _cells(own.get(split)))])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = "In percent and in points, with 95 % intervals over images and seeds. val chose the epoch."
    link = [f"[The report]({report})"] * bool(report)
    best, leads = said[:1], said[1:]
    headline = [f"**{sentence}**" for sentence in best] + ["\n".join(f"- {lead}" for lead in leads)] * bool(leads)
    return "\n\n".join([*headline, table, note, *link])[:LONGEST]


def result(path: Path) -> list[str]:
    """What a report says first about a dataset, in sentences; none where there is no such file, as `layout.result`."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def rows_of(table: Path, metric: str) -> list[dict[str, str]]:
    """The rows of a comparison's table in one metric."""
    with table.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == metric]


def ranked(rows: Sequence[Row]) -> list[str]:
    """The variants, the one with the largest mean over the splits that chose no epoch first."""
    fair = unseen(list(dict.fromkeys(row["split"] for row in rows)))
    means: dict[str, list[float]] = {row["variant"]: [] for row in rows}
    for row in rows:
        if row["split"] in fair and row["mean"]:
            means[row["variant"]].append(float(row["mean"]))
    return sorted(means, key=lambda variant: fmean(means[variant] or [-1.0]), reverse=True)


def labels(rows: Sequence[Row], reference: str) -> dict[str, dict[str, str]]:
    """For each variant, the tags by which views sort and group its runs: its place, and verdict and differences."""
    fair = unseen(list(dict.fromkeys(row["split"] for row in rows)))
    found = {}
    for place, variant in enumerate(ranked(rows), start=1):
        own = [row for row in rows if row["variant"] == variant and row["split"] in fair and row["difference"]]
        label = f"{variant}: {'the reference' if variant == reference else _compared(own)}"
        found[variant] = {mlruns.PLACE: f"{place:02}", mlruns.COMPARED_AS: label}
    return found


def differences(rows: Sequence[Row], reference: str) -> dict[str, str]:
    """Tags of an ablation's run: for each variant, its differences to the reference with interval and verdict."""
    return {
        f"difference.{variant}": "; ".join(
            f"{row['split']} {_difference(row)} {verdict(row)}".strip()
            for row in rows
            if row["variant"] == variant and row["difference"]
        )
        for variant in dict.fromkeys(row["variant"] for row in rows)
        if variant != reference
    }


def verdict(row: Row) -> str:
    """`better`, `worse`, `equivalent` or `undecided`; empty where there is no verdict."""
    return row.get("verdict") or ("supported" if row.get("supported") == "True" else "")


def _compared(rows: Sequence[Row]) -> str:
    """`better (testA +6.1, testB +7.7)`, or `testA +12.1 undecided, testB +9.8 better` where verdicts differ."""
    said = [f"{row['split']} {_points(row['difference'])}" for row in rows]
    verdicts = [verdict(row) or "no verdict" for row in rows]
    if len(set(verdicts)) > 1:
        return ", ".join(f"{difference} {word}" for difference, word in zip(said, verdicts, strict=True))
    return f"{verdicts[0]} ({', '.join(said)})" if rows else "not compared"


def _cells(row: Row | None) -> tuple[str, str, str]:
    if row is None or not row["mean"]:
        return NONE, NONE, ""
    mean = f"{100 * float(row['mean']):.1f}" + _interval(row, "low", "high")
    compared = row["difference"] and row.get("difference_low")
    return mean, _difference(row) if compared else NONE, verdict(row)


def _difference(row: Row) -> str:
    return _points(row["difference"]) + _interval(row, "difference_low", "difference_high")


def _interval(row: Row, low: str, high: str) -> str:
    return f" [{100 * float(row[low]):z.1f}, {100 * float(row[high]):z.1f}]" if row.get(low) else ""


def _points(value: str) -> str:
    points = f"{100 * float(value):+z.1f}"
    return points if float(points) else "0.0"
