"""A factorial as an interaction plot: the mean of every VLBA, with a line for each contrast."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.figure import SOFT, Figure, Mark, Panel, line_style
from stages.statistics.factorial import Factorial

APART = 0.07  # between the lines, so that their intervals do not hide each other; 1 is from one VLBA to the next
KINDS = {
    "text_to_pixel": "text to\npixel",
    "pixel_to_text": "pixel to\ntext",
    "bidirectional": "both",
    "global_words": "mean of\nwords",
    "no_exchange": "no\nexchange",
}


def figure(factorial: Factorial, comparison: pd.DataFrame, metric: str, over: str) -> Figure:
    """The mean of every cell with its interval, one panel for each split.

    Args:
        factorial: the cells.
        comparison: columns variant, split, metric, mean, low, high (fractions).
        metric: the metric to show.
        over: what intervals cover.
    """
    kinds, contrasts = factorial.levels
    lines = {
        contrast: (line_style(place)[0], [factorial.cells[kind, contrast] for kind in kinds])
        for place, contrast in enumerate(contrasts)
    }
    panels = [
        Panel(
            partial(_draw, kinds=kinds, lines=list(lines.values()), means=means, label=f"{metric} on {split} (%)"),
            f"{metric} on {split}. "
            + ". ".join(
                f"Contrast {contrast}: "
                + ", ".join(
                    f"VLBA {kind} {_said(means.loc[factorial.cells[kind, contrast], 'mean'])}" for kind in kinds
                )
                for contrast in contrasts
            ),
            width=3.4,
            height=3.0,
        )
        for split, part in comparison[comparison["metric"] == metric].groupby("split", sort=False)
        for means in [100 * part.set_index("variant")[["mean", "low", "high"]].astype(float)]
    ]
    return Figure(
        key="factorial",
        title="Every VLBA with every contrast",
        caption=(
            f"{metric} of every VLBA, with a line for each contrast, and 95 % intervals over {over}. Parallel lines: "
            "the contrast does the same beside every VLBA, and there is no interaction. The intervals are of each mean "
            "on its own; the table has those of the effects. Look for a line that comes away from the others."
        ),
        panels=panels,
        columns=3,
        legend=[Mark(f"contrast: {contrast}", colour) for contrast, (colour, _) in lines.items()],
    )


def _draw(axes: Axes, kinds: list[str], lines: list[tuple[str, list[str]]], means: pd.DataFrame, label: str) -> None:
    places = np.arange(len(kinds))
    for number, (colour, variants) in enumerate(lines):
        shifted = places + APART * (number - (len(lines) - 1) / 2)
        rows = means.loc[variants]
        axes.plot(shifted, rows["mean"], color=colour, linewidth=1.2, marker="o", markersize=4)
        axes.vlines(shifted, rows["low"], rows["high"], color=colour, linewidth=1.2)
    for place, variants in enumerate(zip(*(variants for _, variants in lines), strict=True)):
        if means.loc[list(variants), "mean"].isna().any():
            axes.text(
                place, 0.02, "no result", transform=axes.get_xaxis_transform(), rotation=90, ha="center", color=SOFT
            )
    axes.set_xticks(places, [KINDS.get(kind, kind) for kind in kinds])
    axes.set_xlim(-0.4, len(kinds) - 0.6)
    axes.set_xlabel("VLBA")
    axes.set_ylabel(label)
    axes.grid(axis="y")


def _said(percent: float) -> str:
    return "no result" if np.isnan(percent) else f"{percent:.1f}"
