"""Further datasets as splits: ids stay apart, and scores of a run are those of all its files."""

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_mask

from stages.data import prepared
from stages.runtime import layout
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import scored, scored_on, slices
from stages.statistics.bootstrap import VariantSeed
from stages.statistics.scored import ComparisonError

ORIGINAL = PROTOCOLS["original"]


def write_dataset(name: str, splits: list[str], sides: list[int], summary: dict) -> None:
    """An image of 10 x 10 pixels for each split, with a square that is referred to and one that is not."""
    number = np.arange(len(splits))
    expressions = pd.DataFrame({"sent_id": number, "ref_id": number, "ann_id": number, "image_id": number})
    expressions["split"], expressions["text"] = splits, [f"{name} {place}" for place in number]
    masks = [np.zeros((10, 10), np.uint8) for _ in sides]
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = 1
    instances = expressions[["ann_id", "image_id"]].assign(image="none.png", width=10, height=10, category="square")
    instances["mask"] = [prepared.encode_mask(mask) for mask in masks]
    boxes = prepared.boxes_of(instances)
    others = boxes.assign(ann_id=boxes["ann_id"] + 100, x=9.0)
    prepared.write(layout.prepared(name), expressions, instances, summary, pd.concat([boxes, others]))


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = {"warnings": ["few images"], "notes": ["own"], "source": {"kind": "scenes"}}
    write_dataset("d", ["train", "val", "testA"], [2, 3, 4], counts)
    of_more = {"warnings": ["images of val: 1, fewer than 20"], "notes": ["drawn"], "fingerprint": "f00d"}
    write_dataset("more_d", ["train", "val", "val"], [5, 6, 7], of_more)
    write_dataset("last", ["test"], [8], {"source": {"kind": "coco"}})


def test_every_expression_of_a_further_dataset_is_in_one_split():
    own, joint = prepared.read(layout.prepared("d")), scored_on.read("d", ["more_d", "last"])
    assert scored_on.read("d", []).summary == own.summary
    assert joint.evaluation_splits == ["val", "testA", "more_d", "last"]
    assert [len(joint.split(split)) for split in joint.evaluation_splits] == [1, 1, 3, 1]
    for column in ("sent_id", "ref_id"):
        assert joint.expressions[column].is_unique
    assert joint.instances.index.is_unique and joint.boxes["ann_id"].is_unique
    areas = joint.expressions["ann_id"].map(prepared.area_shares(joint.instances))
    texts = dict(zip(joint.expressions["text"], (100 * areas).round(), strict=True))
    assert texts == {"d 0": 4, "d 1": 9, "d 2": 16, "more_d 0": 25, "more_d 1": 36, "more_d 2": 49, "last 0": 64}
    pd.testing.assert_frame_equal(joint.expressions.head(3), own.expressions)


def test_distractors_are_those_of_the_same_dataset():
    joint = scored_on.read("d", ["more_d", "last"])
    found = joint.distractors(joint.expressions["ann_id"])
    assert (found["ann_id"] - found["target"] == 100).all() and len(found) == 7
    labels = slices.labels(joint)
    assert set(labels["sent_id"]) == set(joint.expressions.query("split != 'train'")["sent_id"])


def test_the_summary_says_what_it_is_made_of():
    summary = scored_on.read("d", ["more_d", "last"]).summary
    assert summary["warnings"] == ["few images"] and summary["notes"] == ["own", "more_d: drawn"]
    assert summary["further"]["more_d"] == {"source": {}, "fingerprint": "f00d"}


def test_a_further_dataset_that_is_not_prepared():
    with pytest.raises(FileNotFoundError, match=r"data/gone holds no prepared dataset.*prepare_on@gone"):
        scored_on.read("d", ["gone"])


def write_scores(seed: int, on: str | None, counts: list[int], split: str, given: list[int] | None = None) -> None:
    number = np.arange(len(counts))
    table = pd.DataFrame({"sent_id": number, "image_id": number, "split": split, "protocol": "original"})
    table["intersection"], table["union"] = counts, 100
    for path, rows in (
        (layout.scores, table),
        (layout.controls, table.assign(intersection=table["intersection"] - 1, given=given or np.roll(number, 1))),
    ):
        path("d", "v", seed, on).parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(path("d", "v", seed, on))


def read() -> scored.Scored:
    return scored.read("d", ORIGINAL, ["v"], [0, 1], "v", further=["more_d", "last"])


def test_scores_on_further_datasets_follow_those_of_the_run():
    for seed in (0, 1):
        write_scores(seed, None, [10 + seed, 20 + seed], "val")
        write_scores(seed, "more_d", [30 + seed, 40 + seed, 50 + seed], "more_d")
        write_scores(seed, "last", [60 + seed, 70 + seed], "last")
    found = read()
    assert found.splits == ["val", "more_d", "last"] and found.runs == [VariantSeed("v", 0), VariantSeed("v", 1)]
    assert found.intersection.tolist() == [[10, 20, 30, 40, 50, 60, 70], [11, 21, 31, 41, 51, 61, 71]]
    joint = scored_on.read("d", ["more_d", "last"])
    assert set(found.expressions.query("split == 'more_d'")["sent_id"]) == set(joint.split("more_d")["sent_id"])
    intersection, union, given = scored.read_controls(found)
    np.testing.assert_array_equal(intersection, found.intersection - 1)
    assert (union == 100).all() and given.all()


def test_a_run_that_lacks_a_further_dataset_is_left_out(caplog):
    for seed in (0, 1):
        write_scores(seed, None, [10, 20], "val")
        write_scores(seed, "more_d", [30, 40], "more_d")
    write_scores(1, "last", [60, 70], "last")
    assert read().runs == [VariantSeed("v", 1)]
    assert "results/scores/d/v/0/last.parquet is missing" in caplog.text
    assert "dvc repro evaluate_on@last-d-v-0" in caplog.text


def test_controls_of_a_split_of_one_image_are_absent():
    for on in (None, "more_d", "last"):
        write_scores(0, on, [10, 20], on or "val")
    path = layout.controls("d", "v", 0, "last")
    pd.read_parquet(path).head(0).to_parquet(path)
    intersection, _, given = scored.read_controls(read())
    assert given.tolist() == [True] * 4 + [False] * 2 and intersection[0, 4:].tolist() == [0, 0]


def test_controls_that_were_given_other_expressions_are_refused():
    for seed in (0, 1):
        for on in (None, "more_d", "last"):
            write_scores(seed, on, [10, 20, 30], on or "val", given=[1, 2, 0] if seed and not on else [2, 0, 1])
    with pytest.raises(ComparisonError, match=r"run v, seed 1 was not given the expressions of run v, seed 0"):
        scored.read_controls(read())
    write_scores(1, None, [10, 20, 30], "val", given=[2, 0, 1])
    path = layout.controls("d", "v", 1, "last")
    pd.read_parquet(path).head(2).to_parquet(path)
    with pytest.raises(ComparisonError, match=r"run v, seed 1 was not given the expressions of run v, seed 0"):
        scored.read_controls(read())
    path.unlink()
    with pytest.raises(ComparisonError, match=r"v/1/last.parquet is missing.*evaluate_on@last-d-v-1"):
        scored.read_controls(read())


def test_masks_are_what_they_were():
    joint = scored_on.read("d", ["more_d"])
    row = joint.instances.loc[joint.split("more_d")["ann_id"].iloc[2]]
    assert coco_mask.area({"size": [10, 10], "counts": row["mask"].encode()}) == 49
