"""What language contributes is the paired difference of two scores; a model that ignores words has none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import bootstrap, comparison, language
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.scored import Scored

PROTOCOL = PROTOCOLS["original"]
RUNS = [VariantSeed(variant, seed) for variant in ("deaf", "hears") for seed in range(3)]
IMAGES, EACH = 30, 3


@pytest.fixture
def scored() -> Scored:
    """Three seeds of two variants on two splits; `listed` has no scores."""
    random, size = np.random.default_rng(0), 2 * IMAGES * EACH
    expressions = pd.DataFrame({"sent_id": range(size), "image_id": np.arange(size) // EACH})
    expressions["split"] = np.repeat(["val", "more"], IMAGES * EACH)
    union = random.integers(100, 200, (6, size))
    intersection = (union * random.random((6, size))).astype(int)
    return Scored("d", PROTOCOL, ["deaf", "hears", "listed"], [0, 1, 2], RUNS, expressions, intersection, union)


@pytest.fixture
def controls(scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`deaf` scores the same; `hears` keeps a third of every intersection."""
    intersection = scored.intersection.copy()
    intersection[3:] //= 3
    return intersection, scored.union, np.ones(len(scored.expressions), bool)


@pytest.fixture
def masks(scored) -> dict[str, pd.DataFrame]:
    size = len(scored.expressions)
    counts = np.random.default_rng(1).integers(1, 50, size)
    return {"whole image": pd.DataFrame({"intersection": counts, "union": np.full(size, 64)})}


def value(intersection: np.ndarray, union: np.ndarray, chosen: np.ndarray, metric: str) -> float:
    one = pd.DataFrame({"intersection": intersection[chosen], "union": union[chosen]})
    return summarise(one, PROTOCOL)[metric]


def rows_of(table: pd.DataFrame, metric: str = "mIoU") -> pd.DataFrame:
    return table[table["metric"] == metric].set_index(["system", "split"])


def test_means_are_those_of_the_scores(scored, controls, masks):
    table = language.compare(scored, controls, masks)
    assert list(table.columns) == language.COLUMNS
    assert table["system"].drop_duplicates().tolist() == ["whole image", "deaf", "hears", "listed"]
    for metric in PROTOCOL.headline:
        found = rows_of(table, metric)
        for split in ("val", "more"):
            chosen = scored.rows(split)
            whole = summarise(masks["whole image"][chosen], PROTOCOL)[metric]
            assert found.loc[("whole image", split), "mean"] == pytest.approx(whole)
            own, other = (
                np.array([value(*pair, chosen, metric) for pair in zip(counts, scored.union, strict=True)])
                for counts in (scored.intersection, controls[0])
            )
            for name, runs in (("deaf", slice(0, 3)), ("hears", slice(3, 6))):
                assert found.loc[(name, split), "mean"] == pytest.approx(other[runs].mean())
                assert found.loc[(name, split), "difference"] == pytest.approx((own - other)[runs].mean())
    assert rows_of(table).loc["whole image", "difference"].isna().all()
    assert rows_of(table).loc["listed", ["mean", "difference"]].isna().all(axis=None)
    assert rows_of(table)["seeds"].xs("val", level="split").tolist() == [0, 3, 3, 0]


def test_a_model_that_ignores_words_has_no_difference(scored, controls, masks):
    found = rows_of(language.compare(scored, controls, masks))
    ends = ["difference", "difference_low", "difference_high"]
    np.testing.assert_allclose(found.loc["deaf", ends].to_numpy(float), 0, atol=1e-12)
    assert (found.loc["hears", "difference_low"] > 0).all()


def test_the_interval_is_that_of_every_other_difference(scored, controls, masks):
    """The same two sets of scores as two variants of a comparison."""
    pair = replace(
        scored,
        variants=["hears", "other"],
        runs=[*RUNS[3:], *(VariantSeed("other", seed) for seed in range(3))],
        intersection=np.vstack([scored.intersection[3:], controls[0][3:]]),
        union=np.vstack([scored.union[3:]] * 2),
    )
    wanted = comparison.estimates(pair)["val"]["mIoU"].difference("hears", "other")
    row = rows_of(language.compare(scored, controls, masks)).loc[("hears", "val")]
    found = row[["difference", "difference_low", "difference_high"]].to_numpy(float)
    np.testing.assert_allclose(found, wanted[:3], atol=1e-12)


def test_a_split_without_other_images_has_masks_alone(scored, controls, masks):
    intersection, union, given = controls
    given = given & scored.rows("val")
    found = rows_of(language.compare(scored, (intersection, union, given), masks))
    more = found.xs("more", level="split")
    assert more.loc[["deaf", "hears"], ["mean", "difference"]].isna().all(axis=None)
    assert more.loc["whole image", "mean"] > 0 and found.loc[("hears", "val"), "difference"] > 0


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
