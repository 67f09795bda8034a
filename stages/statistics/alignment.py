"""Do pixels align with the center of their expression? Average precision of their similarity, with intervals."""

import numpy as np
import pandas as pd

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
