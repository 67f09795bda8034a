import math

import numpy as np
import pytest
from scipy import stats

from stages.statistics import learning


@pytest.mark.parametrize(
    ("curve", "adds"),
    [
        ([0.1, 0.5, 0.6, 0.7], 0.1),
        ([0.1, 0.7, 0.6, 0.7], 0.0),
        ([0.1, 0.7, 0.6, 0.2], 0.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.4], 0.1),  # a quarter of six epochs, rounded up, is two
        ([0.4], math.nan),
    ],
)
def test_the_last_quarter_adds_to_the_best_before_it(curve: list[float], adds: float):
    assert learning.last_quarter(np.array(curve)) == pytest.approx(adds, nan_ok=True)


def test_epochs_to_a_level_lie_on_the_line_between_two_epochs():
    curve, levels = np.array([0.2, 0.4, 0.7, 0.8]), np.linspace(0.2, 0.8, 13)
    expected = np.interp(levels, curve, np.arange(1, 5))
    assert [learning.epochs_to(curve, level) for level in levels] == pytest.approx(list(expected))


def test_the_first_crossing_counts():
    assert learning.epochs_to(np.array([0.2, 0.6, 0.3, 0.6]), 0.4) == pytest.approx(1.5)


def test_a_level_below_the_first_epoch_is_reached_with_it():
    assert learning.epochs_to(np.array([0.5, 0.6]), 0.1) == 1


def test_a_level_that_is_never_reached_has_no_epoch():
    assert math.isnan(learning.epochs_to(np.array([0.5, 0.6]), 0.7))


def test_intervals_are_those_of_the_t_test():
    values = np.array([0.02, 0.05, 0.01, 0.04])
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = learning.over_seeds(values)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), wanted.low, wanted.high))


@pytest.mark.parametrize("values", [[], [0.1, math.nan]])
def test_a_missing_run_leaves_no_mean(values: list[float]):
    assert math.isnan(learning.over_seeds(np.array(values)).value)


def test_one_seed_has_a_mean_and_no_interval():
    found = learning.over_seeds(np.array([0.3]))
    assert found.value == 0.3
    assert math.isnan(found.low)
