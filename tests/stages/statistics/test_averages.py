"""Averages over splits and datasets, against closed forms and Welch's test."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.statistics import averages, bootstrap
from stages.statistics.bootstrap import VariantSeed

RUNS = [VariantSeed(variant, seed) for variant in ("a", "b") for seed in (0, 1, 2)]
ONE = np.ones((1, 60))


def split(values: np.ndarray) -> bootstrap.Estimates:
    """Of a metric that is the mean over images; values (R, N)."""
    return bootstrap.estimates(RUNS, {"m": (values, np.ones((1, values.shape[1])))}, empty=0)["m"]


def test_the_average_is_the_mean_over_splits_of_each_run():
    random = np.random.default_rng(0)
    first, second = random.random((6, 60)), random.random((6, 25))
    found = averages.over_splits([split(first), split(second)])
    expected = (first.mean(axis=1) + second.mean(axis=1)) / 2
    assert found.values == pytest.approx(expected)
    assert found.mean("b").value == pytest.approx(expected[3:].mean())
    interval = found.difference("b", "a")
    paired = expected[3:] - expected[:3]
    assert interval.value == pytest.approx(paired.mean()) and interval.degrees == 2
    assert interval.seeds_error == pytest.approx(paired.std(ddof=1) / math.sqrt(3))


def test_splits_of_the_same_size_are_resampled_independently():
    """With the same values in both, the variance of the average is half of one split's; all runs see the same."""
    values = np.tile(np.random.default_rng(1).random(60), (6, 1))
    found = averages.over_splits([split(values), split(values)])
    alone = values[0].std() / math.sqrt(60)
    assert found.mean("a").images_error == pytest.approx(alone / math.sqrt(2), rel=0.05)


def test_what_single_images_add_to_the_spread_of_seeds_is_that_of_both_splits():
    """Runs that differ by independent noise of images alone: all of their spread is expected from it."""
    random = np.random.default_rng(2)
    ratios = []
    for _ in range(200):
        found = averages.over_splits([split(random.random((6, 40))), split(random.random((6, 80)))])
        spread = bootstrap._spread(found.values[:3], found.additions[:3], np.ones((3, 1)))
        ratios.append(spread.variance / spread.noise)
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


def test_too_few_images_in_one_split_leave_a_value_alone():
    found = averages.over_splits([split(np.random.default_rng(3).random((6, 60))), split(np.ones((6, 5)))])
    interval = found.difference("b", "a")
    assert not math.isnan(interval.value) and math.isnan(interval.low) and math.isnan(interval.p)


def table(name: str, values: dict[str, np.ndarray], images_error: float = 0.0) -> pd.DataFrame:
    """As `averages.compare` has it, of differences by seed to the variant `a`."""
    rows = [
        {
            "dataset": name,
            "protocol": "original",
            "metric": "mIoU",
            "splits": "val",
            "variant": variant,
            "against": "a",
            "headline": False,
            "seeds": len(of),
            "value": of.mean(),
            "std": math.nan,
            "images_error": images_error,
            "seeds_error": of.std(ddof=1) / math.sqrt(len(of)),
            "degrees": len(of) - 1,
            "p": 0.5,
            "no_verdict": "",
        }
        for variant, of in values.items()
    ]
    return pd.DataFrame(rows)


def test_pooled_over_two_datasets_is_welchs_test():
    """The mean of two differences is 0 where one is the other's negative."""
    random = np.random.default_rng(4)
    first, second = ({name: random.normal(0.02, 0.01, 4) for name in "bc"} for _ in range(2))
    found = averages.pooled([table("x", first), table("y", second)]).set_index("variant")
    for name in "bc":
        expected = stats.ttest_ind(first[name], -second[name], equal_var=False)
        assert found.loc[name, "p"] == pytest.approx(expected.pvalue)
        low, high = expected.confidence_interval()
        assert (found.loc[name, "low"], found.loc[name, "high"]) == pytest.approx((low / 2, high / 2))
    least = found["p"].idxmin()
    assert found.loc[least, "p_holm"] == pytest.approx(2 * found.loc[least, "p"])


def test_pooled_adds_the_images_parts_and_takes_weights():
    values = {"b": np.array([0.01, 0.02, 0.03])}
    found = averages.pooled([table("x", values, 0.003), table("y", values, 0.004)], [0.25, 0.75]).iloc[0]
    assert found["value"] == pytest.approx(0.02)
    assert found["images_error"] == pytest.approx(math.hypot(0.25 * 0.003, 0.75 * 0.004))
    assert found["seeds_error"] == pytest.approx(math.hypot(0.25, 0.75) * 0.01 / math.sqrt(3))


def test_pooled_without_a_number_in_one_dataset_has_none():
    gone = table("y", {"b": np.array([0.01, 0.02])}).assign(value=math.nan, images_error=math.nan, p=math.nan)
    found = averages.pooled([table("x", {"b": np.array([0.01, 0.02])}), gone]).iloc[0]
    assert math.isnan(found["value"]) and math.isnan(found["p"]) and not found["supported"]
