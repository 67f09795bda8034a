"""What an experiment can show: the smallest difference that it supports, and the seeds that another one needs.

And whether a difference is too small to matter.

The error of a difference has two parts, as `bootstrap` says: that of the images, and that of S seeds, which is the
deviation between seeds divided by sqrt(S). Together they have the degrees of freedom of Satterthwaite (1946):

    error^2 = images^2 + seeds^2        df = error^4 / (seeds^4 / degrees of the seeds)

The power of a two-sided test is that of the noncentral t distribution. The level is that of the first step of Holm's
adjustment, `LEVEL` divided by the number of pairs: so no order of the pairs makes it worse.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtr, stdtrit

from stages.statistics.bootstrap import OWN_SPREAD

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 100
DIFFERENCES = (1, 2, 3)  # points, for which seeds are counted
ENDLESS = 1e9  # degrees of freedom of an error that is known


class Error(NamedTuple):
    """The standard error of a difference, in its unit: the images' part, that of so many seeds, and its degrees."""

    images: float
    seeds: float
    degrees: int

    @property
    def whole(self) -> float:
        return math.hypot(self.images, self.seeds)

    @property
    def effective_degrees(self) -> float:
        return (self.whole / self.seeds) ** 4 * self.degrees if self.seeds else ENDLESS

    def with_seeds(self, before: int, seeds: int) -> "Error":
        """The error that another number of seeds would have."""
        return Error(self.images, self.seeds * math.sqrt(before / seeds), seeds - 1)


def smallest_supported(error: Error, pairs: int) -> float:
    """The true difference that is supported with a probability of `POWER`, beside other pairs."""
    degrees = error.effective_degrees
    critical = stdtrit(degrees, 1 - LEVEL / pairs / 2)
    return error.whole * float(nctdtrinc(degrees, 1 - POWER, critical))


def seeds_needed(difference: float, error: Error, seeds: int, pairs: int) -> int | None:
    """The least number of seeds, from `OWN_SPREAD` on, with which a true difference is supported with `POWER`.

    Args:
        error: with so many seeds.

    Returns:
        None where more than `MOST_SEEDS` would be needed: the images alone may be too few.
    """
    numbers = range(OWN_SPREAD, MOST_SEEDS + 1)
    return next((n for n in numbers if smallest_supported(error.with_seeds(seeds, n), pairs) <= difference), None)


def is_equivalent(difference: float, error: Error, smallest_effect: float) -> bool:
    """Whether two one-sided tests at `LEVEL` each show that the true difference is smaller than `smallest_effect`.

    So the interval of 90 % lies within plus and minus the smallest effect (Schuirmann 1987).
    """
    away = smallest_effect - abs(difference)
    if not error.whole:
        return away > 0
    return bool(stdtr(error.effective_degrees, -away / error.whole) < LEVEL)


def verdict(difference: float, supported: bool, error: Error, smallest_effect: float) -> str:
    """better, worse, equivalent or undecided; empty where there is no difference or no error of seeds.

    A difference that is supported is better or worse, however small.
    """
    if np.isnan(difference) or np.isnan(error.seeds) or not error.degrees:
        return ""
    if supported:
        return "better" if difference > 0 else "worse"
    return "equivalent" if is_equivalent(difference, error, smallest_effect) else "undecided"


class Plan(NamedTuple):
    """A pair of variants: its difference, the smallest one that is supported, and the seeds that `DIFFERENCES` need."""

    variant: str
    against: str
    difference: float
    smallest: float
    seeds: list[int | None]


def plans(comparison: pd.DataFrame, contrasts: pd.DataFrame, reference: str, split: str, metric: str) -> list[Plan]:
    """One for each pair that has a p-value on a split and metric.

    Args:
        comparison, contrasts: the tables of `stages.statistics.comparison.compare`.
    """
    both = pd.concat([comparison.assign(against=reference), contrasts], ignore_index=True)
    chosen = both[(both["split"] == split) & (both["metric"] == metric) & both["p"].notna()]
    chosen = chosen[~chosen[["variant", "against"]].apply(frozenset, axis="columns").duplicated()]
    found = []
    for row in chosen.itertuples():
        error = Error(row.images_error, row.seeds_error, row.degrees)
        needed = [seeds_needed(points / 100, error, row.seeds, len(chosen)) for points in DIFFERENCES]
        smallest = smallest_supported(error, len(chosen))
        found.append(Plan(row.variant, row.against, row.difference, smallest, needed))
    return found
