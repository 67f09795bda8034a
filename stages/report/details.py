"""Tables of detail for the page: slices, sweeps, alignment and calibration."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from stages.report import alignment
from stages.report.inputs import DatasetResults
from stages.report.sweeps import Sweep
from stages.report.tables import REFERENCE_MARK, Block, Group, Table, percent, signed


def of_slices(results: DatasetResults, slices: pd.DataFrame, metric: str) -> list[Table]:
    """A table a split: slices by family, the result of every variant, and what the richest changes.

    Args:
        results: the dataset's.
        slices: columns split, family, slice, variant, expressions, pictures, mean, difference, difference_low and
            difference_high (fractions).
        metric: that they are in.
    """
    tables = []
    for split, rows in slices.groupby("split", sort=False):
        groups = [
            Group(
                family_title(family),
                [_slice_row(results, str(name), own) for name, own in part.groupby("slice", sort=False)],
            )
            for family, part in rows.groupby("family", sort=False)
        ]
        tables.append(
            Table(
                key=f"slices-{split}",
                caption=(
                    f"{metric} in percent by slice of the expressions of {split}, mean over seeds, and Δ: "
                    f"{results.richest} minus {results.reference} with its 95 % interval, not adjusted for the number "
                    f"of slices. {REFERENCE_MARK}: fewer than 10 pictures, or no scores."
                ),
                blocks=[Block([], ["slice", "expressions", "pictures", *results.variants, _delta(results)], groups)],
            )
        )
    return tables


def of_sweep(results: DatasetResults, sweep: Sweep, metric: str) -> Table:
    """A row a value of the key that is swept, its result on every split."""
    rows = []
    for label, variant in zip(sweep.labels, sweep.variants, strict=True):
        cells = []
        for split in results.splits:
            row = results.comparison.loc[(variant, split, metric)]
            change = _change(row) if variant != results.reference else REFERENCE_MARK
            cells += [with_interval(row), change]
        rows.append([label, variant, *cells])
    return Table(
        key=f"sweep-{sweep.key}",
        caption=(
            f"{metric} in percent over {sweep.key}, with 95 % intervals over pictures and seeds, and Δ: minus that of "
            f"{results.reference} on the same expressions."
        ),
        blocks=[
            Block(
                spans=[("", 2), *((split, 2) for split in results.splits)],
                headings=[sweep.key, "variant", *[metric, f"Δ {metric}"] * len(results.splits)],
                groups=[Group("", rows)],
            )
        ],
    )


def of_alignment(results: DatasetResults, summary: pd.DataFrame) -> Table:
    """A row a variant, a column a measure; `summary` as `alignment.summarise` gives it."""
    groups = []
    for split, rows in summary.groupby("split", sort=False):
        parts = [rows[rows["measure"] == measure].set_index("variant") for measure in alignment.MEASURES]
        lines = [
            [variant, *(with_interval(part.reindex(results.variants).loc[variant]) for part in parts)]
            for variant in results.variants
        ]
        lines.append(["random similarities", *(_value(part["base"].mean(), percent) for part in parts)])
        groups.append(Group(split, lines))
    return Table(
        key="alignment",
        caption=(
            "Average precision in percent of pixel-center similarity, inside against outside the true mask, mean over "
            "expressions, seeds averaged, with 95 % intervals over pictures."
        ),
        blocks=[Block([], ["variant", *(title.lower() for title in alignment.MEASURES.values())], groups)],
    )


def of_calibration(results: DatasetResults, summaries: dict[tuple[str, int], dict], split: str) -> Table:
    """A row a variant; `summaries` as `diagnosis.Diagnosis` has them."""
    rows = []
    for variant in results.variants:
        own = [summary for (name, _), summary in summaries.items() if name == variant]
        if not own:
            rows.append([variant, *[REFERENCE_MARK] * 5])
            continue
        means = pd.DataFrame([summary["calibration"][split] for summary in own]).mean()
        cells = [f"{means['brier']:.4f}"]
        cells += [percent(means[key]) for key in ("expected_error", "mIoU", "mIoU_best_threshold")]
        rows.append([variant, *cells, ", ".join(f"{summary['best_threshold']:g}" for summary in own)])
    return Table(
        key="calibration",
        caption=(
            f"Calibration on {split}, mean over seeds. Brier score: mean squared error of a pixel's probability (0 is "
            "best). Calibration error: mean distance between probability and share inside over bins of probability, in "
            "percentage points. Best threshold: the one with the highest mIoU on val, of each seed."
        ),
        blocks=[
            Block(
                [],
                ["variant", "Brier score", "calibration error", "mIoU (%)", "at the best threshold", "best threshold"],
                [Group("", rows)],
            )
        ],
    )


def family_title(family: str) -> str:
    """The name of a family of slices, for readers."""
    return family.replace("_", " ").capitalize()


def with_interval(row: pd.Series) -> str:
    """Mean and its interval in percent; a dash where there is no mean."""
    return f"{_value(row['mean'], percent)} {_interval(row['low'], row['high'], percent)}".strip()


def _slice_row(results: DatasetResults, name: str, rows: pd.DataFrame) -> list[str]:
    own = rows.set_index("variant").reindex(results.variants)
    counts = [f"{rows[column].iloc[0]:,}" for column in ("expressions", "pictures")]
    means = [_value(own.loc[variant, "mean"], percent) for variant in results.variants]
    return [name, *counts, *means, _change(own.loc[results.richest])]


def _delta(results: DatasetResults) -> str:
    return f"Δ {results.richest}"


def _change(row: pd.Series) -> str:
    ends = _interval(row["difference_low"], row["difference_high"], signed)
    return f"{_value(row['difference'], signed)} {ends}".strip()


def _value(value: float, text: Callable[[float], str]) -> str:
    return REFERENCE_MARK if np.isnan(value) else text(value)


def _interval(low: float, high: float, text: Callable[[float], str]) -> str:
    return "" if np.isnan(low) else f"[{text(low)}, {text(high)}]"
