"""What an experiment can show: the smallest difference that it supports, and the seeds that another one needs.

And whether a difference is too small to matter.

The error of a difference has two parts, as `bootstrap` says: that of the images, and that of S seeds, which is the
deviation between seeds divided by sqrt(S). Together they have the degrees of freedom of Satterthwaite (1946):

    error^2 = images^2 + seeds^2        df = error^4 / (seeds^4 / degrees of the seeds)

That is the test of equivalence. The p-value of a difference, and so its power, is of the sum of both parts: a normal
variable times the images' error i, and Student's t times the seeds' error s. As t is a normal variable divided by
sqrt(g), with g chi-square over its degrees of freedom, the sum is a mixture of normal variables:

    P(sum > x) = mean over g of Phi(-x / sqrt(i^2 + s^2 / g))

Another experiment of the same kind would estimate s as s sqrt(g). A true difference is supported where what is
observed, normal around it with the variance i^2 + s^2, is beyond the critical value that belongs to this estimate. With
few seeds that is rarer than under Satterthwaite's t, most of all at the small levels that several pairs have. The level
is that of the first step of Holm's adjustment, `LEVEL` divided by the number of pairs: so no order of the pairs makes
it worse.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaincinv, ndtr, ndtri, stdtr, stdtrit

from stages.statistics.bootstrap import OWN_SPREAD

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 100
DIFFERENCES = (1, 2, 3)  # points, for which seeds are counted
ENDLESS = 1e9  # degrees of freedom of an error that is known
FINE, COARSE = 150, 40  # values of g in a mean, for a probability and for the power
HALVINGS = 25


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


@cache
def smallest_supported(error: Error, pairs: int) -> float:
    """The true difference that is supported with a probability of `POWER`, beside other pairs."""
    shares, weights = _mixture(error.degrees, COARSE)
    critical = _critical(LEVEL / pairs / 2, error.images, error.seeds * np.sqrt(shares), error.degrees)
    if not error.whole:
        return 0.0
    highest = critical.max() + 2 * error.whole
    return float(_root(lambda true: ndtr((true - critical) / error.whole) @ weights - POWER, np.zeros(()), highest))


def seeds_needed(difference: float, error: Error, seeds: int, pairs: int) -> int | None:
    """The least number of seeds, from `OWN_SPREAD` on, with which a true difference is supported with `POWER`.

    Args:
        error: with so many seeds.

    Returns:
        None where more than `MOST_SEEDS` would be needed: the images alone may be too few.
    """
    numbers = range(OWN_SPREAD, MOST_SEEDS + 1)
    place = bisect_left(
        numbers, True, key=lambda n: smallest_supported(error.with_seeds(seeds, n), pairs) <= difference
    )
    return numbers[place] if place < len(numbers) else None


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


def _critical(level: float, images: float, seeds: np.ndarray, degrees: int) -> np.ndarray:
    """The value that the error is above with a probability of `level`, for each of several seeds' errors (K,)."""
    normal, student = (
        [quantile(1 - each) for each in (level, level / 2)]
        for quantile in (ndtri, lambda share: stdtrit(degrees, share))
    )
    low, high = np.maximum(images * normal[0], seeds * student[0]), images * normal[1] + seeds * student[1]
    return _root(lambda value: level - _beyond(value, images, seeds, degrees), low, high)


def _beyond(distance: np.ndarray, images: float, seeds: np.ndarray, degrees: int) -> np.ndarray:
    """The probability that the error is above a distance; both (K,)."""
    shares, weights = _mixture(degrees, FINE)
    with np.errstate(divide="ignore", invalid="ignore"):  # variants that are the same have no error
        return ndtr(-distance[:, None] / np.sqrt(images**2 + np.square(seeds)[:, None] / shares)) @ weights


@cache
def _mixture(degrees: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of g and their weights, which add to 1, (number,) each; closer where g is small and errors are large."""
    places = (np.arange(number) + 0.5) / number
    weights = np.square(places)
    return gammaincinv(degrees / 2, places**3) * 2 / degrees, weights / weights.sum()


def _root(function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where an increasing function crosses 0 between two bounds, elementwise."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = function(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
