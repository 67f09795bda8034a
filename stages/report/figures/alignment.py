"""Do pixels align with the center of their expression? Average precision of their similarity, by variant."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.dot_plots import FRAME, LINE, MEAN, Dots, draw_dots, in_percent, room, told, width
from stages.report.figures.rendering import INK, Figure, Mark, Panel, line_style

MEASURES = {"ap": "Overall", "ap_ring": "Along the border", "ap_distractors": "Against distractors"}
LOGITS = {"ap": "logit_ap", "ap_ring": "logit_ap_ring", "ap_distractors": "logit_ap_distractors"}
BASES = {"ap": "base", "ap_ring": "base_ring", "ap_distractors": "base_distractors"}
NORMAL_95 = 1.959963984540054  # quantile 0.975 of the standard normal distribution
FEWEST_IMAGES = 10


def summarise(alignment: pd.DataFrame) -> pd.DataFrame:
    """Mean average precision of each variant, split and measure, with a 95 % interval over images.

    An expression's value is its mean over the seeds. Expressions of one image are not independent: the variance of
    the mean is that of a ratio of sums over n images (Cochran, Sampling Techniques, 1977, section 6.4),
    n / (n - 1) * sum over images of (sum of the image's values - its number of values * mean)^2 / N^2,
    N the number of expressions. Fewer than `FEWEST_IMAGES` images have no interval.

    Args:
        alignment: one row a run and expression: variant, seed, sent_id, image_id, split and the columns `MEASURES`,
            `LOGITS` and `BASES`.

    Returns:
        Columns variant, split, measure, expressions (that have a value), images, mean, low, high; logits: the mean
        where pixels are ranked by the logits that masks are made of; base: the mean that random scores would have.
    """
    rows = []
    for (variant, split), part in alignment.groupby(["variant", "split"], sort=False):
        columns = [*MEASURES, *LOGITS.values(), *BASES.values()]
        of_expressions = part.groupby(["sent_id", "image_id"])[columns].mean().reset_index()
        for measure in MEASURES:
            values = of_expressions.dropna(subset=[measure])
            numbers = _clustered(values["image_id"], values[measure])
            others = (values[LOGITS[measure]].mean(), values[BASES[measure]].mean())
            rows.append((variant, split, measure, *numbers, *others))
    names = ["variant", "split", "measure", "expressions", "images", "mean", "low", "high", "logits", "base"]
    return pd.DataFrame(rows, columns=names)


def figure(summary: pd.DataFrame, variants: list[str], split: str) -> Figure:
    """A panel a measure, a row a variant; `summary` as `summarise` gives it."""
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
            "Pixels ranked by their similarity to the center embedding, inside against outside the true mask; 100 % "
            "means that every pixel inside comes before every pixel outside. Overall: all pixels. Along the border: "
            "those of a ring along the mask's border. Against distractors: inside the mask, against other things of "
            "the same category. Lines: 95 % intervals over images, seeds averaged. Hollow: the same where pixels are "
            "ranked by the logits that masks are made of. Random similarities would give "
            f"{_listed(chance)}. Look for filled dots near their hollow one: there pixels lie around the center as the "
            "mask needs them. Only the contrastive losses ask for that; without one, the mask is found by weights that "
            "are made from the center, and similarity is free to say nothing. Scales differ and none begins at zero."
        ),
        panels=panels,
        columns=3,
        legend=[
            Mark("similarity to the center", INK, filled=True),
            Mark("logits of the mask", INK, filled=False),
        ],
        shared_names=True,
    )


def _clustered(images: pd.Series, values: pd.Series) -> tuple[int, int, float, float, float]:
    """Number of values and of images, mean, and the interval's ends."""
    sums = values.groupby(images.to_numpy()).agg(["sum", "count"])
    if sums.empty:
        return 0, 0, np.nan, np.nan, np.nan
    total, mean = len(values), float(values.mean())
    if len(sums) < FEWEST_IMAGES:
        return total, len(sums), mean, np.nan, np.nan
    residuals = sums["sum"] - sums["count"] * mean
    half = NORMAL_95 * np.sqrt(len(sums) / (len(sums) - 1) * float((residuals**2).sum())) / total
    return total, len(sums), mean, mean - half, mean + half


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
