"""Intervals and p-values against scipy, closed forms and a plain loop."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from stages.statistics import bootstrap
from stages.statistics.bootstrap import Estimates, VariantSeed, estimates, holm


def of(runs: list, numerator: np.ndarray, denominator: np.ndarray | None = None, **how) -> Estimates:
    """One metric; without a denominator a mean over images."""
    denominator = np.ones((1, numerator.shape[1])) if denominator is None else denominator
    return estimates(runs, {"metric": (numerator, denominator)}, empty=0.0, **how)["metric"]


def runs_of(variants: list[str], seeds: int) -> list[VariantSeed]:
    return [VariantSeed(variant, seed) for variant in variants for seed in range(seeds)]


def test_one_run_is_the_bootstrap_of_scipy():
    values = np.random.default_rng(0).beta(2, 1, 120)
    found = of([VariantSeed("baseline", 0)], values[None]).mean("baseline")
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.04 * width)


def test_a_ratio_of_sums_is_resampled_as_such():
    random = np.random.default_rng(1)
    union = random.integers(1, 5000, 80)
    intersection = (union * random.random(80)).astype(int)
    found = of([VariantSeed("baseline", 0)], intersection[None], union[None]).mean("baseline")

    def overall(intersection, union, axis):
        return intersection.sum(axis) / union.sum(axis)

    expected = stats.bootstrap(
        (intersection, union), overall, paired=True, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert found.value == pytest.approx(intersection.sum() / union.sum(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.04 * (found.high - found.low))


def test_resamples_agree_with_a_loop_over_drawn_images():
    random = np.random.default_rng(2)
    numerator, denominator = random.random((3, 7)), random.random((3, 7)) + 0.1
    found = of(runs_of(["a"], 3), numerator, denominator, resamples=5).resampled
    for resample, weights in enumerate(np.vstack(list(bootstrap._weights(7, 5)))):
        drawn = [image for image, times in enumerate(weights) for _ in range(int(times))]
        assert len(drawn) == 7
        for run in range(3):
            ratio = math.fsum(numerator[run, drawn]) / math.fsum(denominator[run, drawn])
            assert found[run, resample] == pytest.approx(ratio, abs=1e-12)


def test_weights_are_drawn_the_same_however_many_at_once(monkeypatch):
    whole = np.vstack(list(bootstrap._weights(9, 50)))
    assert (whole.sum(axis=1) == 9).all()
    assert (np.vstack(list(bootstrap._weights(9, 50))) == whole).all()


def test_where_images_agree_the_mean_has_the_moderated_interval_of_students_t():
    """Every image shows the run's own value: only seeds differ. That of both variants counts as one value more."""
    values = np.array([0.50, 0.54, 0.58, 0.61, 0.60, 0.68])
    found = of(runs_of(["a", "b"], 3), np.repeat(values[:, None], 40, axis=1)).mean("a")
    common = (np.var(values[:3], ddof=1) + np.var(values[3:], ddof=1)) / 2
    variance = (2 * np.var(values[:3], ddof=1) + common) / 3
    low, high = stats.t.interval(0.95, 3, 0.54, math.sqrt(variance / 3))
    assert found.value == pytest.approx(0.54) and found.degrees == 3
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002 * (high - low))


def test_the_variance_of_a_difference_is_moderated_by_that_of_all_variants():
    values = np.array([0.50, 0.54, 0.61, 0.65, 0.30, 0.38])
    found = of(runs_of(["a", "b", "c"], 2), np.repeat(values[:, None], 40, axis=1))
    by_seed = values.reshape(3, 2)
    residuals = by_seed - by_seed.mean(axis=1, keepdims=True) - by_seed.mean(axis=0) + by_seed.mean()
    common = 2 * (residuals**2).sum() / 2  # of a difference; two degrees of freedom
    variance = (np.var(by_seed[2] - by_seed[0], ddof=1) + common) / 2
    half = stats.t.ppf(0.975, 2) * math.sqrt(variance / 2)
    difference = found.difference("c", "a")
    assert (difference.low, difference.high) == pytest.approx((-0.18 - half, -0.18 + half), abs=0.002 * half)


def test_a_variant_that_runs_alike_by_luck_is_not_held_for_certain():
    """Three seeds that agree to a hair are no proof where the other variants' seeds differ by points."""
    luck = np.array([[0.0, 0.02, -0.02], [0.02, -0.02, 0.0], [0.0101, 0.0299, -0.0099], [0.03, 0.0, -0.03]])
    found = of(runs_of(["a", "b", "c", "d"], 3), np.repeat(0.5 + luck.reshape(12, 1), 40, axis=1))
    alone = dataclasses.replace(found, common_degrees=0).difference("c", "a")
    assert alone.p < 1e-3 < 0.1 < found.difference("c", "a").p


