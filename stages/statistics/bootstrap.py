"""How sure is a number? Intervals and p-values over the luck of the images and the luck of the seeds.

For one run, every metric is a ratio of two sums over images: mIoU = sum of IoU / number of expressions, oIoU = sum of
intersections / sum of unions, Pr@X = number of passes / number of expressions. The expressions of an image are not
independent. So images are resampled with all their expressions, and both sums are computed anew each time: a bootstrap
of a ratio over clusters (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 8). A resample
has the same images for every run, so that differences are paired.

A few seeds cannot be resampled in this way: a bootstrap of two values spreads half as much as it should, and intervals
with a nominal coverage of 95 % cover 70 % (`benchmarks/results/coverage.csv`). Instead, each resample adds to the mean
over S seeds the error that another S seeds would have made: sqrt(variance / S) * t, with the variance between seeds,
and t from Student's distribution with the degrees of freedom of the estimated variance. The variance also contains that
runs differ image by image, so this part, the noise, is taken off the spread of the resampled images:

    resample = mean + sqrt(1 - noise / (S v)) (resampled mean - mean) + sqrt(variance / S) t

Here v is the variance of the resampled means. The images' own part, 1 - noise / (S v), is at least 0.

Every mean and every difference has a variance of its own. A difference of two variants is one value for each seed that
they share, as runs of one seed share initial weights and order of samples:

    own variance = sum over seeds of (T - mean of T)^2 / (S - 1)            T (S,): the value of each seed
    own noise    = |Z - mean of Z|^2 / ((S - 1) (N - 1) N)                  Z (S, N): what each of N images adds to it

Z is the numerator minus T times the denominator, divided by the mean denominator; of a difference, the difference of
both. But the variance of a few values is luck: of three, it is less than a twentieth of the true one in one case of
twenty. So it is moderated (Smyth 2004): the variance that all variants have together counts as d more degrees of
freedom, and likewise the noise:

    variance = ((S - 1) own variance + d common variance) / (S - 1 + d)     df = S - 1 + d
    common variance = |M T|^2 / (degrees that M leaves)                     T (R,): the metric of every run
    common noise    = |M Z|^2 / (degrees that M leaves (N - 1) N)           Z (R, N)

M is the residual maker of a linear model of the runs. For the mean of one variant, the model has one effect for each
variant. For a difference, which has twice the variance and noise, it has one effect for each seed too. Smyth estimates
d from the data. A few variants tell too little about it, so it is 1 with two to four seeds. It is 0 from five seeds on:
there the own variance is known well enough, and intervals hold where one variant is four times noisier than the others
too (`docs/comparing.md`). It is also 0 where the common variance has no more degrees than the own: of two variants,
both are the same.

With one seed there is no variance to estimate: the interval covers the images alone, and there is no p-value. Fewer
than `FEWEST_IMAGES` images have neither. Every metric is a share, so intervals end at 0 and 1, those of differences at
-1 and 1.

**One file of predictions**, of a system that others made, has no seeds, and stands beside every seed of the variant
that it is compared with: the difference is to the mean over these. Its intervals cover the images alone, and it has no
p-value, since one file cannot show what another training of that system would give.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from stages.statistics import evidence
from stages.statistics.evidence import FEWEST_IMAGES

RESAMPLES = 10_000
LEVEL = 0.95
AT_ONCE = 1_000  # resamples whose weights are in memory together
COMMON_DEGREES = 1  # what the variance of all variants together counts beside the own of a mean or difference: d
OWN_VARIANCE_SEEDS = 5  # from so many on, d is 0
DIGITS = 12  # of a resampled number; beyond them numbers differ by rounding alone


class VariantSeed(NamedTuple):
    """A run of one dataset: the variant and the seed that it was trained with."""

    variant: str
    seed: int


class Interval(NamedTuple):
    """A value, its interval at `LEVEL`, and the two-sided p-value of the hypothesis that it is 0; NaN where none is.

    Its standard error has two parts, that of the images and that of the seeds, which has so many degrees of freedom.
    """

    value: float
    low: float
    high: float
    p: float
    images_error: float = math.nan
    seeds_error: float = math.nan
    degrees: int = 0


NOTHING = Interval(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Estimates:
    """One metric of every run.

    Attributes:
        runs: the R runs.
        values: (R,), the metric of each run.
        resampled: (R, B), the same in each of B resamples of the images.
        additions: (R, N), what each of N images adds to it: Z above.
        fewest: the least number of images for an interval.
        files: the names of runs that are one file of predictions each.
        common_degrees: d above; None for that of the number of seeds.
    """

    runs: list[VariantSeed]
    values: np.ndarray
    resampled: np.ndarray
    additions: np.ndarray
    fewest: int
    files: frozenset[str] = frozenset()
    common_degrees: int | None = None

    @property
    def images(self) -> int:
        return self.additions.shape[1]

    def no_verdict(self, *variants: str) -> str:
        """Why no difference of variants has a p-value; empty where they have one."""
        if self.files.intersection(variants):
            return evidence.no_verdict_of_a_file(self.images)
        return evidence.no_verdict(self.images, self._spread_of_differences.degrees)

    def of(self, variant: str) -> np.ndarray:
        """The values of a variant's runs, (S,)."""
        return self.values[self._rows(variant)]

    def mean(self, variant: str) -> Interval | None:
        """The mean over the seeds of a variant; None where it has no run."""
        return self.combination({variant: 1})

    def difference(self, variant: str, against: str) -> Interval | None:
        """The mean of one variant minus that of another over their common seeds; None where they have none.

        The other way round it is the same with the opposite sign.
        """
        if not self.common_seeds(variant, against):
            return None
        if self._rows(variant)[0] < self._rows(against)[0]:
            found = self.difference(against, variant)
            return found and found._replace(value=0 - found.value, low=0 - found.high, high=0 - found.low)
        return self.combination({variant: 1, against: -1})

    def combination(self, weights: Mapping[str, float]) -> Interval | None:
        """A weighted sum of variants, over the seeds that all of them have; None where they have none.

        Weights add to 1, or to 0 for a sum that compares variants.
        """
        if not (seeds := self.common_seeds(*weights)):
            return None
        chosen = np.array([[self._row(name, seed) for seed in seeds] for name in weights])  # (V, S)
        factors = np.array(list(weights.values()), dtype=float)
        values, resampled, additions = (
            np.tensordot(factors, table[chosen], 1) for table in (self.values, self.resampled, self.additions)
        )  # (S,), (S, B), (S, N)
        if self.files & weights.keys():
            spread = Spread(0.0, 0.0, 0)
        else:
            common = self._spread_of_means if factors.sum() else self._spread_of_differences
            own = _spread(values, additions, np.ones((len(seeds), 1)))
            more = common_degrees(len(seeds)) if self.common_degrees is None else self.common_degrees
            spread = own.moderated(common.over(1 / np.square(factors).sum()), more)
        lowest, highest = factors.clip(max=0).sum(), factors.clip(min=0).sum()
        return self._interval(values.mean(), resampled.mean(axis=0), spread.over(len(seeds)), lowest, highest)

    def common_seeds(self, first: str, *others: str) -> list[int]:
        """Seeds that all of these variants were run with, in the order of the first. A file has those of the others."""
        names = [name for name in (first, *others) if name not in self.files] or [first]
        return [
            seed
            for name, seed in self.runs
            if name == names[0] and all((other, seed) in self.runs for other in names[1:])
        ]

    @cached_property
    def _spread_of_means(self) -> "Spread":
        return _spread(self.values, self.additions, self._effects("variant"))

    @cached_property
    def _spread_of_differences(self) -> "Spread":
        effects = np.hstack([self._effects("variant"), self._effects("seed")])
        return _spread(self.values, self.additions, effects)

    def _row(self, variant: str, seed: int) -> int:
        return self._rows(variant)[0] if variant in self.files else self.runs.index(VariantSeed(variant, seed))

    def _rows(self, variant: str) -> list[int]:
        return [row for row, (name, _) in enumerate(self.runs) if name == variant]

    def _effects(self, of: str) -> np.ndarray:
        """(R, number of variants or seeds): 1 where a run has that variant or seed, else 0."""
        place = VariantSeed._fields.index(of)
        labels = [run[place] for run in self.runs]
        return np.array([[label == other for other in dict.fromkeys(labels)] for label in labels], dtype=float)

    def _interval(
        self, value: float, resampled: np.ndarray, spread: "Spread", lowest: float, highest: float
    ) -> Interval:
        """Of a mean between two limits that is `resampled` (B,) in resamples of the images; spread: between seeds."""
        if self.images < self.fewest:
            return NOTHING._replace(value=float(value))
        of_images, seeds_error = resampled.var(), math.nan
        if spread.degrees:
            own_part = max(0.0, 1 - spread.noise / of_images) if of_images else 0.0
            errors = _errors(len(resampled), spread.degrees)
            of_images, seeds_error = own_part * of_images, math.sqrt(spread.variance)
            resampled = value + np.sqrt(own_part) * (resampled - value) + seeds_error * errors
        resampled = resampled.round(DIGITS)
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).clip(lowest, highest)
        beyond = min((resampled <= 0).sum(), (resampled >= 0).sum())
        p = min(1.0, 2 * float(beyond + 1) / (len(resampled) + 1)) if spread.degrees else math.nan
        return Interval(float(value), float(low), float(high), p, math.sqrt(of_images), seeds_error, spread.degrees)


