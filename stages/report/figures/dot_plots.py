"""Dots with intervals, a row each, and the report's main figure: the differences to the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.report.figures.rendering import INK, PAPER, SOFT, Figure, Mark, Panel, line_style

LINE, FRAME = 0.26, 0.9  # inches of height: a row of dots, and all the rest of a panel
WIDTH, AXIS = 3.2, 1.75  # inches: usual width, and at least of the axis alone
LETTER = 0.072  # inches of width
FREE = 0.08  # share of the range that is left free at both sides
MEAN = ("mean", "low", "high")
DIFFERENCE = ("difference", "difference_low", "difference_high")


@dataclass(frozen=True)
class Dots:
    """At most one dot in each row.

    Attributes:
        colour: of dots and intervals.
        table: mean, low and high of each row, in the units of the axis; NaN where there is none.
        filled: of each row, whether the dot is filled.
        shift: of the dots from the middle of their row, in rows.
    """

    colour: str
    table: pd.DataFrame
    filled: np.ndarray
    shift: float = 0.0


def differences(comparison: pd.DataFrame, reference: str, metric: str) -> Figure:
    """The report's main figure: what each variant changes, a panel a split.

    Args:
        comparison: columns variant, split, metric, difference, difference_low, difference_high (fractions) and
            supported, in the order of variants and splits to show.
        reference: the variant that differences are taken to.
        metric: which one.
    """
    rows = comparison[comparison["metric"] == metric]
    order = list(rows["variant"].unique())
    names = [name for name in order if name != reference]
    ends = limits(rows[rows["variant"] != reference], DIFFERENCE)
    panels = []
    for split, part in rows.groupby("split", sort=False):
        own = part.set_index("variant").reindex(names)
        supported = own["supported"].eq(True).to_numpy()
        dots = [
            Dots(line_style(order.index(name))[0], in_percent(own.loc[[name]].reindex(names), DIFFERENCE), supported)
            for name in names
        ]
        draw = partial(_draw, title=str(split), names=names, dots=dots, metric=metric, ends=ends)
        alt = f"Difference in {metric} to {reference} on {split}: {told(own['difference'])}"
        height = FRAME + LINE * len(names)
        panels.append(Panel(draw, alt, width=width(room(names)), height=height, names=room(names)))
    return Figure(
        key="differences",
        title=f"Differences to {reference}",
        caption=(
            f"Each dot is a variant's {metric} minus that of {reference} on the same expressions, its line the 95 % "
            "interval over images and seeds. Filled: supported (p < 0.05 after Holm's adjustment over the variants "
            "of a split); hollow: not. Look for intervals that stay on one side of zero, in every split."
        ),
        panels=panels,
        columns=3,
        legend=[Mark("supported", INK, filled=True), Mark("not supported", INK, filled=False)],
        shared_names=True,
    )


def draw_dots(axes: Axes, names: Sequence[str], dots: Sequence[Dots], label: str, missing: str = "no scores") -> None:
    """Rows from top to bottom with their names at the left; a row without a dot says what is `missing`."""
    places, empty = np.arange(len(names), dtype=float), np.full(len(names), True)
    for series in dots:
        value, low, high = series.table.to_numpy(float).T
        there, rows = ~np.isnan(value), places + series.shift
        empty &= ~there
        axes.hlines(rows[there], low[there], high[there], color=series.colour, linewidth=1.6)
        for filled, face in ((True, series.colour), (False, PAPER)):
            chosen = there & (series.filled == filled)
            style = {"color": series.colour, "markerfacecolor": face, "markeredgewidth": 1.3, "markersize": 5}
            axes.plot(value[chosen], rows[chosen], "o", **style)
    for place in places[empty]:
        axes.text(0.98, place, missing, transform=axes.get_yaxis_transform(), ha="right", va="center", color=SOFT)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")


def in_percent(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Value and both ends of its interval, from fractions; they are called as those of a mean."""
    return 100 * rows[list(columns)].astype(float).set_axis(list(MEAN), axis="columns")


def limits(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[float, float]:
    """From the lowest to the highest, in percent, with some room; differences keep zero in sight."""
    numbers = 100 * rows[list(columns)].to_numpy(float).ravel()
    numbers = numbers[~np.isnan(numbers)]
    if tuple(columns) == DIFFERENCE or not len(numbers):
        numbers = np.append(numbers, 0.0)
    low, high = numbers.min(), numbers.max()
    free = FREE * (high - low) or 1.0
    return low - free, high + free


def room(names: Sequence[str]) -> float:
    """Inches that the longest of some names takes beside its axis."""
    return 0.15 + LETTER * max(map(len, names))


def width(names_room: float) -> float:
    """Inches of a panel whose names take some of them."""
    return max(WIDTH, names_room + AXIS)


def told(values: pd.Series) -> str:
    """Fractions in percent by their names, for those who do not see them."""
    return "; ".join(
        f"{name} {'no result' if np.isnan(value) else f'{100 * value:.1f}'}" for name, value in values.items()
    )


def _draw(axes: Axes, title: str, names: list[str], dots: list[Dots], metric: str, ends: tuple[float, float]) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    draw_dots(axes, names, dots, f"Δ {metric} (percentage points)")
    axes.set_xlim(*ends)
    axes.set_title(title, loc="left", fontweight="bold")
