"""A file of predictions beside variants with seeds: against sums and resamples that are worked out directly."""

import numpy as np
import pandas as pd
import pytest

from stages.runtime.params import Variant
from stages.scoring.metrics import METRICS
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import averages, bootstrap, comparison, evidence, profiles
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.scored import Scored

EXPRESSIONS = 120  # two on each image, the last 40 of them in testA
VARIANTS = {
    "baseline": Variant.model_validate({"vlba": "none", "contrastive": "none"}),
    "vlba": Variant.model_validate({"vlba": "bidirectional", "contrastive": "none"}),
}


def scored(seeds: list[int], others: list[str], images: int = EXPRESSIONS // 2) -> Scored:
    """Random scores, the same for a run in every call."""
    runs = [VariantSeed(name, seed) for name in VARIANTS for seed in seeds]
    runs += [VariantSeed(name, 0) for name in others]
    union, intersection = [], []
    for name, seed in runs:
        random = np.random.default_rng([len(name), seed])
        union.append(random.integers(10, 90, EXPRESSIONS))
        intersection.append((union[-1] * random.random(EXPRESSIONS)).astype(int))
    number = np.arange(EXPRESSIONS)
    table = pd.DataFrame({"sent_id": number, "image_id": number * images // EXPRESSIONS})
    table["split"] = np.where(number < EXPRESSIONS - 40, "val", "testA")
    return Scored(
        dataset="scenes",
        protocol=PROTOCOLS["original"],
        variants=list(VARIANTS),
        seeds=seeds,
        runs=runs,
        expressions=table,
        intersection=np.stack(intersection),
        union=np.stack(union),
        others=others,
    )


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setitem(bootstrap.estimates.__kwdefaults__ or {}, "resamples", 1000)
    monkeypatch.setattr(bootstrap.estimates, "__defaults__", (1000, *bootstrap.estimates.__defaults__[1:]))


def test_a_difference_is_to_the_mean_over_the_references_seeds_and_covers_images():
    of = scored([0, 1, 2], ["theirs"])
    found = comparison.estimates(of)["val"]["mIoU"]
    rows = of.rows("val")
    ious = of.intersection[:, rows] / of.union[:, rows]
    theirs, references = ious[-1], ious[:3].mean(axis=0)
    interval = found.difference("theirs", "baseline")
    assert interval.value == pytest.approx((theirs - references).mean())
    assert np.isnan(interval.p) and interval.degrees == 0 and np.isnan(interval.seeds_error)
    assert found.common_seeds("theirs", "baseline") == [0, 1, 2] and found.common_seeds("theirs") == [0]
    by_image = pd.Series(theirs - references).groupby(of.expressions["image_id"][rows].to_numpy()).mean().to_numpy()
    random = np.random.default_rng(7)
    drawn = by_image[random.integers(0, len(by_image), (20_000, len(by_image)))].mean(axis=1)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    other_way = found.difference("baseline", "theirs")
    assert (other_way.value, other_way.low) == (-interval.value, -interval.high)


def test_the_mean_of_a_file_has_no_spread_between_the_seeds_of_others():
    alone = comparison.estimates(scored([0], ["theirs"]))["val"]["oIoU"].mean("theirs")
    beside = comparison.estimates(scored([0, 1], ["theirs"]))["val"]["oIoU"].mean("theirs")
    assert alone == pytest.approx(beside, nan_ok=True) and beside.degrees == 0


@pytest.mark.parametrize("seeds", [[0], [0, 1], [1, 2, 3]])
def test_a_file_changes_nothing_of_the_variants(seeds):
    """Neither their numbers, nor their adjusted p-values and verdicts."""
    tables = {}
    for others in ([], ["theirs"]):
        of = scored(seeds, others)
        found = comparison.estimates(of)
        compared, contrasts = comparison.compare(of, found, "baseline", "vlba", VARIANTS, 0.01)
        tables[len(others)] = (
            compared[compared["variant"] != "theirs"],
            contrasts,
            profiles.profiles(of).query("variant != 'theirs'"),
            averages.compare(of, found, "baseline", "vlba", contrasts).query("variant != 'theirs'"),
        )
    for before, after in zip(tables[0], tables[1], strict=True):
        pd.testing.assert_frame_equal(before.reset_index(drop=True), after.reset_index(drop=True), rtol=1e-9)


def test_its_rows_say_that_there_is_no_verdict():
    of = scored([0, 1, 2], ["theirs"])
    found = comparison.estimates(of)
    compared, contrasts = comparison.compare(of, found, "baseline", "vlba", VARIANTS, 0.01)
    own = compared[compared["variant"] == "theirs"]
    assert len(own) == 2 * len(METRICS) and set(own["seeds"]) == {1} and set(own["missing"]) == {""}
    assert set(own["shared_seeds"]) == {3} and own["std"].isna().all()
    assert own[["p", "p_holm", "p_equivalent"]].isna().all(axis=None) and not own["supported"].any()
    assert set(own["verdict"]) == {""} and set(own["no_verdict"]) == {evidence.ONE_FILE}
    assert not contrasts[["variant", "against"]].isin(["theirs"]).any(axis=None)
    rows = of.rows("val")
    ious = of.intersection[:, rows] / of.union[:, rows]
    better = np.mean([(np.sign(ious[-1] - ious[seed]) + 1) / 2 for seed in range(3)])
    assert own[(own["split"] == "val")]["improvement"].iloc[0] == pytest.approx(better)
    over = averages.compare(of, found, "baseline", "vlba", contrasts)
    pair = over[(over["variant"] == "theirs") & (over["against"] == "baseline")]
    assert set(pair["no_verdict"]) == {evidence.ONE_FILE} and pair["p"].isna().all() and pair["low"].notna().all()


def test_too_few_images_are_the_reason_too():
    of = scored([0, 1, 2], ["theirs"], images=12)
    compared, _ = comparison.compare(of, comparison.estimates(of), "baseline", "vlba", VARIANTS)
    own = compared[(compared["variant"] == "theirs") & (compared["split"] == "val")]
    assert set(own["no_verdict"]) == {"one file of predictions, and fewer than 20 images (here 8)"}
    assert own["low"].isna().all()
