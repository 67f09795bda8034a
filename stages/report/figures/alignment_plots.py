"""Do pixels align with the center? Average precision of their similarity to it, by variant."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.dot_plots import FRAME, LINE, MEAN, Dots, draw_dots, in_percent, room, told, width
from stages.report.figures.figure import INK, Figure, Mark, Panel, line_style
from stages.statistics.alignment import MEASURES


def figure(summary: pd.DataFrame, variants: list[str], split: str, over: str) -> Figure:
    """One panel for each measure, one row for each variant.

    Args:
        summary: as `alignment.summarise` returns it.
        variants: every listed variant.
        split: the split to show.
        over: what intervals cover.
    """
    rows = summary[summary["split"] == split]
    chance = [_told(rows.loc[rows["measure"] == measure, "base"].mean()) for measure in MEASURES]
    panels = [
        Panel(
            partial(_draw, part=_of(rows, measure, variants), title=title),
            f"Average precision on {split}, {title.lower()}: " + told(_of(rows, measure, variants)["mean"]),
            width=width(room(variants)),
            height=FRAME + LINE * len(variants),
            names=room(variants),
        )
        for measure, title in MEASURES.items()
    ]
    return Figure(
        key="alignment",
        title=f"Do pixels align with the center? Average precision, {split}",
        caption=(
            "Pixels are ranked by their similarity to the center embedding of the expression. Average precision says "
            "how well that tells pixels inside the true mask from pixels outside; 100 % means that every pixel inside "
            "comes before every pixel outside. Overall: all pixels. Along the border: pixels of a ring along the "
            "border of the mask. Against distractors: pixels inside the mask against those of other things of the same "
            f"category. Filled: similarity, with lines as 95 % intervals over {over}. Hollow: the same where "
            "pixels are ranked by the logits that masks are made of. Random similarities would give "
            f"{_listed(chance)}. Look for filled dots near their hollow ones: there, pixels lie around the center as "
            "the mask needs it. Only the contrastive losses ask for that. Without one, the weights that find the mask "
            "are made from the center, and the similarity itself is free to say nothing. Scales differ between panels."
        ),
        panels=panels,
        columns=3,
        legend=[
            Mark("similarity to the center", INK, filled=True),
            Mark("logits of the mask", INK, filled=False),
        ],
        shared_names=True,
    )


def _of(rows: pd.DataFrame, measure: str, variants: list[str]) -> pd.DataFrame:
    return rows[rows["measure"] == measure].set_index("variant").reindex(variants)


def _draw(axes: Axes, part: pd.DataFrame, title: str) -> None:
    names, filled = list(part.index), np.full(len(part), True)
    dots = []
    for place, name in enumerate(names):
        own, colour = part.loc[[name]].reindex(names), line_style(place)[0]
        dots.append(Dots(colour, in_percent(own, ("logits", "logits", "logits")), ~filled))
        dots.append(Dots(colour, in_percent(own, MEAN), filled))
    draw_dots(axes, names, dots, "average precision (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.margins(x=0.08)


def _listed(values: list[str]) -> str:
    return f"{', '.join(values[:-1])} and {values[-1]}"


def _told(value: float) -> str:
    return "no result" if np.isnan(value) else f"{100 * value:.1f} %"
