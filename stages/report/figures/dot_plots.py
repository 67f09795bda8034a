"""Dots with intervals, one row for each name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.report.dataset_numbers import DIFFERENCE
from stages.report.figures.figure import PAPER, SOFT

LINE, FRAME = 0.26, 0.9  # inches of height: of a row of dots, and of all the rest of a panel
WIDTH, AXIS = 3.2, 1.75  # inches: usual width of a panel, and least width of its axis
LETTER = 0.072  # inches that a letter of a name takes, on average
FREE = 0.08  # share of the range that stays free at both ends
MEAN = ("mean", "low", "high")


@dataclass(frozen=True)
class Dots:
    """A series of dots, at most one in each row.

    Attributes:
        colour: of dots and intervals.
        table: mean, low and high of each row, in the units of the axis; NaN where there is none.
        filled: whether the dot of each row is filled.
        shift: distance of the dots from the middle of their row, in rows.
    """

    colour: str
    table: pd.DataFrame
    filled: np.ndarray
    shift: float = 0.0


def draw_dots(axes: Axes, names: Sequence[str], dots: Sequence[Dots], label: str, missing: str = "no scores") -> None:
    """Rows from top to bottom with their names at the left; a row without a dot shows the text `missing`."""
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
    """A value and both ends of its interval in percent, from fractions, under the names of `MEAN`."""
    return 100 * rows[list(columns)].astype(float).set_axis(list(MEAN), axis="columns")


def limits(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[float, float]:
    """Ends of an axis in percent that holds all values with some room; for differences it holds zero too."""
    numbers = 100 * rows[list(columns)].to_numpy(float).ravel()
    numbers = numbers[~np.isnan(numbers)]
    if tuple(columns) == DIFFERENCE or not len(numbers):
        numbers = np.append(numbers, 0.0)
    low, high = numbers.min(), numbers.max()
    free = FREE * (high - low) or 1.0
    return low - free, high + free


def room(names: Sequence[str]) -> float:
    """Inches beside an axis that the longest of its names needs."""
    return 0.15 + LETTER * max(map(len, names))


def width(names_room: float) -> float:
    """Inches of a panel whose names need that much room."""
    return max(WIDTH, names_room + AXIS)


def told(values: pd.Series) -> str:
    """Fractions in percent with their names, as text for those who cannot see the figure."""
    return "; ".join(
        f"{name} {'no result' if np.isnan(value) else f'{100 * value:.1f}'}" for name, value in values.items()
    )
