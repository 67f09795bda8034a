"""Tables of what the diagnoses found: alignment and calibration."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.table import MISSING, REFERENCE_MARK, Block, Cell, Group, Table, interval, percent_cell
from stages.statistics import alignment
from stages.statistics.evidence import FEWEST_IMAGES


def of_alignment(results: DatasetNumbers, summary: pd.DataFrame) -> Table:
    """One row for each variant, two columns for each measure; `summary` as `alignment.summarise` returns it."""
    groups = []
    for split, rows in summary.groupby("split", sort=False):
        parts = [rows[rows["measure"] == measure].set_index("variant") for measure in alignment.MEASURES]
        lines = [
            [
                Cell(results.label(variant)),
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
                        *(cell for part in parts for cell in (percent_cell(part["base"].mean()), Cell(REFERENCE_MARK))),
                    ],
                ],
            )
        )
    return Table(
        key="alignment",
        caption=(
            "How well pixels inside the true mask are told from pixels outside: average precision in percent, of the "
            f"similarity of pixel and center, with 95 % intervals over {results.over}, and of the logits that masks "
            f"are made of. Means over expressions and seeds. {MISSING}: no scores, or undefined. No brackets: fewer "
            f"than {FEWEST_IMAGES} images."
        ),
        blocks=[
            Block(
                spans=[("", 1), *((title.lower(), 2) for title in alignment.MEASURES.values())],
                headings=["variant", *["similarity", "logits"] * len(alignment.MEASURES)],
                groups=groups,
            )
        ],
    )


def of_calibration(results: DatasetNumbers, summaries: dict[str, list[dict]], split: str) -> Table:
    """One row for each variant; `summaries` as `diagnoses.Diagnoses` has them."""
    rows = []
    for variant in results.variants:
        own = summaries.get(variant, [])
        if not own:
            rows.append([Cell(results.label(variant)), *[Cell(MISSING)] * 5])
            continue
        means = pd.DataFrame([summary["calibration"][split] for summary in own]).mean()
        cells = [Cell(f"{means['brier']:.4f}", value=means["brier"])]
        cells += [percent_cell(means[key]) for key in ("expected_error", "mIoU", "mIoU_best_threshold")]
        best = ", ".join(f"{summary['best_threshold']:g}" for summary in own)
        rows.append([Cell(results.label(variant)), *cells, Cell(best, value=own[0]["best_threshold"])])
    return Table(
        key="calibration",
        caption=(
            f"Calibration on {split}, mean over seeds. Brier score: mean squared error of a pixel's probability (0 is "
            "best). Calibration error: mean distance between the probability of pixels and the share of them that lies "
            "inside the mask, over bins of probability, in percentage points. mIoU in percent, at the protocol's "
            "threshold and at the best one, which is for each seed the one with the highest mIoU on val. "
            f"{MISSING}: no scores."
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
    return [percent_cell(row["mean"], interval(row["low"], row["high"])), percent_cell(row["logits"])]
