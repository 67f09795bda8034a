"""Alignment: means by plain loops, intervals against scipy, Student's t and a loop over drawn images."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.statistics import alignment
from stages.statistics.evidence import FEWEST_IMAGES

OTHERS = [measure for measure in alignment.MEASURES if measure != "ap"]
COLUMNS = [*OTHERS, *alignment.LOGITS.values(), *alignment.BASES.values()]


def table(values: dict[tuple[str, int], np.ndarray], images: np.ndarray, split: str = "val") -> pd.DataFrame:
    """Runs whose expressions have these overall average precisions, and no other value; images (E,) of expressions."""
    parts = [
        pd.DataFrame(
            {
                "variant": variant,
                "seed": seed,
                "sent_id": np.arange(len(images)),
                "image_id": images,
                "split": split,
                "ap": own,
                **dict.fromkeys(COLUMNS, np.nan),
            }
        )
        for (variant, seed), own in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def of(rows: pd.DataFrame, variant: str = "a", measure: str = "ap") -> pd.Series:
    return alignment.summarise(rows).set_index(["variant", "split", "measure"]).loc[(variant, "val", measure)]


def ratios(rows: pd.DataFrame, drawn: np.ndarray) -> np.ndarray:
    """Mean over the expressions of drawn images (B, N), one image after the other, of every run: (R, B)."""
    found = []
    for _, run in rows.groupby(["variant", "seed"], sort=False):
        sums, counts = {}, {}
        for image, value in zip(run["image_id"].tolist(), run["ap"].tolist(), strict=True):
            if not math.isnan(value):
                sums[image], counts[image] = sums.get(image, 0.0) + value, counts.get(image, 0) + 1
        found.append([sum(sums[i] for i in draw) / sum(counts[i] for i in draw) for draw in drawn.tolist()])
    return np.array(found)


def test_numbers_agree_with_plain_loops():
    random = np.random.default_rng(0)
    images = np.sort(np.arange(60) % 25)
    rows = table({(variant, seed): random.random(60) for variant in "ab" for seed in (0, 1)}, images)
    rows[COLUMNS] = random.random((len(rows), len(COLUMNS)))
    rows.loc[rows["sent_id"] % 7 == 0, "ap_distractors"] = np.nan
    found = alignment.summarise(rows)
    assert len(found) == 2 * len(alignment.MEASURES)
    for row in found.itertuples():
        own = rows[(rows["variant"] == row.variant) & rows[row.measure].notna()].to_dict("records")
        means = [
            math.fsum(record[column] for record in own) / len(own)
            for column in (row.measure, alignment.LOGITS[row.measure], alignment.BASES[row.measure])
        ]
        assert [row.mean, row.logits, row.base] == pytest.approx(means)
        assert row.expressions == len({record["sent_id"] for record in own})
        assert row.images == len({record["image_id"] for record in own})
        assert 0 <= row.low < row.mean < row.high <= 1


def test_one_run_with_one_expression_an_image_has_the_interval_of_scipy():
    values = np.random.default_rng(1).beta(2, 3, 80)
    found = of(table({("a", 0): values}, np.arange(80)))
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert found["mean"] == pytest.approx(values.mean())
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected), abs=0.04 * (expected.high - expected.low))
    half = 1.96 * values.std(ddof=1) / np.sqrt(80)
    assert (found["low"], found["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_expressions_of_an_image_stay_together():
    """Against images drawn one by one, and against the same values where each expression has an image of its own."""
    random = np.random.default_rng(2)
    sizes = random.integers(1, 9, 60)
    images = np.repeat(np.arange(60), sizes)
    values = 0.5 + 0.1 * np.repeat(random.normal(size=60), sizes) + 0.02 * random.normal(size=len(images))
    rows = table({("a", 0): values}, images)
    found, apart = of(rows), of(table({("a", 0): values}, np.arange(len(images))))
    (means,) = ratios(rows, random.integers(0, 60, (4000, 60)))
    width = found["high"] - found["low"]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.06 * width)
    assert width > 1.5 * (apart["high"] - apart["low"])


def test_where_images_agree_the_interval_is_students_over_seeds():
    values = {("a", 0): 0.30, ("a", 1): 0.34, ("a", 2): 0.38, ("b", 0): 0.61, ("b", 1): 0.60, ("b", 2): 0.68}
    found = of(table({run: np.full(40, value) for run, value in values.items()}, np.arange(40) // 2))
    own, other = np.var([0.30, 0.34, 0.38], ddof=1), np.var([0.61, 0.60, 0.68], ddof=1)
    low, high = stats.t.interval(0.95, 3, 0.34, math.sqrt((2 * own + (own + other) / 2) / 3 / 3))
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.001 * (high - low))


def test_images_and_seeds_together_by_the_formulas_of_bootstrap():
    """Written out again in loops, with images and errors of seeds drawn anew."""
    random = np.random.default_rng(3)
    sizes = random.integers(1, 6, 50)
    images = np.repeat(np.arange(50), sizes)
    of_images = np.repeat(random.normal(0, 0.1, 50), sizes)
    values = {
        (variant, seed): 0.5 + of_images + random.normal(0, 0.03) + random.normal(0, 0.05, len(images))
        for variant in "ab"
        for seed in range(3)
    }
    rows = table(values, images)
    found = of(rows)

    runs = ratios(rows, np.arange(50)[None])[:, 0].reshape(2, 3)
    additions = np.empty((2, 3, 50))  # what each image adds to a run's mean, over the mean number of expressions
    for place, own in enumerate(values.values()):
        run = runs.flat[place]
        additions.reshape(6, 50)[place] = [(own[images == i] - run).sum() / (len(images) / 50) for i in range(50)]
    variances = runs.var(axis=1, ddof=1)
    noises = np.square(additions - additions.mean(axis=1, keepdims=True)).sum(axis=(1, 2)) / (2 * 49 * 50)
    variance, noise = ((2 * each[0] + each.mean()) / 3 for each in (variances, noises))
    runs = runs[0]
    means = ratios(rows[rows["variant"] == "a"], random.integers(0, 50, (6000, 50))).mean(axis=0)
    own_part = max(0.0, 1 - noise / 3 / means.var())
    errors = stats.t.rvs(3, size=6000, random_state=random) * math.sqrt(variance / 3)
    resampled = runs.mean() + math.sqrt(own_part) * (means - runs.mean()) + errors
    width = found["high"] - found["low"]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.06 * width)


def test_an_undefined_value_does_not_count():
    """As if its expression were not there, for the interval too; an image without any value is none."""
    random = np.random.default_rng(4)
    images = np.arange(60) // 3
    values = {("a", seed): random.random(60) for seed in (0, 1)}
    undefined = (np.arange(60) % 4 == 0) | (images == 5)
    rows = table({run: np.where(undefined, np.nan, own) for run, own in values.items()}, images)
    left = table({run: own[~undefined] for run, own in values.items()}, images[~undefined])
    found, expected = of(rows), of(left)
    assert (found["expressions"], found["images"]) == ((~undefined).sum(), 19)
    assert found.drop("logits").tolist() == pytest.approx(expected.drop("logits").tolist(), nan_ok=True)


def test_what_is_nowhere_defined_has_no_number():
    found = of(table({("a", 0): np.full(30, 0.5)}, np.arange(30)), measure="ap_distractors")
    assert found["expressions"] == found["images"] == 0
    assert found[["mean", "low", "high", "logits", "base"]].isna().all()


@pytest.mark.parametrize("images", [FEWEST_IMAGES - 1, FEWEST_IMAGES])
def test_few_images_have_a_mean_and_no_interval(images):
    values = np.random.default_rng(5).random(4 * images)
    found = of(table({("a", 0): values}, np.arange(4 * images) % images))
    assert found["mean"] == pytest.approx(values.mean())
    assert math.isnan(found["low"]) == math.isnan(found["high"]) == (images < FEWEST_IMAGES)


def test_an_interval_ends_where_average_precision_does():
    values = {("a", 0): np.full(20, 0.99), ("a", 1): np.full(20, 0.9), ("b", 0): np.full(20, 0.01)}
    rows = table(values, np.arange(20))
    assert (of(rows)["high"], of(rows, "b")["low"]) == (1, 0)
