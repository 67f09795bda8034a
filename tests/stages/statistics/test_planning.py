"""Planning and equivalence against scipy's noncentral t and against simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from stages.statistics import bootstrap, planning
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.planning import Error


@pytest.mark.parametrize("seeds, pairs", [(3, 1), (5, 6), (10, 21)])
def test_the_smallest_difference_is_supported_in_four_of_five_cases(seeds, pairs):
    """Images without error: a paired t test over seeds, at Bonferroni's level."""
    error = Error(0.0, 0.02 / math.sqrt(seeds), seeds - 1)
    smallest = planning.smallest_supported(error, pairs)
    critical = stats.t.ppf(1 - 0.05 / pairs / 2, seeds - 1)
    assert stats.nct.sf(critical, seeds - 1, smallest / error.whole) == pytest.approx(0.8, abs=0.006)
    random = np.random.default_rng(0)
    p = stats.ttest_1samp(random.normal(smallest, 0.02, (20_000, seeds)), 0, axis=1).pvalue
    assert (p < 0.05 / pairs).mean() == pytest.approx(0.8, abs=0.012)


@pytest.mark.parametrize("images, seeds, degrees", [(1.0, 1.0, 2), (1.0, 0.3, 4), (0.2, 1.0, 1), (0.5, 2.0, 9)])
@pytest.mark.parametrize("distance", [0.5, 2.0, 8.0])
def test_the_error_is_the_sum_of_a_normal_variable_and_students_t(images, seeds, degrees, distance):
    def density(normal: float) -> float:
        return stats.t.sf((distance - images * normal) / seeds, degrees) * stats.norm.pdf(normal)

    expected = integrate.quad(density, -12, 12, limit=400)[0]
    found = planning._beyond(np.array([distance]), images, np.array([seeds]), degrees)
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("pairs", [1, 4])
def test_the_projects_own_test_supports_it_in_four_of_five_simulated_experiments(pairs):
    """3 seeds, 50 images, and errors of images, of seeds, and of runs on images."""
    random = np.random.default_rng(0)
    seeds, images, of_images, of_seeds, noise = 3, 50, 0.05, 0.005, 0.05
    error = Error(of_images / math.sqrt(images), math.sqrt((of_seeds**2 + noise**2 / images) / seeds), seeds - 1)
    true, runs = (
        planning.smallest_supported(error, pairs),
        [VariantSeed(name, seed) for name in "ab" for seed in range(seeds)],
    )
    supported = []
    for _ in range(300):
        gain = true + random.normal(0, of_images, images) + random.normal(0, of_seeds, (seeds, 1))
        values = np.vstack([np.full((seeds, images), 0.5), 0.5 + gain + random.normal(0, noise, (seeds, images))])
        found = bootstrap.estimates(runs, {"metric": (values, np.ones((1, images)))}, 0.0)["metric"]
        supported.append(found.difference("b", "a").p < 0.05 / pairs)
    assert np.mean(supported) == pytest.approx(planning.POWER, abs=0.07)  # three standard errors


def test_an_error_of_images_alone_is_known():
    """The test is then that of the normal distribution."""
    expected = 0.01 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert planning.smallest_supported(Error(0.01, 0.0, 4), 1) == pytest.approx(expected, rel=1e-4)


def test_degrees_of_both_parts_are_satterthwaites():
    """Those of Welch's test of two samples, of which one is so large that its variance is known."""
    error = Error(0.3, 0.4, 5)
    assert error.whole == pytest.approx(0.5)
    assert error.effective_degrees == pytest.approx(0.5**4 / (0.4**4 / 5))


def test_so_many_seeds_are_needed_and_one_fewer_is_not_enough():
    error = Error(0.004, 0.02 / math.sqrt(3), 2)
    needed = planning.seeds_needed(0.02, error, 3, 6)
    at = {n: planning.smallest_supported(error.with_seeds(3, n), 6) for n in (needed - 1, needed)}
    assert at[needed] <= 0.02 < at[needed - 1]
    assert error.with_seeds(3, needed).seeds == pytest.approx(0.02 / math.sqrt(needed))
    assert planning.seeds_needed(0.01, error, 3, 6) is None  # the images alone make an error of 0.004
    assert planning.seeds_needed(0.5, error, 3, 6) == 3


def test_equivalence_is_the_90_percent_interval_within_the_smallest_effect():
    for difference in np.linspace(-0.02, 0.02, 41):
        for deviation in (0.001, 0.004, 0.01):
            error = Error(0.0, deviation, 4)
            low, high = stats.t.interval(0.90, 4, difference, deviation)
            assert planning.is_equivalent(difference, error, 0.01) == (low > -0.01 and high < 0.01)
    assert planning.is_equivalent(0.0, Error(0.0, 0.0, 2), 0.01)


@pytest.mark.parametrize("difference, supported, error, expected", [
    (0.03, True, Error(0.001, 0.002, 2), "better"),
    (-0.03, True, Error(0.001, 0.002, 2), "worse"),
    (0.001, True, Error(1e-4, 1e-4, 2), "better"),  # however small
    (0.001, False, Error(0.001, 0.001, 2), "equivalent"),
    (0.001, False, Error(0.001, 0.02, 2), "undecided"),
    (0.03, False, Error(0.001, math.nan, 0), ""),  # one seed
    (math.nan, False, Error(math.nan, math.nan, 0), ""),
])  # fmt: skip
def test_verdicts(difference, supported, error, expected):
    assert planning.verdict(difference, supported, error, 0.01) == expected


def test_each_pair_has_one_plan_however_often_it_is_in_the_tables():
    columns = ["split", "metric", "variant", "difference", "images_error", "seeds_error", "degrees", "seeds", "p"]
    comparison = pd.DataFrame(
        [
            ("val", "mIoU", "a", 0.0, math.nan, math.nan, 0, 3, math.nan),
            ("val", "mIoU", "b", 0.1, 0.01, 0.02, 2, 3, 0.01),
            ("val", "oIoU", "b", 0.1, 0.01, 0.02, 2, 3, 0.01),
        ],
        columns=columns,
    )
    contrasts = comparison.iloc[[1]].assign(against="a")
    (plan,) = planning.plans(comparison, contrasts, "a", "val", "mIoU")
    assert plan[:3] == ("b", "a", 0.1)
    assert plan.smallest == planning.smallest_supported(Error(0.01, 0.02, 2), 1)
    assert plan.seeds[0] is None or plan.seeds[0] >= plan.seeds[1] >= plan.seeds[2]
