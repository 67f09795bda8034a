"""The prepared dataset: what is written is what is read."""

import json

import numpy as np
import pandas as pd
import pytest

from stages.data import prepared


@pytest.fixture
def masks() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(generator.random((5, 7)) < share).astype(np.uint8) for share in (0.3, 0.9)]


@pytest.fixture
def tables(masks) -> tuple[pd.DataFrame, pd.DataFrame]:
    expressions = pd.DataFrame(
        {
            "text": ["naïve red cup", "left", "right"],
            "split": ["testA", "train", "val"],
            "image_id": [3, 1, 2],
            "ann_id": [20, 10, 10],
            "ref_id": [2, 1, 1],
            "sent_id": [5, 3, 4],
        }
    )
    instances = pd.DataFrame(
        {
            "mask": [prepared.encode_mask(mask) for mask in masks],
            "category": ["cup", "dog"],
            "height": 5,
            "width": 7,
            "image": ["images/b.jpg", "images/a.jpg"],
            "image_id": [3, 1],
            "ann_id": [20, 10],
        }
    )
    return expressions, instances


def test_written_tables_are_read_in_order(tmp_path, tables, masks):
    prepared.write(tmp_path / "cups", *tables, {"name": "cups"})
    dataset = prepared.read(tmp_path / "cups")

    assert list(dataset.expressions.columns) == prepared.EXPRESSION_COLUMNS
    assert list(dataset.expressions["sent_id"]) == [3, 4, 5]
    assert dataset.expressions["text"].iloc[2] == "naïve red cup"
    assert list(dataset.instances.index) == [10, 20]
    assert dataset.summary == {"name": "cups"}
    assert dataset.evaluation_splits == ["val", "testA"]
    assert list(dataset.split("val")["text"]) == ["right"]
    for ann_id, mask in zip([20, 10], masks, strict=True):
        row = dataset.instances.loc[ann_id]
        np.testing.assert_array_equal(prepared.decode_mask(row["mask"], row["height"], row["width"]), mask)

    assert list(dataset.boxes.columns) == prepared.BOX_COLUMNS
    for row, mask in zip(dataset.boxes.itertuples(), [masks[1], masks[0]], strict=True):
        ys, xs = np.nonzero(mask)
        assert (row.x, row.y) == (xs.min(), ys.min())
        assert (row.width, row.height) == (np.ptp(xs) + 1, np.ptp(ys) + 1)


def test_written_boxes_are_read_in_the_order_of_their_images(tmp_path, tables):
    rows = [(20, 3, "cup", 0.5, 1, 2, 3), (30, 1, "dog", 0, 0, 1, 1), (10, 1, "dog", 1, 1, 5.25, 2)]
    boxes = pd.DataFrame(rows, columns=prepared.BOX_COLUMNS)
    prepared.write(tmp_path, *tables, {"name": "cups"}, boxes)
    found = prepared.read(tmp_path).boxes
    assert found["ann_id"].tolist() == [10, 30, 20]
    assert found.loc[0].tolist() == [10, 1, "dog", 1, 1, 5.25, 2]


def test_distractors_are_the_other_things_of_the_same_category_on_the_image(tables):
    generator = np.random.default_rng(0)
    count = 200
    boxes = pd.DataFrame(generator.random((count, 7)), columns=prepared.BOX_COLUMNS).assign(
        ann_id=generator.permutation(10 * count)[:count],
        image_id=generator.integers(0, 30, count),
        category=generator.choice(["cup", "dog", "tree"], count),
    )
    dataset = prepared.PreparedDataset(*tables, {"name": "cups"}, boxes)
    asked = boxes["ann_id"].iloc[::3].tolist()
    expected = [
        (one["ann_id"], *(other[column] for column in prepared.BOX_COLUMNS))
        for one in sorted(boxes.to_dict("records"), key=lambda row: row["ann_id"])
        if one["ann_id"] in asked
        for other in sorted(boxes.to_dict("records"), key=lambda row: row["ann_id"])
        if (one["image_id"], one["category"]) == (other["image_id"], other["category"])
        if one["ann_id"] != other["ann_id"]
    ]
    found = dataset.distractors(asked + asked[:3])
    assert list(found.columns) == ["target", *prepared.BOX_COLUMNS]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert 0 < found["target"].nunique() < len(asked)
    assert dataset.distractors([]).empty


def test_distractors_of_what_has_no_box_are_no_empty_answer(tables):
    dataset = prepared.PreparedDataset(*tables, {"name": "cups"})
    with pytest.raises(ValueError, match="'cups' has no boxes"):
        dataset.distractors([10])
    boxes = pd.DataFrame([(20, 3, "cup", 0, 1, 2, 3)], columns=prepared.BOX_COLUMNS)
    with pytest.raises(ValueError, match="no box of annotation 10"):
        prepared.PreparedDataset(*tables, {"name": "cups"}, boxes).distractors([20, 10])


def test_the_same_tables_give_the_same_bytes(tmp_path, tables):
    expressions, instances = tables
    prepared.write(tmp_path / "one", expressions, instances, {"name": "cups"})
    prepared.write(tmp_path / "two", expressions.iloc[::-1], instances.iloc[::-1], {"name": "cups"})
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_missing_file_is_named_with_the_way_out(tmp_path, tables):
    with pytest.raises(FileNotFoundError, match=r"expressions\.parquet, .* Make it with: dvc repro prepare@cups"):
        prepared.read(tmp_path / "cups")
    prepared.write(tmp_path / "cups", *tables, {"name": "cups"})
    (tmp_path / "cups" / "instances.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances\.parquet missing"):
        prepared.read(tmp_path / "cups")
    prepared.write(tmp_path / "cups", *tables, {"name": "cups"})
    (tmp_path / "cups" / "boxes.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"boxes\.parquet missing"):
        prepared.read(tmp_path / "cups")


def test_a_split_without_expressions_is_named(tmp_path, tables):
    prepared.write(tmp_path, *tables, json.loads('{"name": "cups"}'))
    with pytest.raises(
        prepared.MissingSplitError, match=r"'cups' has no expression in split 'testB'; .*'testA', 'train', 'val'"
    ):
        prepared.read(tmp_path).split("testB")


def test_splits_of_a_mix_go_set_by_set(tables):
    splits = ["refcocog_test", "train", "refcoco+_testB", "refcoco+_val", "refcoco+_testA", "refcocog_val"]
    expressions = pd.concat([tables[0].iloc[:1]] * len(splits)).assign(split=splits, sent_id=range(len(splits)))
    mix = prepared.PreparedDataset(expressions, tables[1].set_index("ann_id"), {"name": "mix"})
    assert mix.evaluation_splits == [
        "refcocog_val",
        "refcocog_test",
        "refcoco+_val",
        "refcoco+_testA",
        "refcoco+_testB",
    ]
    assert list(mix.validation["sent_id"]) == [3, 5]
    with pytest.raises(prepared.MissingSplitError, match="no expression in split 'val'"):
        _ = prepared.PreparedDataset(expressions[1:3], tables[1], {"name": "mix"}).validation


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_masks_of_any_type_and_layout_survive(dtype):
    mask = np.random.default_rng(1).random((11, 6)) < 0.5
    for layout in (np.ascontiguousarray, np.asfortranarray):
        decoded = prepared.decode_mask(prepared.encode_mask(layout(mask.astype(dtype))), 11, 6)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, mask)
