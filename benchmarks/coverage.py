"""Do 95 % intervals contain the true value 95 times in 100, and does the test reject at its nominal level?

Simulates many comparisons whose true values are known: variants, seeds, and images with several expressions each. The
IoU of an expression is the sum of a common mean, random effects of the image, of the variant on the image and of the
run, and noise. All variants have the same mean. Runs are alike, or unlike in one of the ways of `UNLIKE`. Counts how
often

- the interval of a mean contains the true mean, and that of a difference to the first variant the true difference;
- a single p-value is at most .05, and any Holm-adjusted p-value of a comparison is (both should be 5 %),
- the same of the p-values of equivalence where every true difference is exactly the smallest effect (at most 5 %). With
  10 points the test is at its full level,
- a true difference is supported at the first step of Holm's adjustment: one of 5 points, and that which is the smallest
  one in the plan of another comparison (should be 80 %).

There are three methods. `moderated` takes the variance between seeds from all variants too, `own variance` from the
pair alone, so that intervals are those of Student's t. The project takes the first with few seeds and the second with
more (`stages.statistics.bootstrap`), and its plan is judged with the method that it takes. `resampled seeds` is the
textbook alternative, which resamples seeds like images.

Adds its rows to `benchmarks/results/coverage.csv`, setting by setting.
"""

import argparse
import math
import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from benchmarks import table
from stages.statistics import planning
from stages.statistics.bootstrap import COMMON_DEGREES, LEVEL, Estimates, common_degrees, estimates, holm
from stages.statistics.comparison import LARGEST_P
from stages.statistics.planning import Error

RESULTS = Path("benchmarks/results/coverage.csv")
VARIANTS = [f"variant {number}" for number in range(6)]
MEAN, OF_IMAGE, OF_VARIANT_ON_IMAGE, NOISE = 0.6, 0.15, 0.05, 0.25  # the mean, then standard deviations, of IoU
SPREADS = (0.0, 0.005, 0.015, 0.04)  # standard deviations between seeds
UNLIKE = (
    "the first variant four times noisier",
    "the last variant four times noisier",
    "three and three variants share the luck of a seed",
    "one run in ten ten points worse",
)
UNLIKE_SPREAD = 0.01
RARE, COLLAPSE = 0.1, 0.1  # share of runs that collapse, and how far
METRICS = ("mIoU", "oIoU", "Pr@0.5")
SMALLEST_EFFECTS = {"1 point": 0.01, "10 points": 0.1}
RESAMPLES = 2_000
COLUMNS = (
    "intervals of means that hold",
    "intervals of differences that hold",
    "the same of the worst mean",
    "the same of the worst difference",
    "p at most .05",
    "any adjusted p at most .05",
    *(f"{which} at {name}" for name in SMALLEST_EFFECTS for which in ("equivalent", "any adjusted equivalent")),
    "power at 5 points",
    "power of the plan",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=400, help="simulated comparisons per setting")
    parser.add_argument("--images", type=int, nargs="+", default=[150], help="sizes of the split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--runs", nargs="+", choices=("alike", *UNLIKE), default=["alike", *UNLIKE])
    arguments = parser.parse_args()
    runs = [("alike", spread) for spread in SPREADS] + [(unlike, UNLIKE_SPREAD) for unlike in UNLIKE]
    runs = [run for run in runs if run[0] in arguments.runs]
    settings = list(product(arguments.images, arguments.seeds, runs))
    options = {key: shlex.join(map(str, np.atleast_1d(value))) for key, value in vars(arguments).items()}
    command = " ".join(["python -m benchmarks.coverage", *(f"--{key} {value}" for key, value in options.items())])
    how = table.surroundings("numpy", "scipy") | {"command": command}
    for images, seeds, (likeness, spread) in tqdm(settings, desc="settings", disable=None):
        rows = simulate(images, seeds, likeness, spread, arguments.comparisons)
        for row in rows:
            print(", ".join(f"{key} {value}" for key, value in row.items()))
        table.append(RESULTS, [row | how for row in rows])


