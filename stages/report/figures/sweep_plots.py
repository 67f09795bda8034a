"""Sweeps as plots: the result over the one number in which the variants differ."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.figure import INK, SOFT, Figure, Mark, Panel, line_style
from stages.report.sweeps import KEYS, Sweep


def figure(sweep: Sweep, comparison: pd.DataFrame, reference: str, metric: str, number: int, over: str) -> Figure:
    """The result over the number that is swept, one panel for each split, the reference as a horizontal line.

    Args:
        sweep: the variants.
        comparison: columns variant, split, metric, mean, low, high (fractions).
        reference: drawn as a horizontal line where it is no part of the sweep.
        metric: the metric to show.
        number: number of the sweep in the report, part of the key.
        over: what intervals cover.
    """
    rows = comparison[comparison["metric"] == metric]
    panels = [
        Panel(
            partial(
                _draw,
                sweep=sweep,
                part=part.set_index("variant"),
                reference=reference,
                label=f"{metric} on {split} (%)",
            ),
            f"{metric} on {split} over {KEYS[sweep.key]}: "
            + "; ".join(
                f"{label}: {100 * part.set_index('variant').loc[name, 'mean']:.1f}"
                for label, name in zip(sweep.labels, sweep.variants, strict=True)
            ),
            width=3.2,
        )
        for split, part in rows.groupby("split", sort=False)
    ]
    return Figure(
        key=f"sweep-{number}",
        title=f"Sweep over {sweep.key}",
        caption=(
            f"{metric} of {', '.join(sweep.variants)}, which differ in {sweep.key} alone, with 95 % intervals over "
            f"{over}. The values are evenly spaced, whatever their size. Dashed: the mean of {reference}. "
            "Look for a best value between the ends; a best value at an end asks for more values beyond it."
        ),
        panels=panels,
        columns=3,
        legend=[
            Mark("mean and 95 % interval", line_style(1)[0], filled=True),
            *([] if reference in sweep.variants else [Mark(reference, INK, (0, (4, 2)))]),
        ],
    )


def _draw(axes: Axes, sweep: Sweep, part: pd.DataFrame, reference: str, label: str) -> None:
    rows = 100 * part.loc[sweep.variants, ["mean", "low", "high"]].astype(float)
    places, colour = np.arange(len(rows)), line_style(1)[0]
    axes.plot(places, rows["mean"], color=colour, linewidth=1.2, marker="o", markersize=5)
    axes.vlines(places, rows["low"], rows["high"], color=colour, linewidth=1.6)
    if reference not in sweep.variants:
        axes.axhline(100 * part.loc[reference, "mean"], color=INK, linestyle=(0, (4, 2)), linewidth=1.2)
    for place, missing in enumerate(rows["mean"].isna()):
        if missing:
            axes.text(
                place, 0.02, "no result", transform=axes.get_xaxis_transform(), rotation=90, ha="center", color=SOFT
            )
    axes.set_xticks(places, sweep.labels)
    axes.set_xlim(-0.4, len(rows) - 0.6)
    axes.set_xlabel(KEYS[sweep.key])
    axes.set_ylabel(label)
    axes.grid(axis="y")
