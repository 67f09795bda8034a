"""Several sets as one dataset: nothing of any val or test in train, ids that do not collide, numbers that add up."""

import numpy as np
import pandas as pd
import pytest

from stages.data import prepared
from stages.data.prepared import BOX_COLUMNS, INSTANCE_COLUMNS, SPACE, PreparedDataset
from stages.prepare.mix import mix
from stages.prepare.problems import DatasetError
from stages.prepare.tables import Tables


def tables(splits: dict[int, str], refs: int = 40, seed: int = 0, **changes) -> Tables:
    """A set over images 0, 1, ... with their splits; two sentences a ref; ids start at zero in every set."""
    random = np.random.default_rng(seed)
    rows, instances, boxes = [], [], []
    for ref in range(refs):
        image_id = int(random.choice(list(splits)))
        rows += [(2 * ref + n, ref, ref, image_id, splits[image_id], f"cup {n}") for n in range(2)]
        instances.append((ref, image_id, f"images/{image_id}.jpg", 6, 5, "cup", "mask"))
        boxes.append((ref, image_id, "cup", *random.random(4)))
    boxes += [(1000 + image_id, image_id, "cup", *random.random(4)) for image_id in splits]  # nothing refers to them
    return Tables(
        expressions=pd.DataFrame(rows, columns=prepared.EXPRESSION_COLUMNS),
        instances=pd.DataFrame(instances, columns=INSTANCE_COLUMNS),
        boxes=pd.DataFrame([row for row in boxes if row[1] in {row[1] for row in instances}], columns=BOX_COLUMNS),
        files=[],
        sizes={},
        **{"checks": ["ids unique", "masks valid"], **changes},
    )


@pytest.fixture
def sets() -> dict[str, Tables]:
    one = {n: "train" for n in range(10)} | {10: "val", 11: "testA", 12: "testB"}
    two = {n: "train" for n in range(5, 13)} | {0: "val", 1: "testA", 2: "testB"}
    three = {n: "train" for n in range(3, 15)} | {3: "val", 4: "test"}
    return {"refcoco": tables(one, seed=0), "refcoco+": tables(two, seed=1), "refcocog": tables(three, seed=2)}


def test_no_train_image_is_in_any_other_split_of_any_set(sets):
    mixed = mix(sets).expressions
    trained = set(mixed.loc[mixed["split"] == "train", "image_id"])
    for original in sets.values():
        held_out = set(original.expressions.loc[original.expressions["split"] != "train", "image_id"])
        assert not trained & held_out
    assert trained == {5, 6, 7, 8, 9, 13, 14} & trained and len(trained) > 4


def test_every_held_out_expression_is_there_under_its_sets_name(sets):
    mixed = mix(sets).expressions
    for place, (name, original) in enumerate(sets.items()):
        for split in set(original.expressions["split"]) - {"train"}:
            expected = original.expressions[original.expressions["split"] == split]
            found = mixed[mixed["split"] == f"{name}_{split}"]
            assert list(found["sent_id"] - place * SPACE) == list(expected["sent_id"])
            assert list(found["image_id"]) == list(expected["image_id"])
            assert list(found["text"]) == list(expected["text"])


def test_ids_do_not_collide_and_point_to_their_instance(sets):
    mixed = mix(sets)
    assert mixed.expressions["sent_id"].is_unique and mixed.instances["ann_id"].is_unique
    assert set(mixed.expressions["ann_id"]) == set(mixed.instances["ann_id"])
    joined = mixed.expressions.merge(mixed.instances, on="ann_id", suffixes=("", "_of_instance"))
    assert (joined["image_id"] == joined["image_id_of_instance"]).all()
    assert set(mixed.expressions["image_id"]) <= set(range(15))


def test_every_set_brings_its_own_boxes_of_the_images_that_it_refers_to(sets):
    """In the mix a thing has the distractors that it has in its set alone."""
    mixed = mix(sets)
    kept = mixed.expressions.assign(place=mixed.expressions["ann_id"] // SPACE)
    whole = PreparedDataset(mixed.expressions, mixed.instances.set_index("ann_id"), {"name": "mix"}, mixed.boxes)
    assert mixed.boxes["ann_id"].is_unique
    for place, original in enumerate(sets.values()):
        rows = kept[kept["place"] == place]
        boxes = mixed.boxes[mixed.boxes["ann_id"] // SPACE == place]
        expected = original.boxes[original.boxes["image_id"].isin(rows["image_id"])]
        moved = boxes.assign(ann_id=boxes["ann_id"] - place * SPACE)
        pd.testing.assert_frame_equal(moved.reset_index(drop=True), expected.reset_index(drop=True))

        ann_ids = rows["ann_id"].unique()
        found = whole.distractors(ann_ids)
        alone = PreparedDataset(original.expressions, original.instances.set_index("ann_id"), {}, original.boxes)
        pairs = alone.distractors(ann_ids - place * SPACE)
        assert len(pairs) > len(ann_ids)
        for column in ("target", "ann_id"):
            assert list(found[column] - place * SPACE) == list(pairs[column])


def test_the_note_says_how_much_was_dropped(sets):
    trained = pd.concat(
        [one.expressions[one.expressions["split"] == "train"].assign(set=name) for name, one in sets.items()]
    )
    kept = mix(sets).expressions.query("split == 'train'")
    (note,) = mix(sets).notes
    images = trained["image_id"].nunique()
    assert f"{images - kept['image_id'].nunique()} of {images} images" in note
    refs = len(trained.drop_duplicates(["set", "ref_id"]))
    assert f"{refs - kept['ref_id'].nunique()} of {refs} refs" in note
    assert f"{len(trained) - len(kept)} of {len(trained)} expressions" in note
    assert "refcoco or refcoco+ or refcocog" in note


def test_what_is_said_of_one_set_is_said_of_the_mix(sets):
    sets["refcoco+"].warnings.append("not the whole refcoco+ (unc)")
    sets["refcoco+"].notes.append("2 boxes are no boxes")
    sets["refcoco+"].partial = True
    sets["refcocog"].checks.remove("masks valid")
    mixed = mix(sets)
    assert mixed.partial
    assert mixed.warnings == ["refcoco+: not the whole refcoco+ (unc)"]
    assert mixed.notes[1:] == ["refcoco+: 2 boxes are no boxes"]
    assert mixed.checks == ["ids unique", "no train image in another split of any set"]


def test_the_same_sets_in_another_order_train_on_the_same(sets):
    def trained(mixed: Tables) -> list[tuple]:
        rows = mixed.expressions.query("split == 'train'")
        return sorted(zip(rows["image_id"], rows["text"], rows["sent_id"] % SPACE, strict=True))

    assert trained(mix(sets)) == trained(mix(dict(reversed(sets.items()))))


def test_image_ids_that_mean_different_images_are_named(sets):
    images = sets["refcocog"].instances["image"]
    sets["refcocog"].instances["image"] = images.replace("images/5.jpg", "images/other.jpg")
    with pytest.raises(DatasetError, match=r"1 ids mean different images, such as 5: images/5.jpg 6 x 5; images/other"):
        mix(sets)


def test_ids_too_large_to_be_moved_are_named(sets):
    sets["refcoco"].expressions.loc[0, "sent_id"] = SPACE
    with pytest.raises(DatasetError, match=f"id {SPACE} is too large"):
        mix(sets)
