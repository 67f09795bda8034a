"""Do pixels align with the center of their expression? Average precision of their similarity, with intervals.

Average precision (AP) ranks the pixels of an image by their similarity to the center embedding of an expression: 1
where every pixel inside the true mask comes before every pixel outside. It may be undefined, as where the image has no
distractor; then the expression does not count.
"""

import math

import pandas as pd

from stages.statistics import bootstrap
from stages.statistics.bootstrap import NOTHING, Estimates, VariantSeed

MEASURES = {"ap": "Overall", "ap_ring": "Along the border", "ap_distractors": "Against distractors"}
LOGITS = {"ap": "logit_ap", "ap_ring": "logit_ap_ring", "ap_distractors": "logit_ap_distractors"}
BASES = {"ap": "base", "ap_ring": "base_ring", "ap_distractors": "base_distractors"}
COLUMNS = ["variant", "split", "measure", "expressions", "images", "mean", "low", "high", "logits", "base"]


def summarise(alignment: pd.DataFrame) -> pd.DataFrame:
    """Mean average precision of each variant, split and measure, with a 95 % interval over images and seeds.

    For one run the mean is a ratio of sums over images: the sum of AP over an image's expressions, divided by the
    number of its expressions that have a value. `bootstrap` says how intervals of such ratios are made.

    Args:
        alignment: one row for each run and expression: variant, seed, sent_id, image_id, split, and the columns that
            are keys of `MEASURES` and values of `LOGITS` and `BASES`.

    Returns:
        `COLUMNS`, one row for each variant, split and measure. expressions and images: that have a value. mean, low,
        high: over seeds, with its interval, which ends at 0 and 1 at the latest; fewer than `FEWEST_IMAGES` images have
        none. logits: the mean where pixels are ranked by the logits that masks are made of. base: the mean that random
        scores would have.
    """
    rows = []
    for split, of_split in alignment.groupby("split", sort=False):
        for measure in MEASURES:
            defined = of_split.dropna(subset=[measure])
            found = _estimates(defined, measure)
            for variant in of_split["variant"].unique():
                own = defined[defined["variant"] == variant]
                sizes = own["sent_id"].nunique(), own["image_id"].nunique()
                mean, logits, base = (_over_seeds(own, each) for each in (measure, LOGITS[measure], BASES[measure]))
                interval = (found and found.mean(variant)) or NOTHING
                rows.append((variant, split, measure, *sizes, mean, interval.low, interval.high, logits, base))
    return pd.DataFrame(rows, columns=COLUMNS)


def _estimates(defined: pd.DataFrame, measure: str) -> Estimates | None:
    """Of every run with a value; None where no image has one."""
    by_image = defined.groupby(["variant", "seed", "image_id"])[measure].agg(["sum", "count"])
    sums, counts = (by_image[column].unstack("image_id", fill_value=0) for column in ("sum", "count"))  # (R, N) each
    if sums.empty:
        return None
    runs = [VariantSeed(*run) for run in sums.index]
    return bootstrap.estimates(runs, {measure: (sums.to_numpy(float), counts.to_numpy(float))}, math.nan)[measure]


def _over_seeds(rows: pd.DataFrame, column: str) -> float:
    """Mean over expressions of their mean over seeds; NaN where there is no row."""
    return float(rows.groupby("sent_id")[column].mean().mean())