class Spread(NamedTuple):
    """Variance of runs between seeds, the part of it that comes from single images, and its degrees of freedom."""

    variance: float
    noise: float
    degrees: int

    def over(self, seeds: float) -> "Spread":
        """The spread of a mean over that many seeds."""
        return Spread(self.variance / seeds, self.noise / seeds, self.degrees)

    def moderated(self, common: "Spread", degrees: int) -> "Spread":
        """The mean of this spread and a common one, which counts as so many degrees of freedom, if it has more."""
        more = min(degrees, common.degrees - self.degrees)
        total = self.degrees + more
        variance, noise = (
            (self.degrees * own + more * others) / max(1, total)
            for own, others in ((self.variance, common.variance), (self.noise, common.noise))
        )
        return Spread(variance, noise, total)


def common_degrees(seeds: int) -> int:
    """d above, with so many seeds."""
    return COMMON_DEGREES if seeds < OWN_VARIANCE_SEEDS else 0


def estimates(
    runs: list[VariantSeed],
    sums: dict[str, tuple[np.ndarray, np.ndarray]],
    empty: float,
    resamples: int = RESAMPLES,
    fewest: int = FEWEST_IMAGES,
    files: frozenset[str] = frozenset(),
) -> dict[str, Estimates]:
    """Metrics as ratios of sums over images, each between 0 and 1, all in the same resamples.

    Args:
        runs: the R runs.
        sums: metric -> numerator (R, N) and denominator (R, N) or (1, N), for each of N images.
        empty: the ratio where the denominator is 0.
        resamples: how many, B.
        fewest: the least number of images for an interval.
        files: the names of runs that are one file of predictions each.

    Raises:
        ValueError: a sum is not finite: its p-value would be the least that there is.
    """
    for metric, tables in sums.items():
        if not all(np.isfinite(table).all() for table in tables):
            raise ValueError(f"{metric}: sums over images must be finite")
    different = {id(table): table for pair in sums.values() for table in pair}
    resampled = dict(zip(different, _resampled(list(different.values()), resamples), strict=True))
    return {
        metric: _estimates(
            runs, numerator, denominator, resampled[id(numerator)], resampled[id(denominator)], empty, fewest, files
        )
        for metric, (numerator, denominator) in sums.items()
    }


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number, so that the chance to reject any true hypothesis is bounded (Holm 1979).

    Missing values stay missing and do not count. Shape (H,) -> (H,).
    """
    adjusted = np.full(len(p_values), np.nan)
    there = np.flatnonzero(~np.isnan(p_values))
    order = there[np.argsort(p_values[there], kind="stable")]
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted


def _estimates(
    runs: list[VariantSeed],
    numerator: np.ndarray,
    denominator: np.ndarray,
    resampled_numerator: np.ndarray,
    resampled_denominator: np.ndarray,
    empty: float,
    fewest: int,
    files: frozenset[str],
) -> Estimates:
    values = _ratio(numerator.sum(axis=1), denominator.sum(axis=1), empty)  # (R,)
    scale = denominator.mean(axis=1, keepdims=True)
    return Estimates(
        runs=runs,
        values=values,
        resampled=_ratio(resampled_numerator, resampled_denominator, empty),
        additions=_ratio(numerator - values[:, None] * denominator, np.broadcast_to(scale, numerator.shape), 0.0),
        fewest=fewest,
        files=files,
    )


def _spread(values: np.ndarray, additions: np.ndarray, effects: np.ndarray) -> Spread:
    """The spread that a linear model leaves: values (R,), additions (R, N), effects (R, K), 1 where a run has one."""
    residual_maker = np.eye(len(effects)) - effects @ np.linalg.pinv(effects)  # (R, R)
    degrees, images = int(len(effects) - np.linalg.matrix_rank(effects)), additions.shape[1]
    if not degrees:
        return Spread(0.0, 0.0, 0)
    variance = np.square(residual_maker @ values).sum() / degrees
    noise = np.square(residual_maker @ additions).sum() / (degrees * max(1, images - 1) * images)
    return Spread(variance, noise, degrees)


@cache
def _errors(resamples: int, degrees: int) -> np.ndarray:
    """Student's t, each part of the distribution once, in the same random order always; (resamples,)."""
    shares = (np.arange(resamples) + 0.5) / resamples
    return np.random.default_rng(1).permutation(stdtrit(degrees, shares))


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, empty, dtype=float), where=denominator > 0)


def _resampled(tables: list[np.ndarray], resamples: int) -> list[np.ndarray]:
    """Sums over N resampled images: tables (K, N) -> (K, B)."""
    stacked = np.concatenate(tables).astype(float)  # (all K, N)
    sums = np.hstack([stacked @ weights.T for weights in _weights(stacked.shape[1], resamples)])
    return np.split(sums, np.cumsum([len(table) for table in tables])[:-1])


def _weights(images: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, (at most `AT_ONCE`, N) at a time; the same draws for the same number of images."""
    random = np.random.default_rng([0, images])
    for start in range(0, resamples, AT_ONCE):
        count = min(AT_ONCE, resamples - start)
        drawn = random.integers(0, images, (count, images)) + images * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images).astype(float)
