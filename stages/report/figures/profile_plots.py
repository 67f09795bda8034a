"""Performance profiles: the share of expressions whose IoU is above a threshold."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.figure import Figure, Panel, line_style, variant_marks

BAND = 0.18  # opacity


def figure(
    profiles: pd.DataFrame, variants: list[str], banded: list[str], over: str, titles: Mapping[str, str]
) -> Figure:
    """One panel for each split, a line for each variant.

    Args:
        profiles: one row for each split, variant and threshold: share, low, high (fractions).
        variants: every listed variant, for their colours.
        banded: those whose interval is drawn as a band.
        over: what intervals cover.
        titles: of the panel of each split.
    """
    panels = [
        Panel(
            partial(_draw, rows=rows, variants=variants, banded=banded, title=titles[split]),
            f"Share of expressions on {split} over the IoU that they reach; at 0.5: "
            + "; ".join(f"{row.variant} {100 * row.share:.1f}" for row in rows[rows["threshold"] == 0.5].itertuples()),
            width=3.2,
        )
        for split, rows in profiles.groupby("split", sort=False)
    ]
    return Figure(
        key="profile",
        title="Performance profile",
        caption=(
            "For each threshold, the share of expressions whose IoU reaches it, as Pr@X counts it, mean over seeds. "
            f"Bands: the 95 % interval over {over} at each threshold, of {' and '.join(banded)} alone, so that they "
            "can be told apart. Look for a line that is above another everywhere, and for lines that cross: there, one "
            "variant finds more things and the other draws their edges better."
        ),
        panels=panels,
        columns=3,
        legend=variant_marks(variants),
    )


def _draw(axes: Axes, rows: pd.DataFrame, variants: list[str], banded: list[str], title: str) -> None:
    for index, name in enumerate(variants):
        own = rows[rows["variant"] == name]
        colour, dash = line_style(index)
        if name in banded:
            ends = 100 * own["low"], 100 * own["high"]
            axes.fill_between(own["threshold"], *ends, color=colour, alpha=BAND, linewidth=0)
        axes.plot(own["threshold"], 100 * own["share"], color=colour, linestyle=dash, linewidth=1.3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel("IoU threshold")
    axes.set_ylabel("share with at least this IoU (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid()
