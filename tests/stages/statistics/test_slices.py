"""Slices of expressions: against rows counted one by one, on a made-up dataset, rendered scenes and photographs."""

import cProfile
import math

import numpy as np
import pandas as pd
import pytest

from stages.data import prepared
from stages.data.prepared import BOX_COLUMNS, EXPRESSION_COLUMNS, INSTANCE_COLUMNS, PreparedDataset, encode_mask
from stages.prepare import sources
from stages.runtime.params import ImageCounts, MixSource, ReferSource, ScenesSource
from stages.statistics.slices import COLUMNS, FAMILIES, labels
from stages.statistics.words import kinds

WORDS = "red left man behind the cup next to on big woman of second with".split()  # noqa: SIM905


def made_up(images: int, seed: int = 0, splits: tuple[str, ...] = ("train", "val", "testA")) -> PreparedDataset:
    """Images of 1 to 7 things of 3 categories, some of them referred to, by 1 to 12 words."""
    generator = np.random.default_rng(seed)
    expressions, instances, boxes = [], [], []
    for image_id in range(images):
        width, height = (int(side) for side in generator.integers(20, 60, 2))
        split = splits[image_id % len(splits)]
        for ann_id in range(10 * image_id, 10 * image_id + int(generator.integers(1, 8))):
            category = str(generator.choice(["cup", "dog", "tree"]))
            mask = np.zeros((height, width), dtype=np.uint8)
            left, top = (int(generator.integers(0, side - 4)) for side in (width, height))
            mask[top : top + int(generator.integers(1, height)), left : left + int(generator.integers(1, width))] = 1
            boxes.append((ann_id, image_id, category, left, top, *(generator.random(2) * 4)))
            if ann_id % 10 == 0 or generator.random() < 0.4:
                instances.append((ann_id, image_id, f"{image_id}.jpg", width, height, category, encode_mask(mask)))
                for _ in range(generator.integers(1, 4)):
                    text = " ".join(generator.choice(WORDS, generator.integers(1, 13)))
                    expressions.append((len(expressions), ann_id, ann_id, image_id, split, text))
    return put_together(expressions, instances, boxes)


def put_together(expressions: list, instances: list, boxes: list) -> PreparedDataset:
    return PreparedDataset(
        pd.DataFrame(expressions, columns=EXPRESSION_COLUMNS),
        pd.DataFrame(instances, columns=INSTANCE_COLUMNS).set_index("ann_id"),
        {"name": "made up"},
        pd.DataFrame(boxes, columns=BOX_COLUMNS),
    )


def by_loops(dataset: PreparedDataset) -> set[tuple[int, str, str]]:
    """Every label, one expression after another, with limits written out again."""
    found = set()
    boxes = dataset.boxes.to_dict("records")
    for row in dataset.expressions.to_dict("records"):
        if row["split"] == "train":
            continue
        count = len(row["text"].split())
        for name, low, high in [
            ("1 to 2", 1, 2), ("3", 3, 3), ("4 to 5", 4, 5), ("6 to 7", 6, 7), ("8 to 10", 8, 10),
            ("11 and more", 11, 99),
        ]:  # fmt: skip
            if low <= count <= high:
                found.add((row["sent_id"], "length", name))
        for kind in kinds(row["text"]) or ["none of these"]:
            found.add((row["sent_id"], "words", kind))

        instance = dataset.instances.loc[row["ann_id"]]
        height, width = int(instance["height"]), int(instance["width"])
        share = prepared.decode_mask(instance["mask"], height, width).mean()
        for name, low, high in [
            ("under 2%", 0, 0.02), ("2 to 5%", 0.02, 0.05), ("5 to 10%", 0.05, 0.1), ("10 to 20%", 0.1, 0.2),
            ("20% and more", 0.2, 2),
        ]:  # fmt: skip
            if low <= share < high:
                found.add((row["sent_id"], "size", name))

        (own,) = (box for box in boxes if box["ann_id"] == row["ann_id"])
        others = [
            box
            for box in boxes
            if box["image_id"] == own["image_id"] and box["category"] == own["category"] and box is not own
        ]
        found.add((row["sent_id"], "distractors", str(len(others)) if len(others) < 3 else "3 and more"))
        centers = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in [own, *others]]
        if others:
            nearest = min(math.dist(centers[0], center) for center in centers[1:]) / math.hypot(width, height)
            names = ["under 10%", "10 to 20%", "20 to 30%", "30 to 40%", "40% and more"]
            found.add((row["sent_id"], "distance", names[min(int(nearest * 10), 4)]))
    return found


def test_labels_are_those_counted_one_by_one():
    dataset = made_up(150)
    table = labels(dataset)
    assert list(table.columns) == COLUMNS == ["sent_id", "family", "slice"]
    assert not table.duplicated().any()
    assert set(table.itertuples(index=False, name=None)) == by_loops(dataset)
    counts = table.groupby(["family", "slice"], observed=True).size()
    assert set(counts.index) == {(name, part) for name, family in FAMILIES.items() for part in family.slices}


