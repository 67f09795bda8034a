"""Boxes of everything annotated on the images: all of them, right, and notes on those that are not."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from stages.data import prepared
from stages.prepare import sources
from stages.prepare.formats import release
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.tables import Tables
from stages.runtime.params import ImageCounts, ScenesSource

HEIGHT, WIDTH = 12, 16
ALONE = "only what is referred to is annotated: other things of the same category are not counted"


class Folder:
    """Two images of cups and a plate, one referred to on each; a third that nothing refers to."""

    def __init__(self, root):
        self.files = ReferFiles(root, "refcoco", "unc")
        self.annotations = {
            11: self.annotation(1, 5, [1, 2, 6, 7], bbox=[1, 2, 5, 5]),
            12: self.annotation(1, 5, [8, 2, 12, 7], bbox=[8.25, 2, 3.5, 5]),
            13: self.annotation(1, 6, [0, 0, 16, 12], bbox=[0, 0, 16, 12]),
            21: self.annotation(2, 5, [3, 3, 5, 9], bbox=[3, 3, 2, 6]),
            22: self.annotation(2, 5, [6, 3, 9, 5], bbox=[6, 3, 3, 2]),
            31: self.annotation(3, 5, [6, 3, 9, 5], bbox=[6, 3, 3, 2]),
        }
        self.categories = [{"id": 5, "name": "cup"}, {"id": 6, "name": "plate"}]

    @staticmethod
    def annotation(image_id, category_id, corners, **others):
        left, top, right, bottom = corners
        polygon = [left, top, right, top, right, bottom, left, bottom]
        return {"image_id": image_id, "category_id": category_id, "segmentation": [polygon], **others}

    def read(self) -> Tables:
        images = self.files.root / "images"
        images.mkdir(exist_ok=True)
        self.files.refs.parent.mkdir(exist_ok=True)
        for image_id in (1, 2, 3):
            Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"{image_id}.jpg")
        content = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 3)],
            "annotations": [{"id": ann_id, **entry} for ann_id, entry in self.annotations.items()],
            "categories": self.categories,
        }
        refs = [
            {
                "ref_id": ann_id,
                "ann_id": ann_id,
                "image_id": self.annotations[ann_id]["image_id"],
                "split": split,
                "sentences": [{"sent_id": ann_id, "sent": "left cup", "raw": "left cup"}],
            }
            for ann_id, split in ((11, "train"), (21, "val"))
        ]
        self.files.refs.write_bytes(pickle.dumps(refs, 2))
        self.files.instances.write_text(json.dumps(content))
        return release.read(self.files, "sent")

    def boxes(self) -> dict[int, list[float]]:
        table = self.read().boxes.set_index("ann_id")
        return dict(zip(table.index, table[["x", "y", "width", "height"]].to_numpy().tolist(), strict=True))


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def test_everything_annotated_on_images_of_referred_instances_is_there_as_stated(folder):
    tables = folder.read()
    assert list(tables.boxes.itertuples(index=False, name=None)) == [
        (11, 1, "cup", 1, 2, 5, 5),
        (12, 1, "cup", 8.25, 2, 3.5, 5),
        (13, 1, "plate", 0, 0, 16, 12),
        (21, 2, "cup", 3, 3, 2, 6),
        (22, 2, "cup", 6, 3, 3, 2),
    ]
    assert list(tables.boxes.columns) == prepared.BOX_COLUMNS
    assert list(tables.instances["ann_id"]) == [11, 21]
    assert tables.notes == []


def test_an_absent_box_is_that_of_the_mask(folder):
    expected = folder.boxes()
    for ann_id, annotation in folder.annotations.items():
        if ann_id != 12:
            del annotation["bbox"]
    runs = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    runs[3:5, 6:9] = 1
    counts = coco_mask.encode(np.asfortranarray(runs))["counts"].decode()
    folder.annotations[22]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    assert folder.boxes() == expected
    assert folder.read().notes == []


@pytest.mark.parametrize(
    "bbox",
    [
        None,
        [],
        [8, 2, 4],
        [8, 2, 4, 5, 0],
        "8 2 4 5",
        {"x": 8},
        [8, 2, "4", 5],
        [8, 2, True, 5],
        [8, 2, None, 5],
        [8, 2, -4, 5],
        [-3, 2, 4, 5],
        [8, 2, 12, 5],
        [8, 2, 4, 12],
        [8, 2, 1e300, 5],
        [8, 2, 2**64 - 1, 5],
        [[8], [2], [4], [5]],
    ],
)
@pytest.mark.parametrize("ann_id", [11, 12])
def test_a_wrong_box_is_that_of_the_mask_and_noted(folder, ann_id, bbox):
    folder.annotations[ann_id]["bbox"] = bbox
    assert folder.boxes()[ann_id] == {11: [1, 2, 5, 5], 12: [8, 2, 4, 5]}[ann_id]
    assert folder.read().notes == [
        f"1 boxes do not fit their images, and were taken from the segmentation, such as that of annotation {ann_id}"
    ]


def test_coordinates_may_be_rounded_and_things_may_be_lines(folder):
    folder.annotations[12]["bbox"] = [-0.5, 2, 17, 0]
    assert folder.boxes()[12] == [-0.5, 2, 17, 0]
    assert folder.read().notes == []


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": None, "segmentation": None},
        {"bbox": [1, 2, 3], "segmentation": [[1, 1, 5, 5]]},
        {"bbox": [8, 2, 12, 5], "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
        {"bbox": [8, 2, 12, 5], "segmentation": [[0, 0, 40, 0, 40, 40]]},
        {"category_id": 7},
        {"category_id": [5]},
        {"image_id": None},
        {"image_id": "1"},
        {"image_id": {}},
    ],
)
def test_what_nothing_refers_to_and_cannot_be_read_stops_nothing_and_is_counted(folder, changes):
    expected = folder.boxes()
    folder.annotations[12].update(changes)
    del expected[12]
    assert folder.boxes() == expected
    folder.annotations[22].update(changes)
    assert folder.read().notes == [
        "2 annotations that nothing refers to have no sound image_id, category or box, and are counted nowhere, such "
        "as annotation 12"
    ]


def test_nothing_is_said_of_other_images(folder):
    folder.annotations[31].update(bbox=None, segmentation=None, category_id=None)
    assert folder.read().notes == []


def test_crowds_are_no_things_unless_something_refers_to_them(folder):
    for ann_id in (11, 12):
        folder.annotations[ann_id]["iscrowd"] = 1
    tables = folder.read()
    assert tables.boxes["ann_id"].tolist() == [11, 13, 21, 22]
    assert tables.notes == []


def test_a_source_of_nothing_but_what_is_referred_to_is_noted(folder):
    folder.annotations = {ann_id: folder.annotations[ann_id] for ann_id in (11, 21, 31)}
    assert folder.read().notes == [ALONE]


def test_scenes(tmp_path):
    """Every thing of every image, as COCO's own reader and the masks have it."""
    counts = ImageCounts(train=6, val=3, testA=3, testB=3)
    source = ScenesSource(kind="scenes", seed=1, image_size=64, image_counts=counts, sentence="sent")
    tables = sources.read(source, tmp_path)
    coco = COCO(tmp_path / "refer" / "scenes" / "instances.json")
    assert sorted(tables.boxes["ann_id"]) == sorted(coco.getAnnIds())
    assert len(tables.boxes) > len(tables.instances)
    for row in tables.boxes.itertuples():
        (annotation,) = coco.loadAnns(row.ann_id)
        assert (row.image_id, row.category) == (annotation["image_id"], coco.cats[annotation["category_id"]]["name"])
        ys, xs = np.nonzero(coco.annToMask(annotation))
        assert (row.x, row.y, row.width, row.height) == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)


