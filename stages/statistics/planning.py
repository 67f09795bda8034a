"""What an experiment can show: the smallest difference that it supports, and the seeds that another one needs.

And whether a difference is too small to matter.

The error of a difference has two parts, as `bootstrap` says: a normal variable times the images' error i, and Student's
t times the error s of S seeds, which is the deviation between seeds divided by sqrt(S). As t is a normal variable
divided by sqrt(g), with g chi-square over its degrees of freedom, the sum is a mixture of normal variables:

    P(sum > x) = mean over g of Phi(-x / sqrt(i^2 + s^2 / g))

Another experiment of the same kind would estimate s as s sqrt(g). A true difference is supported where what is
observed, normal around it with the variance i^2 + s^2, is beyond the critical value that belongs to this estimate. With
few seeds that is rare, most of all at the small levels that several pairs have. The level is that of the first step of
Holm's adjustment, `LEVEL` divided by the number of pairs in the headline: so no order of the pairs makes it worse.

The variance of a pair over three seeds has three degrees of freedom, and a plan from it alone may be off by a factor of
three. So there is one plan for all pairs of a split, from the mean of their variances. This mean is an estimate too,
with the degrees of freedom that Satterthwaite (1946) gives a sum of the variants' variances. So the true s is
s / sqrt(h), with h as g of these degrees, and the plan's probability is the mean over h.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from stages.statistics.bootstrap import Interval, common_degrees

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 100
DIFFERENCES = (1, 2, 3)  # points, for which seeds are counted
FINE, COARSE = 150, 40  # values of g in a mean, for a probability and for the power
HALVINGS = 25


class Error(NamedTuple):
    """The standard error of a difference, in its unit: the images' part, that of so many seeds, and its degrees."""

    images: float
    seeds: float
    degrees: int

    @classmethod
    def of(cls, interval: Interval) -> "Error":
        return cls(interval.images_error, interval.seeds_error, interval.degrees)

    @property
    def whole(self) -> float:
        return math.hypot(self.images, self.seeds)

    def with_seeds(self, before: int, seeds: int) -> "Error":
        """The error that another number of seeds would have."""
        moderated = self.degrees > before - 1
        degrees = seeds - 1 + (common_degrees(seeds) if moderated else 0)
        return Error(self.images, self.seeds * math.sqrt(before / seeds), degrees)


class Known(NamedTuple):
    """The error of a pair whose variances are the mean of those of several pairs.

    Attributes:
        seeds: how many the pairs share.
        degrees: degrees of freedom of the seeds' part of this mean.
    """

    error: Error
    seeds: int
    degrees: float


def typical(pairs: Mapping[frozenset[str], Error], variances: Mapping[str, float], seeds: int) -> Known:
    """What pairs of variants with the same number of seeds have in the mean.

    Args:
        pairs: two variants -> the error of their difference.
        variances: of each variant between its seeds.
    """
    errors = list(pairs.values())
    images, of_seeds = (math.sqrt(np.mean(np.square([getattr(e, part) for e in errors]))) for part in Error._fields[:2])
    times = Counter(variant for pair in pairs for variant in pair)
    parts = np.array([count * variances[variant] for variant, count in times.items()])
    degrees = (seeds - 1) * (parts.sum() ** 2 / np.square(parts).sum() if parts.any() else len(parts))
    return Known(Error(images, of_seeds, errors[0].degrees), seeds, float(degrees))


@cache
def smallest_supported(known: Known, pairs: int) -> float:
    """The true difference that is supported with a probability of `POWER`, beside other pairs."""
    images, seeds, degrees = known.error
    if not known.error.whole:
        return 0.0
    (own, own_weights), (other, weights) = _mixture(known.degrees, COARSE), _mixture(degrees, COARSE)
    true = seeds / np.sqrt(own[:, None])  # (K, 1)
    estimated = true * np.sqrt(other)  # (K, L)
    grid = np.geomspace(estimated.min(), estimated.max(), FINE) if seeds else np.zeros(1)
    critical = np.interp(estimated, grid, _critical(LEVEL / pairs / 2, images, grid, degrees))
    whole, both = np.hypot(images, true), own_weights[:, None] * weights
    highest = critical.max() + 2 * whole.max()
    return float(_root(lambda each: np.sum(ndtr((each - critical) / whole) * both) - POWER, np.zeros(()), highest))


