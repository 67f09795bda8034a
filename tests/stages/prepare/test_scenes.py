"""The dataset `scenes` as it is written: layout, splits, masks, determinism, and no shortcut through colour words."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from stages.prepare.scenes import arrangement, shapes
from stages.prepare.scenes import release as scenes
from stages.runtime.params import ImageCounts, ScenesSource

COUNTS = {"train": 14, "val": 10, "testA": 8, "testB": 8}


def source(seed: int = 3, size: int = 64, **counts: int) -> ScenesSource:
    images = ImageCounts(**(COUNTS | counts))
    return ScenesSource(kind="scenes", seed=seed, image_size=size, image_counts=images, sentence="sent")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    scenes.write(source(), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def refs(root) -> list[dict]:
    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            raise AssertionError(f"the pickle holds {module}.{name}")

    with (root / "scenes/refs(unc).p").open("rb") as file:
        return Plain(file).load()


@pytest.fixture(scope="module")
def coco(root) -> COCO:
    return COCO(root / "scenes/instances.json")


def test_refs_and_instances_fit_together(refs, coco):
    for key in ("ref_id", "ann_id"):
        assert len({ref[key] for ref in refs}) == len(refs)
    sentences = [sentence for ref in refs for sentence in ref["sentences"]]
    assert len({sentence["sent_id"] for sentence in sentences}) == len(sentences)
    for ref in refs:
        annotation = coco.anns[ref["ann_id"]]
        assert (annotation["image_id"], annotation["category_id"]) == (ref["image_id"], ref["category_id"])
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        assert ref["file_name"] == f"COCO_train2014_{ref['image_id']:012d}_{ref['ann_id']}.jpg"
        assert 2 <= len(ref["sentences"]) <= 3
        for sentence in ref["sentences"]:
            assert sentence["raw"].lower().rstrip(".") == sentence["sent"] == " ".join(sentence["tokens"])
    assert any(sentence["raw"] != sentence["sent"] for sentence in sentences)


def test_every_image_has_its_file_and_two_or_three_refs(root, refs, coco):
    for image in coco.dataset["images"]:
        with Image.open(root / "images/mscoco/images/train2014" / image["file_name"]) as opened:
            assert opened.size == (64, 64)
            assert opened.mode == "RGB"
        assert 2 <= sum(ref["image_id"] == image["id"] for ref in refs) <= 3
        assert 4 <= len(coco.getAnnIds(image["id"])) <= 5


def test_masks_are_disjoint_and_agree_with_area_and_box(coco):
    for image in coco.dataset["images"]:
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        masks = [coco.annToMask(annotation) for annotation in annotations]
        assert np.sum(masks, axis=0).max() == 1
        for annotation, mask in zip(annotations, masks, strict=True):
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["area"] == mask.sum() > 60
            assert annotation["bbox"] == box


def test_splits_hold_their_kinds_and_share_no_image(refs, coco):
    images = {split: {ref["image_id"] for ref in refs if ref["split"] == split} for split in COUNTS}
    assert {split: len(found) for split, found in images.items()} == COUNTS
    assert len(set.union(*images.values())) == sum(COUNTS.values()) == len(coco.imgs)
    kinds = {split: set() for split in COUNTS}
    for ref in refs:
        kinds[ref["split"]].update(sentence["kind"] for sentence in ref["sentences"])
    every = {"attribute", "position", "comparison", "relation"}
    assert kinds == {"train": every, "val": every, "testA": {"attribute"}, "testB": {"comparison", "relation"}}


def test_no_two_images_look_the_same(root):
    files = list((root / scenes.IMAGES).iterdir())
    assert len({file.read_bytes() for file in files}) == len(files) == sum(COUNTS.values())


def test_the_same_source_gives_the_same_bytes(root, tmp_path):
    scenes.write(source(), tmp_path, progress=False)
    assert contents(tmp_path) == contents(root)


def test_another_seed_gives_other_images(root, tmp_path):
    scenes.write(source(seed=4, train=2, val=2, testA=2, testB=2), tmp_path, progress=False)
    before, after = contents(root), contents(tmp_path)
    assert all(before[name] != after[name] for name in after)


def test_more_images_in_one_split_change_no_other(root, refs, coco, tmp_path):
    scenes.write(source(train=16), tmp_path, progress=False)
    before, after = contents(root), contents(tmp_path)
    assert all(before[name] == after[name] for name in before if name.endswith(".jpg"))
    more = pickle.loads((tmp_path / "scenes/refs(unc).p").read_bytes())
    images = set(coco.imgs)
    assert [ref for ref in more if ref["image_id"] in images] == refs
    instances = json.loads((tmp_path / "scenes/instances.json").read_text())
    annotations = [annotation for annotation in instances["annotations"] if annotation["image_id"] in images]
    assert annotations == json.loads((root / "scenes/instances.json").read_text())["annotations"]


@pytest.mark.parametrize("size", [32, 100, 224])
def test_scenes_scale_with_the_image(size):
    image = scenes.draw(source(size=size), "val", 0)
    assert all(thing.mask.shape == (size, size) for thing in image.scene.things)
    share = np.mean([thing.mask.mean() for thing in image.scene.things])
    assert 0.03 < share < 0.12


def test_things_stay_visible_and_overlap_now_and_then():
    shares = []
    for index in range(50):
        scene = scenes.draw(source(), "train", index).scene
        for thing in scene.things:
            whole = shapes.coverage(
                shapes.distance(thing.shape, thing.x, thing.y, thing.radius, thing.angle, scene.size)
            )
            assert not (thing.mask & (whole <= 0.5)).any()
            shares.append(thing.mask.sum() / whole.sum())
    assert min(shares) > 0.6
    assert 0.1 < np.mean(np.array(shares) < 0.93) < 0.5


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_shapes_of_one_radius_have_about_one_area_and_their_centroid_in_the_center(shape):
    covered = shapes.coverage(shapes.distance(shape, 50.3, 48.6, 20, 0.15, 100))
    assert covered.sum() == pytest.approx(np.pi * 20**2, rel=0.16)
    assert (covered.sum(axis=0) * (np.arange(100) + 0.5)).sum() / covered.sum() == pytest.approx(50.3, abs=0.2)
    assert (covered.sum(axis=1) * (np.arange(100) + 0.5)).sum() / covered.sum() == pytest.approx(48.6, abs=0.2)


def test_every_target_has_distractors_of_its_colour_and_of_its_shape():
    for split in COUNTS:
        for index in range(15):
            image = scenes.draw(source(), split, index)
            for target in image.sentences:
                own, others = image.scene.things[target], list(image.scene.things)
                others.remove(own)
                assert own.colour in [other.colour for other in others]
                assert own.shape in [other.shape for other in others]


def test_colour_words_with_perfect_masks_do_not_solve_val():
    """All things of the named colours, or all where none is named: the most that colour words alone can reach."""
    every, first, head = [], [], []
    for index in range(60):
        image = scenes.draw(source(seed=0), "val", index)
        for target, sentences in image.sentences.items():
            mask = image.scene.things[target].mask
            for sentence in sentences:
                named = [word for word in sentence.text.split() if word in arrangement.COLOURS]
                own = [word for word in named if word == sentence.expression.noun.colour][:1]
                for colours, ious in ((named, every), (named[:1], first), (own, head)):
                    things = [thing.mask for thing in image.scene.things if not colours or thing.colour in colours]
                    guess = np.any(things, axis=0)
                    ious.append((guess & mask).sum() / (guess | mask).sum())
    assert np.mean(every) < 0.35
    assert np.mean(first) < 0.35
    assert np.mean(head) < 0.35


def test_scenes_that_cannot_be_are_named(monkeypatch):
    monkeypatch.setattr(arrangement, "VISIBLE", 2.0)
    monkeypatch.setattr(scenes, "ATTEMPTS", 3)
    with pytest.raises(RuntimeError, match=r"none of 3 scenes of 64 pixels.* image 5 of val"):
        scenes.draw(source(), "val", 5)
