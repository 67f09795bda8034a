"""Where a variant helps: results by slices of the expressions, one panel for each family of slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stages.report.dataset_numbers import DIFFERENCE
from stages.report.figures.dot_plots import (
    FRAME,
    LINE,
    MEAN,
    Dots,
    draw_dots,
    in_percent,
    limits,
    room,
    told,
    width,
)
from stages.report.figures.figure import INK, SOFT, Figure, Mark, Panel, line_style
from stages.statistics.evidence import FEWEST_IMAGES
from stages.statistics.slices import Family

ABOVE, UNIT = 0.48, 0.18  # inches for the title of a family with its unit, and for the unit alone
APART = 0.26  # distance between the dots of two variants, in rows


@dataclass(frozen=True)
class Slices:
    """The slices of one split.

    Attributes:
        table: columns family, slice, variant, expressions, mean, low, high, difference, difference_low and
            difference_high (fractions, NaN where a slice is too small), in the order of families and slices to show.
        families: name -> family, with title and unit.
        variants: every listed variant, for their colours.
        split, metric: what the numbers are of.
        over: what intervals cover.
    """

    table: pd.DataFrame
    families: Mapping[str, Family]
    variants: list[str]
    split: str
    metric: str
    over: str


def means(slices: Slices, shown: list[str]) -> Figure:
    """Results of some variants in every slice, one panel for each family."""
    return Figure(
        key="slices",
        title=f"{slices.metric} by slice, {slices.split}",
        caption=(
            f"{slices.metric} of {' and '.join(shown)} on the expressions of each slice, with 95 % intervals over "
            f"{slices.over}. The number in parentheses counts the expressions of a slice. Look for slices that are "
            "hard for every variant, and for those where variants differ. A slice of fewer than "
            f"{FEWEST_IMAGES} images has no dot; one without expressions is left out."
        ),
        panels=_panels(slices, shown, MEAN, f"{slices.metric} (%)"),
        columns=3,
        legend=[Mark(name, line_style(slices.variants.index(name))[0], filled=True) for name in shown],
    )


def differences(slices: Slices, variant: str, reference: str) -> Figure:
    """What one variant changes in every slice, one panel for each family."""
    return Figure(
        key="slice-differences",
        title=f"Where {variant} differs from {reference}, {slices.split}",
        caption=(
            f"{slices.metric} of {variant} minus that of {reference} on the expressions of each slice, in percentage "
            f"points, with 95 % intervals over {slices.over}. They are not adjusted for the number of slices: of 20 "
            "slices without an effect, one is expected to miss zero. Look for a trend along a family rather than for a "
            "single slice."
        ),
        panels=_panels(slices, [variant], DIFFERENCE, f"Δ {slices.metric} (percentage points)"),
        columns=3,
    )


def _panels(slices: Slices, shown: list[str], columns: Sequence[str], label: str) -> list[Panel]:
    table = slices.table[slices.table["variant"].isin(shown) & (slices.table["expressions"] > 0)]
    once = table.drop_duplicates(["family", "slice"])
    names = once["slice"] + once["expressions"].map(" ({:,})".format)
    names_room, ends = room(names), limits(table, columns)
    panels = []
    for family, of_family in once.groupby("family", sort=False):
        own = table[table["family"] == family].set_index(["variant", "slice"])
        dots = [
            Dots(
                line_style(slices.variants.index(name))[0],
                in_percent(own.loc[name].reindex(of_family["slice"]), columns),
                np.full(len(of_family), True),
                APART * (place - (len(shown) - 1) / 2),
            )
            for place, name in enumerate(shown)
        ]
        about = slices.families[family]
        draw = partial(
            _draw, family=about, names=list(names[of_family.index]), dots=dots, label=label, ends=ends, left=names_room
        )
        alt = f"{about.title}, {label}: " + "; ".join(f"{name}: {told(own.loc[name][columns[0]])}" for name in shown)
        height = FRAME + UNIT + LINE * len(of_family)
        panels.append(Panel(draw, alt, width=width(names_room), height=height, names=names_room, above=ABOVE))
    return panels


def _draw(
    axes: Axes,
    family: Family,
    names: list[str],
    dots: list[Dots],
    label: str,
    ends: tuple[float, float],
    left: float,
) -> None:
    """The title begins above the names, which are `left` inches wide, as it may be longer than the axis."""
    if ends[0] < 0 < ends[1]:
        axes.axvline(0, color=INK, linewidth=0.9)
    draw_dots(axes, names, dots, label, missing="too few images")
    axes.set_xlim(*ends)
    at = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points", "va": "baseline"}
    axes.annotate(family.title, xytext=(-72 * (left - 0.1), 18), fontweight="bold", **at)
    axes.annotate(family.unit, xytext=(-72 * (left - 0.1), 6), color=SOFT, **at)