def test_rows_come_in_the_order_of_families_slices_and_ids():
    table = labels(made_up(60))
    order = {
        (name, part): (f, s)
        for f, (name, family) in enumerate(FAMILIES.items())
        for s, part in enumerate(family.slices)
    }
    places = [(*order[family, part], sent_id) for sent_id, family, part in table.itertuples(index=False, name=None)]
    assert places == sorted(places)


def test_the_order_of_the_tables_changes_nothing():
    dataset = made_up(40)
    turned = PreparedDataset(
        dataset.expressions.iloc[::-1], dataset.instances.iloc[::-1], dataset.summary, dataset.boxes.iloc[::-1]
    )
    pd.testing.assert_frame_equal(labels(turned), labels(dataset))


def test_what_only_training_sees_has_no_label():
    table = labels(made_up(30))
    expressions = made_up(30).expressions
    assert set(table["sent_id"]) == set(expressions.loc[expressions["split"] != "train", "sent_id"])


def test_limits_belong_to_the_slice_above():
    """One thing of exactly a tenth of the image, another of its kind at exactly three tenths of the diagonal."""
    mask = np.zeros((30, 40), dtype=np.uint8)  # of a diagonal of 50
    mask[:10, :12] = 1
    dataset = put_together(
        [(1, 1, 1, 1, "val", "the left cup")],
        [(1, 1, "1.jpg", 40, 30, "cup", encode_mask(mask))],
        [(1, 1, "cup", 0, 0, 12, 10), (2, 1, "cup", 11, 8, 8, 18), (3, 1, "dog", 0, 0, 12, 10)],
    )
    assert list(labels(dataset).itertuples(index=False, name=None)) == [
        (1, "length", "3"),
        (1, "words", "position"),
        (1, "size", "10 to 20%"),
        (1, "distractors", "1"),
        (1, "distance", "30 to 40%"),
    ]


def test_a_dataset_without_distractors_or_without_evaluation_is_no_error():
    alone = made_up(20)
    alone = PreparedDataset(
        alone.expressions, alone.instances, alone.summary, alone.boxes.drop_duplicates(["image_id", "category"])
    )
    alone = PreparedDataset(
        alone.expressions[alone.expressions["ann_id"].isin(alone.boxes["ann_id"])],
        alone.instances,
        alone.summary,
        alone.boxes,
    )
    table = labels(alone)
    assert "distance" not in set(table["family"])
    assert set(table.loc[table["family"] == "distractors", "slice"]) == {"0"}
    assert labels(made_up(6, splits=("train",))).empty


def test_a_dataset_without_boxes_is_named():
    dataset = made_up(10)
    with pytest.raises(ValueError, match="'made up' has no boxes"):
        labels(PreparedDataset(dataset.expressions, dataset.instances, dataset.summary))


def test_every_family_says_what_it_is():
    for family in FAMILIES.values():
        assert family.title and family.explanation.endswith(".")
        assert len(set(family.slices)) == len(family.slices) >= 4
        assert not family.edges or len(family.edges) == len(family.slices) - 1
        assert list(family.edges) == sorted(family.edges)


def test_rendered_scenes(tmp_path):
    """Every thing is annotated: distractors are the shapes of the same name that were painted."""
    images = ImageCounts(train=3, val=10, testA=5, testB=5)
    source = ScenesSource(kind="scenes", seed=2, image_size=64, image_counts=images, sentence="sent")
    tables = sources.read(source, tmp_path)
    dataset = PreparedDataset(
        tables.expressions, tables.instances.set_index("ann_id"), {"name": "scenes"}, tables.boxes
    )
    assert set(labels(dataset).itertuples(index=False, name=None)) == by_loops(dataset)


def test_the_work_is_a_few_calls_an_expression():
    """Counted, not timed. Looking up a row of a table takes hundreds of calls."""
    calls, counts = [], []
    for images in (300, 900):
        dataset = made_up(images, splits=("val", "testA"))
        with cProfile.Profile() as profile:
            labels(dataset)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
        counts.append(len(dataset.expressions))
    assert (calls[1] - calls[0]) / (counts[1] - counts[0]) < 100


def test_a_set_has_the_same_slices_alone_and_in_a_mix(shared_data, tmp_path):
    keys = {"root": str(shared_data / "refer_true"), "sentence": "sent", "allow_partial": True}
    mixed = sources.read(MixSource(kind="mix", mix=["refcoco", "refcoco+"], **keys), tmp_path)
    whole = PreparedDataset(mixed.expressions, mixed.instances.set_index("ann_id"), {"name": "mix"}, mixed.boxes)
    found = labels(whole)
    for place, name in enumerate(("refcoco", "refcoco+")):
        one = sources.read(ReferSource(kind="refer", name=name, split_by="unc", **keys), tmp_path)
        expected = labels(
            PreparedDataset(one.expressions, one.instances.set_index("ann_id"), {"name": name}, one.boxes)
        )
        part = found[found["sent_id"] // prepared.SPACE == place]
        part = part.assign(sent_id=part["sent_id"] - place * prepared.SPACE).reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected)
