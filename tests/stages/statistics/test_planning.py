"""Planning and equivalence against scipy's noncentral t and against simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from stages.statistics import bootstrap, planning
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.planning import Error, Known

SURE = 1e6  # degrees of freedom of an error that is known


@pytest.mark.parametrize("seeds, pairs", [(3, 1), (5, 6), (10, 21)])
def test_the_smallest_difference_is_supported_in_four_of_five_cases(seeds, pairs):
    """Images without error: a paired t test over seeds, at Bonferroni's level."""
    error = Error(0.0, 0.02 / math.sqrt(seeds), seeds - 1)
    smallest = planning.smallest_supported(Known(error, seeds, SURE), pairs)
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
        planning.smallest_supported(Known(error, seeds, SURE), pairs),
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
    assert planning.smallest_supported(Known(Error(0.01, 0.0, 4), 3, 4), 1) == pytest.approx(expected, rel=1e-4)


def test_so_many_seeds_are_needed_and_one_fewer_is_not_enough():
    known = Known(Error(0.004, 0.02 / math.sqrt(3), 3), 3, 8)
    needed = planning.seeds_needed(0.02, known, 6)
    errors = {n: known.error.with_seeds(3, n) for n in (needed - 1, needed)}
    at = {n: planning.smallest_supported(known._replace(error=error), 6) for n, error in errors.items()}
    assert at[needed] <= 0.02 < at[needed - 1]
    assert errors[needed].seeds == pytest.approx(0.02 / math.sqrt(needed))
    assert needed > 5 and errors[needed].degrees == needed - 1
    assert known.error.with_seeds(3, 4).degrees == 4  # two to four seeds have moderated variances
    assert planning.seeds_needed(0.01, known, 6) is None  # the images alone make an error of 0.004
    assert planning.seeds_needed(0.5, known, 6) == 2


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_plan_from_a_few_seeds_holds_in_another_experiment(seeds):
    """Six variants that are alike, images without error: paired t tests of five of them, at Bonferroni's level."""
    random, supported = np.random.default_rng(0), []
    for _ in range(400):
        first, second = random.normal(0.5, 0.02, (2, 6, seeds))
        errors = stats.sem(first[1:] - first[0], axis=1)
        pairs = {
            frozenset(("0", str(place))): Error(0.0, float(error), seeds - 1) for place, error in enumerate(errors, 1)
        }
        variances = {str(place): float(values.var(ddof=1)) for place, values in enumerate(first)}
        second[1:] += planning.smallest_supported(planning.typical(pairs, variances, seeds), 5)
        supported += list(stats.ttest_rel(second[1:], second[:1], axis=1).pvalue < 0.05 / 5)
    assert np.mean(supported) == pytest.approx(planning.POWER, abs=0.05)


def test_equivalence_is_two_one_sided_tests_of_student_where_images_have_no_error():
    random = np.random.default_rng(0)
    for values in random.normal(0.002, 0.004, (20, 4)):
        found = planning.p_equivalent(float(values.mean()), Error(0.0, float(stats.sem(values)), 3), 0.006)
        below = stats.ttest_1samp(values, 0.006, alternative="less").pvalue
        above = stats.ttest_1samp(values, -0.006, alternative="greater").pvalue
        assert found == pytest.approx(max(below, above), rel=0.01)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.90)
        assert (found < 0.05) == (low > -0.006 and high < 0.006)
    assert planning.p_equivalent(0.0, Error(0.0, 0.0, 2), 0.01) == 0  # variants that are the same
    assert math.isnan(planning.p_equivalent(math.nan, Error(math.nan, math.nan, 0), 0.01))
    assert math.isnan(planning.p_equivalent(0.03, Error(0.001, math.nan, 0), 0.01))  # one seed


def test_a_difference_of_the_smallest_effect_is_called_equivalent_in_at_most_one_of_twenty_cases():
    random = np.random.default_rng(0)
    images, seeds = random.normal(0, 0.004, (4000, 1)), random.normal(0, 0.006, (4000, 3))
    found = [
        planning.p_equivalent(0.05 + float(row.mean()), Error(0.004, float(stats.sem(between)), 2), 0.05)
        for row, between in zip(images + seeds, seeds, strict=True)
    ]
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.06


@pytest.mark.parametrize("difference, supported, p, expected", [
    (0.03, True, 0.9, "better"),
    (-0.03, True, 0.9, "worse"),
    (0.001, True, 0.01, "better"),  # however small
    (0.001, False, 0.01, "equivalent"),
    (0.001, False, 0.06, "undecided"),
    (0.03, False, math.nan, ""),
])  # fmt: skip
def test_verdicts(difference, supported, p, expected):
    assert planning.verdict(difference, supported, p) == expected


def test_a_plan_is_of_the_mean_variance_of_all_pairs_that_share_the_most_seeds():
    columns = ["split", "metric", "variant", "images_error", "seeds_error", "degrees", "std", "shared_seeds", "p"]
    comparison = pd.DataFrame(
        [
            ("val", "mIoU", "a", math.nan, math.nan, 0, 0.01, 4, math.nan),
            ("val", "mIoU", "b", 0.01, 0.02, 2, 0.02, 3, 0.01),
            ("val", "mIoU", "c", 0.03, 0.04, 2, 0.03, 3, 0.01),
            ("val", "mIoU", "d", 0.5, 0.5, 9, 0.5, 2, 0.01),  # counts for Holm's adjustment alone
            ("val", "oIoU", "b", 0.5, 0.5, 2, 0.5, 4, 0.01),
            ("testA", "mIoU", "b", 0.5, math.nan, 0, math.nan, 1, math.nan),
        ],
        columns=columns,
    )
    contrasts = comparison.iloc[[1]].assign(against="a")
    headline = [("c", "b"), ("b", "a"), ("c", "a")]  # the first has no p-value
    plan = planning.plan(comparison, contrasts, "a", headline, "val", "mIoU")
    error = Error(math.sqrt((0.01**2 + 0.03**2) / 2), math.sqrt((0.02**2 + 0.04**2) / 2), 2)
    parts = np.array([2 * 0.01**2, 0.02**2, 0.03**2])
    known = Known(error, 3, 2 * parts.sum() ** 2 / (parts**2).sum())
    assert plan[:2] == (2, 3)
    assert plan.smallest == pytest.approx(planning.smallest_supported(known, 2))
    assert plan.needed == [planning.seeds_needed(points / 100, known, 2) for points in (1, 2, 3)]
    assert planning.plan(comparison, contrasts, "a", headline, "testA", "mIoU") is None