@pytest.mark.parametrize("seeds, degrees", [(2, 2), (4, 4), (5, 4), (6, 5)])
def test_from_five_seeds_on_variances_are_those_of_the_pair_alone(seeds, degrees):
    values = 0.5 + np.random.default_rng(0).normal(0, [[0.01], [0.01], [0.04]], (3, seeds))
    found = of(runs_of(["a", "b", "c"], seeds), np.repeat(values.reshape(3 * seeds, 1), 40, axis=1))
    assert found.difference("c", "a").degrees == found.mean("c").degrees == degrees


def test_a_combination_is_the_t_test_of_its_value_in_each_seed():
    """The interaction of two factors, of variants that differ in spread."""
    random = np.random.default_rng(6)
    values = 0.5 + random.normal(0, [[0.01], [0.02], [0.05], [0.01]], (4, 5))
    found = of(runs_of(["a", "b", "c", "d"], 5), np.repeat(values.reshape(20, 1), 40, axis=1))
    by_seed = values[3] - values[2] - values[1] + values[0]
    interval = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95)
    combination = found.combination({"d": 1, "c": -1, "b": -1, "a": 1})
    assert combination.value == pytest.approx(by_seed.mean())
    assert combination[1:3] == pytest.approx(tuple(interval), abs=0.002 * (interval.high - interval.low))
    assert combination.p == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue, rel=0.05)
    assert found.combination({"a": 1, "e": -1}) is None


def test_where_images_agree_a_difference_of_two_variants_is_a_paired_t_test():
    values = np.array([0.50, 0.54, 0.55, 0.59, 0.53, 0.555, 0.58, 0.615])
    found = of(runs_of(["a", "b"], 4), np.repeat(values[:, None], 40, axis=1)).difference("b", "a")
    expected = stats.ttest_rel(values[4:], values[:4])
    interval = expected.confidence_interval(0.95)
    assert found.value == pytest.approx(np.mean(values[4:] - values[:4]))
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=0.002 * (interval.high - interval.low))
    assert found.p == pytest.approx(expected.pvalue, rel=0.05)


def test_a_seed_that_is_good_for_both_variants_is_no_doubt_about_their_difference():
    luck = np.array([0.0, 0.2])
    values = np.concatenate([0.5 + luck, 0.52 + luck])
    found = of(runs_of(["a", "b"], 2), np.repeat(values[:, None], 40, axis=1))
    assert found.difference("b", "a")[:3] == pytest.approx((0.02, 0.02, 0.02), abs=1e-9)
    assert found.mean("a").high - found.mean("a").low > 0.2


def test_one_seed_has_the_images_interval_alone():
    random = np.random.default_rng(3)
    values = random.random((2, 60))
    found = of(runs_of(["a", "b"], 1), values).difference("b", "a")
    expected = stats.bootstrap((values[1] - values[0],), np.mean, n_resamples=20_000, method="percentile", rng=1)
    interval = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=0.04 * (interval.high - interval.low))
    assert math.isnan(found.p)


@pytest.mark.parametrize("values", [[0.95, 0.85, 0.2, 0.6], [0.1, 0.9, 0.9, 0.1], [0.0, 1.0, 1.0, 0.0]])
def test_intervals_end_where_shares_do(values):
    """With two seeds of two variants, Student's t alone would go far beyond."""
    found = of(runs_of(["a", "b"], 2), np.repeat(np.array(values)[:, None], 40, axis=1))
    mean, difference = found.mean("a"), found.difference("b", "a")
    assert 0 <= mean.low <= mean.value <= mean.high <= 1
    assert -1 <= difference.low <= difference.value <= difference.high <= 1
    own, other = np.var(values[:2], ddof=1), np.var(values[2:], ddof=1)
    half = stats.t.ppf(0.975, 2) * math.sqrt((own + (own + other) / 2) / 2 / 2)
    assert (mean.low, mean.high) == pytest.approx(
        (max(0, mean.value - half), min(1, mean.value + half)), abs=0.002 * half
    )


def test_a_difference_the_other_way_round_has_the_opposite_sign():
    found = of(runs_of(["a", "b"], 3), np.random.default_rng(4).random((6, 30)))
    forth, back = found.difference("b", "a"), found.difference("a", "b")
    assert (back.value, back.low, back.high, back.p) == (-forth.value, -forth.high, -forth.low, forth.p)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="metric: sums over images must be finite"):
        of(runs_of(["a", "b"], 2), np.array([[0.5, 0.5]] * 3 + [[0.5, value]]))


def test_runs_that_are_missing_leave_the_others_comparable():
    values = np.array([0.5, 0.6, 0.7, 0.55, 0.75])
    found = of(
        [VariantSeed(*run) for run in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 2)]],
        np.repeat(values[:, None], 5, axis=1),
    )
    assert found.common_seeds("b", "a") == [0, 2]
    assert found.difference("b", "a").value == pytest.approx(0.05)
    assert found.mean("c") is None and found.difference("c", "a") is None


def test_holm_is_the_textbooks():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm(np.array([0.5, np.nan, 0.9]))
    assert np.isnan(adjusted[1]) and adjusted[[0, 2]] == pytest.approx([1.0, 1.0])