def seeds_needed(difference: float, known: Known, pairs: int) -> int | None:
    """The least number of seeds, from two on, with which a true difference is supported with `POWER`.

    Returns:
        None where more than `MOST_SEEDS` would be needed: the images alone may be too few.
    """
    numbers = range(2, MOST_SEEDS + 1)

    def suffices(number: int) -> bool:
        planned = known._replace(error=known.error.with_seeds(known.seeds, number))
        return smallest_supported(planned, pairs) <= difference

    place = bisect_left(numbers, True, key=suffices)
    return numbers[place] if place < len(numbers) else None


def p_equivalent(difference: float, error: Error, smallest_effect: float | None) -> float:
    """The p-value of the hypothesis that the true difference is at least `smallest_effect`, one way or the other.

    It is the larger one of two one-sided tests (Schuirmann 1987): below .05 where the interval of 90 % lies within plus
    and minus the smallest effect. NaN without a difference, an error of seeds, or a smallest effect.
    """
    if smallest_effect is None or np.isnan(difference) or not error.degrees:
        return math.nan
    away = np.array([smallest_effect - abs(difference)])
    return float(_beyond(away, error.images, np.array([error.seeds]), error.degrees)[0])


def verdict(difference: float, supported: bool, p: float) -> str:
    """better, worse, equivalent or undecided; a difference that is supported is better or worse, however small.

    Args:
        p: the adjusted p-value of `p_equivalent`; where it is NaN there is no verdict, and the result is empty.
    """
    if np.isnan(p):
        return ""
    if supported:
        return "better" if difference > 0 else "worse"
    return "equivalent" if p < LEVEL else "undecided"


class Plan(NamedTuple):
    """What the pairs of variants of a split can show.

    Attributes:
        pairs: how many of the headline have a p-value.
        seeds: how many a pair shares.
        smallest: the true difference that is supported with `POWER`.
        needed: the seeds that each of `DIFFERENCES` needs; None for more than `MOST_SEEDS`.
    """

    pairs: int
    seeds: int
    smallest: float
    needed: list[int | None]


def plan(
    comparison: pd.DataFrame,
    contrasts: pd.DataFrame,
    reference: str,
    headline: Iterable[tuple[str, str]],
    split: str,
    metric: str,
) -> Plan | None:
    """Of a pair of the headline whose variances are the mean of those of all pairs that share the most seeds.

    Args:
        comparison, contrasts: the tables of `stages.statistics.comparison.compare`.
        headline: the pairs of `stages.statistics.comparison.headline_pairs`.

    Returns:
        None where no pair has a p-value.
    """
    both = pd.concat([comparison.assign(against=reference), contrasts], ignore_index=True)
    tested = both[(both["split"] == split) & (both["metric"] == metric) & both["p"].notna()]
    if tested.empty:
        return None
    seeds = int(tested["shared_seeds"].max())
    errors = {
        frozenset((row.variant, row.against)): Error(row.images_error, row.seeds_error, row.degrees)
        for row in tested.itertuples()
    }
    complete = tested[tested["shared_seeds"] == seeds]
    of_split = comparison[(comparison["split"] == split) & (comparison["metric"] == metric)]
    known = typical(
        {pair: errors[pair] for pair in map(frozenset, zip(complete["variant"], complete["against"], strict=True))},
        dict(zip(of_split["variant"], np.square(of_split["std"]), strict=True)),
        seeds,
    )
    pairs = max(1, len(errors.keys() & set(map(frozenset, headline))))
    needed = [seeds_needed(points / 100, known, pairs) for points in DIFFERENCES]
    return Plan(pairs, seeds, smallest_supported(known, pairs), needed)


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
def _mixture(degrees: float, number: int) -> tuple[np.ndarray, np.ndarray]:
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
