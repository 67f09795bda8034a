"""The report's main figure: what each variant changes, compared with the reference."""

from collections.abc import Collection, Mapping
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from stages.report.dataset_numbers import DIFFERENCE
from stages.report.figures.dot_plots import (
    FRAME,
    LINE,
    Dots,
    draw_dots,
    in_percent,
    limits,
    room,
    told,
    width,
)
from stages.report.figures.figure import INK, Figure, Mark, Panel, line_style
from stages.statistics.comparison import SUPPORTED
from stages.statistics.evidence import ONE_FILE


def figure(
    comparison: pd.DataFrame,
    reference: str,
    metric: str,
    over: str,
    titles: Mapping[str, str],
    others: Collection[str] = (),
) -> Figure:
    """The report's main figure: what each variant changes, one panel for each split.

    Args:
        comparison: columns variant, split, metric, difference, difference_low, difference_high (fractions), no_verdict
            and supported, in the order of variants and splits to show.
        reference: the variant that differences are taken to.
        metric: the metric to show.
        over: what intervals cover.
        titles: of the panel of each split.
        others: those of the variants that are a file of predictions of others.
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
        draw = partial(_draw, title=titles[split], names=names, dots=dots, metric=metric, ends=ends)
        alt = f"Difference in {metric} to {reference} on {split}: {told(own['difference'])}"
        height = FRAME + LINE * len(names)
        panels.append(Panel(draw, alt, width=width(room(names)), height=height, names=room(names)))
    of_variants = rows[~rows["variant"].isin(others)]
    reasons = [reason for reason in of_variants["no_verdict"].unique() if reason]
    of_others = f" {', '.join(others)}: {ONE_FILE}, and there is no verdict." if others else ""
    tested = [Mark("supported", INK, filled=True), Mark("not supported", INK, filled=False)]
    filled = f" Filled: supported, that is {SUPPORTED}; hollow: not supported."
    if (of_variants.loc[of_variants["variant"] != reference, "no_verdict"] != "").all():
        tested, filled = [], ""
    return Figure(
        key="differences",
        title=f"Differences to {reference}",
        caption=(
            f"Each dot is the {metric} of a variant minus that of {reference} on the same expressions; its line is the "
            f"95 % interval over {over}.{filled}{''.join(f' No verdict on a split: {each}.' for each in reasons)}"
            f"{of_others} Look "
            "for intervals that stay on one side of zero, in every split."
        ),
        panels=panels,
        columns=3,
        legend=[*tested, *([Mark("no verdict", INK, filled=False)] if reasons or others else [])],
        shared_names=True,
    )


def _draw(axes: Axes, title: str, names: list[str], dots: list[Dots], metric: str, ends: tuple[float, float]) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    draw_dots(axes, names, dots, f"Δ {metric} (percentage points)")
    axes.set_xlim(*ends)
    axes.set_title(title, loc="left", fontweight="bold")