@pytest.mark.parametrize("name", ["refcoco", "refcoco+"])
def test_photographs_with_true_masks(shared_data, name):
    """Every annotation but crowds; boxes of what is referred to are about those of their masks."""
    files = ReferFiles(shared_data / "refer_true", name, "unc")
    tables = release.read(files, "sent")
    annotations = pd.DataFrame(json.loads(files.instances.read_text())["annotations"])
    plain = annotations[(annotations["iscrowd"] == 0) & annotations["image_id"].isin(tables.instances["image_id"])]
    assert sorted(tables.boxes["ann_id"]) == sorted(plain["id"])
    assert tables.notes == []

    boxes = tables.boxes.set_index("ann_id")
    for row in tables.instances.itertuples():
        box = boxes.loc[row.ann_id]
        assert (box["image_id"], box["category"]) == (row.image_id, row.category)
        drawn = coco_mask.toBbox({"size": [row.height, row.width], "counts": row.mask.encode()})
        stated = box[["x", "y", "width", "height"]].to_numpy(float)
        assert coco_mask.iou(drawn[None], stated[None], [0])[0, 0] > 0.97


def test_small_photographs_list_nothing_but_what_is_referred_to(shared_data):
    assert release.read(ReferFiles(shared_data / "refer_mini", "refcoco", "unc"), "sent").notes == [ALONE]
