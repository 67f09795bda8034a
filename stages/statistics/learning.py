"""How runs learn: is the curve of val flat at the end, and how fast did it rise?

A curve is the metric that selects the epoch, on val, after each epoch of one run: shape (E,), fractions.
"""

import math

import numpy as np
from scipy.special import stdtrit

from stages.statistics.bootstrap import LEVEL, NOTHING, Interval

FLAT = 0.005  # a curve whose last quarter adds less is flat: half a point
SHARE = 0.9  # of what the reference reaches: the level whose epoch is compared


def last_quarter(curve: np.ndarray) -> float:
    """What the last quarter of the epochs, rounded up, adds to the best value before it.

    That is what the chosen model gains from these epochs, so a bad last epoch does not hide a rise. It is never below
    0, and noise can only make it larger: a curve that is called flat is flat. NaN for fewer than two epochs.
    """
    before = len(curve) - math.ceil(len(curve) / 4)
    return float(curve.max() - curve[:before].max()) if before else math.nan


def area(curve: np.ndarray) -> float:
    """The mean over the epochs: the area under the curve, divided by its length."""
    return float(curve.mean())


def epochs_to(curve: np.ndarray, level: float) -> float:
    """The epoch at which the curve first reaches a level, on straight lines between epochs.

    1 where the first epoch reaches it, as nothing is known before; NaN where no epoch does.
    """
    if not (reached := curve >= level).any():
        return math.nan
    if not (place := int(reached.argmax())):
        return 1.0
    before, after = curve[place - 1 : place + 1]
    return place + float((level - before) / (after - before))


def over_seeds(values: np.ndarray) -> Interval:
    """The mean of S values, one for each seed, with Student's interval of S - 1 degrees of freedom.

    Differences of two variants are given paired by seed, (S,). No interval for one seed. Where a value is missing,
    nothing: the mean of the others would leave out the slowest runs.
    """
    if not len(values) or np.isnan(values).any():
        return NOTHING
    mean = float(values.mean())
    if len(values) == 1:
        return NOTHING._replace(value=mean)
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return NOTHING._replace(value=mean, low=mean - half, high=mean + half)