def simulate(images: int, seeds: int, likeness: str, spread: float, comparisons: int) -> list[dict[str, object]]:
    """One row per metric and method: how often intervals contain the true value and tests reject."""
    random = np.random.default_rng([seeds, round(1e4 * spread), *likeness.encode()])
    degrees = {"moderated": COMMON_DEGREES, "own variance": 0}
    counted = {(metric, method): [] for metric in METRICS for method in (*degrees, "resampled seeds")}
    plans: dict[str, float] = {}  # of the comparison before
    for _ in range(comparisons):
        for metric, found in one_comparison(random, images, seeds, likeness, spread).items():
            true = truth(metric, likeness, spread)
            for method, number in degrees.items():
                taken = number == common_degrees(seeds)
                told = {"power of the plan": power(found, plans.get(metric, math.nan))} if taken else {}
                counted[metric, method].append(judged_own(replace(found, common_degrees=number), true) | told)
            counted[metric, "resampled seeds"].append(resampled_seeds(found, true, random))
            plans[metric] = smallest_supported(found)
    return [
        {
            "seeds": seeds,
            "runs": likeness,
            "spread of runs, points": round(100 * spread, 2),
            "metric": metric,
            "method": method,
            **dict.fromkeys(COLUMNS, ""),
            **shares(results),
            "comparisons": comparisons,
            "images": images,
        }
        for (metric, method), results in counted.items()
    ]


def shares(results: list[dict[str, float]]) -> dict[str, float]:
    """Means over comparisons of what `judged` tells of each, with the least coverage of one variant and one pair."""
    found = pd.DataFrame(results).mean()
    each = {what: found.filter(like=f"{what} ") for what in ("mean", "difference")}
    told = found.drop([name for columns in each.values() for name in columns.index])
    worst = {f"the same of the worst {what}": columns.min() for what, columns in each.items()}
    return pd.concat([told, pd.Series(worst)]).round(4).to_dict()


def spreads(likeness: str, spread: float) -> np.ndarray:
    """The standard deviation of each variant's runs, (V,)."""
    found = np.full(len(VARIANTS), spread)
    found[{UNLIKE[0]: slice(0, 1), UNLIKE[1]: slice(-1, None)}.get(likeness, slice(0))] *= 4
    return found


def luck(random: np.random.Generator, seeds: int, likeness: str, spread: float) -> np.ndarray:
    """What each run is better than its variant's mean, (V, S)."""
    shape = len(VARIANTS), seeds
    if likeness == UNLIKE[2]:
        families = np.repeat(random.normal(0, spread, (2, seeds)), len(VARIANTS) // 2, axis=0)
        return families + random.normal(0, spread / 4, shape)
    own = random.normal(0, 1, shape) * spreads(likeness, spread)[:, None]
    return own - COLLAPSE * (random.random(shape) < RARE) if likeness == UNLIKE[3] else own


def one_comparison(
    random: np.random.Generator, images: int, seeds: int, likeness: str, spread: float
) -> dict[str, Estimates]:
    expressions = random.integers(1, 11, images)
    image = np.repeat(np.arange(images), expressions)  # (E,)
    of_images = random.normal(0, OF_IMAGE, images)
    runs = [(variant, seed) for variant in VARIANTS for seed in range(seeds)]
    of_variants = np.repeat(random.normal(0, OF_VARIANT_ON_IMAGE, (len(VARIANTS), images)), seeds, axis=0)
    of_runs = luck(random, seeds, likeness, spread).reshape(-1, 1)
    noise = random.normal(0, NOISE, (len(runs), len(image)))
    ious = MEAN + (of_images + of_variants)[:, image] + of_runs + noise  # (R, E)
    areas = random.lognormal(0, 1, len(image))

    def by_image(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(image, row, images) for row in np.atleast_2d(values)])

    count = by_image(np.ones(len(image)))
    sums = {
        "mIoU": (by_image(ious), count),
        "oIoU": (by_image(ious * areas), by_image(areas)),
        "Pr@0.5": (by_image(ious >= 0.5), count),
    }
    return estimates(runs, sums, empty=0.0, resamples=RESAMPLES, fewest=1)


