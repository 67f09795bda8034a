"""Dots with intervals: differences to the reference of each split, results and differences of each slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.report.figures import INK, PAPER, SOFT, Figure, Mark, Panel, line_style

LINE, FRAME = 0.26, 0.9  # inches of height: a row of dots, and all the rest of a panel
WIDTH, AXIS = 3.2, 1.75  # inches: usual width, and at least of the axis alone
LETTER = 0.078  # inches of width
ROOM = 0.08  # share of the range that is left free at both sides


@dataclass(frozen=True)
class Dots:
    """One dot in each row, of one variant.

    Attributes:
        colour: of dots and intervals.
        values, low, high: one a row, in the units of the axis; NaN where there is none.
        filled: one a row, whether the dot is filled.
        shift: of the dots from the middle of their row, in rows.
    """

    colour: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
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
    names = [name for name in rows["variant"].unique() if name != reference]
    order = list(rows["variant"].unique())
    limits = _limits(rows.loc[rows["variant"] != reference, ["difference", "difference_low", "difference_high"]])
    panels = []
    for split, part in rows.groupby("split", sort=False):
        part = part.set_index("variant").reindex(names)
        supported = part["supported"].eq(True).to_numpy()
        dots = [
            Dots(line_style(order.index(name))[0], *_only(part, "difference", place), supported)
            for place, name in enumerate(names)
        ]
        draw = partial(draw_dots, names=names, dots=dots, label=f"Δ {metric} (percentage points)")
        panels.append(
            Panel(
                partial(_draw_differences, draw=draw, title=str(split), limits=limits),
                f"Difference in {metric} to {reference} on {split}: "
                + "; ".join(_told(name, part.loc[name]) for name in names),
                width=width(room(names)),
                height=FRAME + LINE * len(names),
                names=room(names),
            )
        )
    return Figure(
        key="differences",
        title=f"Differences to {reference}",
        caption=(
            f"Each dot is a variant's {metric} minus that of {reference} on the same expressions, its line the 95 % "
            "interval over pictures and seeds. Filled: supported (p < 0.05 after Holm's adjustment over the variants "
            "of a split); hollow: not. Look for intervals that stay on one side of zero, in every split."
        ),
        panels=panels,
        columns=3,
        legend=[Mark("supported", INK, filled=True), Mark("not supported", INK, filled=False)],
        shared_names=True,
    )


def slice_levels(
    slices: pd.DataFrame, titles: Mapping[str, str], split: str, variants: list[str], shown: list[str]
) -> Figure:
    """Results of some variants in every slice, a panel a family.

    Args:
        slices: columns split, metric, family, slice, variant, expressions, pictures, mean, low, high (fractions), in
            the order of families and slices to show.
        titles: family -> its title.
        split: which one.
        variants: every listed variant, for their colours.
        shown: those to draw.
    """
    rows = slices[(slices["split"] == split) & slices["variant"].isin(shown)]
    metric = rows["metric"].iloc[0]
    limits, names_room = _limits(rows[["mean", "low", "high"]]), room(named(rows))
    panels = [
        _slice_panel(part, title, shown, variants, "mean", f"{metric} (%)", limits, names_room)
        for title, part in _families(rows, titles)
    ]
    return Figure(
        key="slices",
        title=f"{metric} by slice, {split}",
        caption=(
            f"{metric} of {' and '.join(shown)} on the expressions of each slice, with 95 % intervals over pictures "
            "and seeds; the number of expressions stands beside each slice. Look for slices that are hard for both, "
            "and for those where the two part. A slice of fewer than 10 pictures has no dot."
        ),
        panels=panels,
        columns=3,
        legend=[Mark(name, line_style(variants.index(name))[0], filled=True) for name in shown],
    )


def slice_differences(
    slices: pd.DataFrame, titles: Mapping[str, str], split: str, variants: list[str], reference: str, variant: str
) -> Figure:
    """What one variant changes in every slice, a panel a family; arguments as those of `slice_levels`."""
    rows = slices[(slices["split"] == split) & (slices["variant"] == variant)]
    metric = rows["metric"].iloc[0]
    columns = ["difference", "difference_low", "difference_high"]
    limits, names_room = _limits(rows[columns]), room(named(rows))
    panels = [
        _slice_panel(
            part, title, [variant], variants, "difference", f"Δ {metric} (percentage points)", limits, names_room
        )
        for title, part in _families(rows, titles)
    ]
    return Figure(
        key="slice-differences",
        title=f"Where {variant} differs from {reference}, {split}",
        caption=(
            f"{metric} of {variant} minus that of {reference} on the expressions of each slice, in percentage points, "
            "with 95 % intervals that are not adjusted for the number of slices: of 20 slices without an effect one "
            "is expected to miss zero. Look for a trend along a family, more than for a single slice."
        ),
        panels=panels,
        columns=3,
    )


def draw_dots(axes: Axes, names: list[str], dots: list[Dots], label: str) -> None:
    """Rows from top to bottom with their names at the left; where a value is missing, so it is said."""
    places = np.arange(len(names), dtype=float)
    for series in dots:
        rows = places + series.shift
        there = ~np.isnan(series.values)
        axes.hlines(rows[there], series.low[there], series.high[there], color=series.colour, linewidth=1.6)
        for filled in (True, False):
            chosen = there & (series.filled == filled)
            face = series.colour if filled else PAPER
            axes.plot(
                *(series.values[chosen], rows[chosen]),
                *("o",),
                color=series.colour,
                markerfacecolor=face,
                markeredgewidth=1.3,
                markersize=5,
            )
    for place in places[np.all([np.isnan(series.values) for series in dots], axis=0)]:
        axes.text(0.98, place, "no result", transform=axes.get_yaxis_transform(), ha="right", va="center", color=SOFT)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")


def room(names: list[str]) -> float:
    """Inches that the longest of some names takes beside its axis."""
    return 0.15 + LETTER * max(map(len, names))


def width(names_room: float) -> float:
    """Inches of a panel whose names take some of them."""
    return max(WIDTH, names_room + AXIS)


def named(rows: pd.DataFrame) -> list[str]:
    """Every slice in `rows` with its number of expressions."""
    once = rows.drop_duplicates(["family", "slice"])
    return [f"{row.slice} ({row.expressions:,})" for row in once.itertuples()]


def _only(part: pd.DataFrame, column: str, place: int) -> list[np.ndarray]:
    """Percent of one row, NaN in all others: value, low, high, each (rows,)."""
    names = ("mean", "low", "high") if column == "mean" else (column, f"{column}_low", f"{column}_high")
    chosen = np.arange(len(part)) == place
    return [np.where(chosen, 100 * part[name].to_numpy(float), np.nan) for name in names]


def _draw_differences(axes: Axes, draw: partial, title: str, limits: tuple[float, float]) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    draw(axes)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlim(*limits)


def _slice_panel(
    part: pd.DataFrame,
    title: str,
    shown: list[str],
    variants: list[str],
    column: str,
    label: str,
    limits: tuple[float, float],
    names_room: float,
) -> Panel:
    slices = list(part["slice"].unique())
    names = named(part)
    dots = []
    for number, name in enumerate(shown):
        own = part[part["variant"] == name].set_index("slice").reindex(slices)
        keys = ("mean", "low", "high") if column == "mean" else (column, f"{column}_low", f"{column}_high")
        values = [100 * own[key].to_numpy(float) for key in keys]
        shift = 0.26 * (number - (len(shown) - 1) / 2)
        dots.append(Dots(line_style(variants.index(name))[0], *values, np.full(len(slices), True), shift))
    draw = partial(_draw_slices, names=names, dots=dots, label=label, title=title, limits=limits, zero=column != "mean")
    told = "; ".join(f"{row.slice} {row.variant} {_told_value(getattr(row, column))}" for row in part.itertuples())
    return Panel(
        draw, f"{title}, {label}: {told}", width=width(names_room), height=FRAME + LINE * len(slices), names=names_room
    )


def _draw_slices(
    axes: Axes, names: list[str], dots: list[Dots], label: str, title: str, limits: tuple[float, float], zero: bool
) -> None:
    if zero:
        axes.axvline(0, color=INK, linewidth=0.9)
    draw_dots(axes, names, dots, label)
    axes.set_xlim(*limits)
    axes.set_title(title, loc="left", fontweight="bold")


def _families(rows: pd.DataFrame, titles: Mapping[str, str]) -> list[tuple[str, pd.DataFrame]]:
    return [(titles[family], part) for family, part in rows.groupby("family", sort=False)]


def _limits(values: pd.DataFrame) -> tuple[float, float]:
    """From the lowest to the highest, in percent, with some room; differences keep zero in sight."""
    numbers = 100 * values.to_numpy(float)
    numbers = numbers[~np.isnan(numbers)]
    if "difference" in values:
        numbers = np.append(numbers, 0.0)
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
    room = ROOM * (high - low) or 1.0
    return low - room, high + room


def _told(name: str, row: pd.Series) -> str:
    return f"{name} {_told_value(row['difference'])}"


def _told_value(value: float) -> str:
    return "no result" if np.isnan(value) else f"{100 * value:.1f}"
