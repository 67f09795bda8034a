"""Tables of detail for the page: sweeps, alignment and calibration."""

import pandas as pd

from stages.report.dataset_results import DatasetResults
from stages.report.figures import alignment
from stages.report.figures.sweeps import Sweep
from stages.report.tables.table import MISSING, REFERENCE_MARK, Block, Cell, Group, Table, interval, percent, signed


def of_sweep(results: DatasetResults, sweep: Sweep, metric: str) -> Table:
    """A row a value of the key that is swept, its result on every split."""
    rows = []
    for label, value, variant in zip(sweep.labels, sweep.values, sweep.variants, strict=True):
        cells = [Cell(label, value=value), Cell(variant)]
        for split in results.splits:
            row = results.cell(variant, split, metric)
            cells += [_mean(row), Cell(REFERENCE_MARK) if variant == results.reference else _difference(row)]
        rows.append(cells)
    return Table(
        key=f"sweep-{sweep.key}",
        caption=(
            f"{metric} in percent over {sweep.key}, with 95 % intervals over images and seeds, and Δ: minus that of "
            f"{results.reference} on the same expressions. Bold: supported."
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
            [
                Cell(variant),
                *(cell for part in parts for cell in _ranked(part.reindex(results.variants).loc[variant])),
            ]
            for variant in results.variants
        ]
        groups.append(
            Group(
                split,
                [
                    *lines,
                    [
                        Cell("random similarities"),
                        *(cell for part in parts for cell in (_number(part["base"].mean()), Cell(REFERENCE_MARK))),
                    ],
                ],
            )
        )
    return Table(
        key="alignment",
        caption=(
            "Average precision in percent, inside against outside the true mask, of the similarity of pixel and "
            "center, with 95 % intervals over images, and of the logits that masks are made of; mean over "
            f"expressions, seeds averaged. {MISSING}: no scores, or undefined."
        ),
        blocks=[
            Block(
                spans=[("", 1), *((title.lower(), 2) for title in alignment.MEASURES.values())],
                headings=["variant", *["similarity", "logits"] * len(alignment.MEASURES)],
                groups=groups,
            )
        ],
    )


def of_calibration(results: DatasetResults, summaries: dict[tuple[str, int], dict], split: str) -> Table:
    """A row a variant; `summaries` as `diagnosis.Diagnosis` has them."""
    rows = []
    for variant in results.variants:
        own = [summary for (name, _), summary in summaries.items() if name == variant]
        if not own:
            rows.append([Cell(variant), *[Cell(MISSING)] * 5])
            continue
        means = pd.DataFrame([summary["calibration"][split] for summary in own]).mean()
        cells = [Cell(f"{means['brier']:.4f}", value=means["brier"])]
        cells += [_number(means[key]) for key in ("expected_error", "mIoU", "mIoU_best_threshold")]
        best = ", ".join(f"{summary['best_threshold']:g}" for summary in own)
        rows.append([Cell(variant), *cells, Cell(best, value=own[0]["best_threshold"])])
    return Table(
        key="calibration",
        caption=(
            f"Calibration on {split}, mean over seeds. Brier score: mean squared error of a pixel's probability (0 is "
            "best). Calibration error: mean distance between probability and share inside over bins of probability, in "
            "percentage points. mIoU in percent, at the threshold of the protocol and at the best one: that with the "
            f"highest mIoU on val, of each seed. {MISSING}: no scores."
        ),
        blocks=[
            Block(
                [],
                ["variant", "Brier score", "calibration error", "mIoU", "mIoU at the best", "best threshold"],
                [Group("", rows)],
            )
        ],
    )


def _ranked(row: pd.Series) -> list[Cell]:
    return [_mean(row), _number(row["logits"])]


def _mean(row: pd.Series) -> Cell:
    return _number(row["mean"], interval(row["low"], row["high"]))


def _difference(row: pd.Series) -> Cell:
    if pd.isna(row["difference"]):
        return Cell(MISSING)
    note = interval(row["difference_low"], row["difference_high"])
    return Cell(signed(row["difference"]), note, bold=bool(row["supported"]), value=float(row["difference"]))


def _number(value: float, note: str = "") -> Cell:
    return Cell(MISSING) if pd.isna(value) else Cell(percent(value), note, value=float(value))