def truth(metric: str, likeness: str, spread: float) -> np.ndarray:
    """The true value of each variant, (V,)."""
    of_run = np.hypot(spread, spread / 4) if likeness == UNLIKE[2] else spreads(likeness, spread)
    deviation = np.sqrt(OF_IMAGE**2 + OF_VARIANT_ON_IMAGE**2 + NOISE**2 + np.square(of_run) * np.ones(len(VARIANTS)))
    rare = RARE if likeness == UNLIKE[3] else 0.0
    if metric != "Pr@0.5":
        return np.full(len(VARIANTS), MEAN - rare * COLLAPSE)
    return sum(share * norm.sf((0.5 - mean) / deviation) for share, mean in ((1 - rare, MEAN), (rare, MEAN - COLLAPSE)))


def judged_own(found: Estimates, true: np.ndarray) -> dict[str, float]:
    """`judged` of the project's intervals and p-values, and those of equivalence, and the power at 5 points."""
    means = [found.mean(variant) for variant in VARIANTS]
    differences = [found.difference(variant, VARIANTS[0]) for variant in VARIANTS[1:]]
    told = judged(
        [(interval.low, interval.high) for interval in means],
        [(interval.low, interval.high) for interval in differences],
        [interval.p for interval in differences],
        true,
    )
    for name, smallest in SMALLEST_EFFECTS.items():
        off = [interval.value - value for interval, value in zip(differences, true[1:] - true[0], strict=True)]
        p_values = np.array([
            planning.p_equivalent(smallest + error, Error.of(interval), smallest)
            for error, interval in zip(off, differences, strict=True)
        ])  # fmt: skip
        told[f"equivalent at {name}"] = float((p_values <= LARGEST_P).mean())
        told[f"any adjusted equivalent at {name}"] = float((holm(p_values) <= LARGEST_P).any())
    return told | {"power at 5 points": power(found, 0.05)}


def smallest_supported(found: Estimates) -> float:
    """The plan for the differences to the first variant."""
    pairs = {
        frozenset((variant, VARIANTS[0])): Error.of(found.difference(variant, VARIANTS[0])) for variant in VARIANTS[1:]
    }
    variances = {variant: float(found.of(variant).var(ddof=1)) for variant in VARIANTS}
    seeds = len(found.runs) // len(VARIANTS)
    return planning.smallest_supported(planning.typical(pairs, variances, seeds), len(pairs))


def power(found: Estimates, true: float) -> float:
    """The share of differences to the first variant that are supported where all of them truly are `true`."""
    if math.isnan(true):
        return math.nan
    gains = np.array([true * (variant != VARIANTS[0]) for variant, _ in found.runs])
    other = replace(found, values=found.values + gains, resampled=found.resampled + gains[:, None])
    p_values = np.array([other.difference(variant, VARIANTS[0]).p for variant in VARIANTS[1:]])
    return float((p_values <= LARGEST_P / len(p_values)).mean())


def resampled_seeds(found: Estimates, true: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """The same for a bootstrap that also draws seeds with replacement, the same seeds for every variant."""
    by_variant = found.resampled.reshape(len(VARIANTS), -1, RESAMPLES)  # (V, S, B)
    drawn = random.integers(0, by_variant.shape[1], (by_variant.shape[1], RESAMPLES))
    means = np.take_along_axis(by_variant, drawn[None], axis=1).mean(axis=1)  # (V, B)
    differences = means[1:] - means[0]
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    below = (differences <= 0).mean(axis=1)
    return judged(
        np.quantile(means, bounds, axis=1).T,
        np.quantile(differences, bounds, axis=1).T,
        2 * np.minimum(below, 1 - below),
        true,
    )


def judged(means, differences, p_values, true: np.ndarray) -> dict[str, float]:
    p_values = np.asarray(p_values)
    held = {"mean": inside(means, true), "difference": inside(differences, true[1:] - true[0])}
    return {
        **{f"intervals of {what}s that hold": float(each.mean()) for what, each in held.items()},
        **{f"{what} {place}": float(value) for what, each in held.items() for place, value in enumerate(each)},
        "p at most .05": float((p_values <= LARGEST_P).mean()),
        "any adjusted p at most .05": float((holm(p_values) <= LARGEST_P).any()),
    }


def inside(intervals, values: np.ndarray) -> np.ndarray:
    low, high = np.transpose(intervals)
    return (low <= values) & (values <= high)


if __name__ == "__main__":
    main()
