"""A profile at X is Pr@X, with the same interval."""

import numpy as np
import pandas as pd
import pytest

from stages.scoring.protocols import PROTOCOLS
from stages.statistics import comparison, profiles
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.scored import Scored

RUNS = [VariantSeed("a", 0), VariantSeed("a", 1), VariantSeed("b", 0)]


@pytest.fixture(params=["original", "cris"])
def scored(request) -> Scored:
    random, size = np.random.default_rng(0), 90
    union = random.integers(10, 20, (3, size))
    expressions = pd.DataFrame({"sent_id": range(size), "image_id": np.arange(size) // 3, "split": "val"})
    intersection = (union * random.choice([0, 0.5, 0.8, 1], (3, size))).astype(int)
    return Scored("d", PROTOCOLS[request.param], ["a", "b", "gone"], [0, 1], RUNS, expressions, intersection, union)


def test_a_profile_is_the_share_of_expressions_that_pass(scored):
    found = profiles.profiles(scored).set_index(["variant", "threshold"])
    assert set(found.index.get_level_values("variant")) == {"a", "b"}
    ious = scored.intersection / scored.union
    for threshold in (0.0, 0.25, 0.5, 0.8):
        passes = ious > threshold if scored.protocol.strict else ious >= threshold
        assert found.loc[("a", threshold), "share"] == pytest.approx(passes[:2].mean())
        assert found.loc[("b", threshold), "share"] == pytest.approx(passes[2].mean())
    assert found["share"].groupby("variant").is_monotonic_decreasing.all()


def test_at_the_thresholds_of_precision_it_is_precision_with_its_interval(scored):
    found = profiles.profiles(scored).set_index(["variant", "threshold"])
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        same = comparison.estimates(scored)["val"][f"Pr@{threshold}"].mean("a")
        assert tuple(found.loc[("a", threshold), ["share", "low", "high"]]) == same[:3]
