"""COCO's `instances.json` -> the boxes of everything annotated on the images that expressions are about."""

from itertools import chain

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from stages.data.prepared import BOX_COLUMNS, boxes_of
from stages.prepare.coco import Annotations, Wrong, category_name, encode, sound_box
from stages.prepare.problems import Malformed

AGREEING = 0.5  # least intersection over union of a stated box and the box of its mask


def boxes(source: Annotations, instances: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The box of every annotated thing on the images of some instances, and notes on what was repaired or left out.

    A box is the source's `bbox`, or where that is absent or wrong, the box of the segmentation's pixels. A thing that
    nothing refers to is left out where it has neither, or no category; a note says how many were. Regions of crowds
    (`iscrowd`), which are not one thing, are left out without a note.

    Args:
        source: the annotations of these and other images.
        instances: `INSTANCE_COLUMNS` of the instances that are referred to, which are sound.

    Returns:
        `BOX_COLUMNS`, in the order of the source, and the notes.
    """
    names = _names(source)
    sizes = {
        image_id: (width, height)
        for image_id, width, height in instances[["image_id", "width", "height"]].itertuples(index=False, name=None)
    }
    referred = set(instances["ann_id"].tolist())
    ids, image_ids, categories, found, repaired, lost = [], [], [], [], [], []
    for ann_id, annotation in source.annotations.items():
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if type(image_id) is not int:
            lost.append(ann_id)
        elif image_id in sizes and (ann_id in referred or not annotation.get("iscrowd")):
            category = names.get(category_id) if type(category_id) is int else None
            if category is None:
                lost.append(ann_id)
                continue
            box = annotation.get("bbox")
            if not sound_box(box, *sizes[image_id]):
                box = _box_of_mask(annotation, *sizes[image_id])
                if box is None:
                    lost.append(ann_id)
                    continue
                if "bbox" in annotation:
                    repaired.append(ann_id)
            ids.append(ann_id)
            image_ids.append(image_id)
            categories.append(category)
            found.append(box)

    table = pd.DataFrame({"ann_id": ids, "image_id": image_ids, "category": categories})
    table[BOX_COLUMNS[3:]] = np.fromiter(chain.from_iterable(found), dtype=float).reshape(-1, 4)
    table["category"] = table["category"].astype("str")
    return table, [*_left_out(lost), *_repaired(repaired), *_alone(table, instances)]


def disagreeing(table: pd.DataFrame, instances: pd.DataFrame) -> list[str]:
    """A note where boxes lie elsewhere than their masks, for example because they are written as two corners.

    Args:
        table: from `boxes`.
        instances: `INSTANCE_COLUMNS`, all of them in the table.
    """
    drawn = boxes_of(instances).set_index("ann_id")[BOX_COLUMNS[3:]]
    given = table.set_index("ann_id")[BOX_COLUMNS[3:]].loc[drawn.index]
    apart = drawn.index[_overlap(given.to_numpy(), drawn.to_numpy()) < AGREEING]
    if apart.empty:
        return []
    return [
        f"{len(apart):,} of {len(drawn):,} boxes overlap the box of their mask by less than half, such as that of "
        f"annotation {apart[0]}"
    ]


def _names(source: Annotations) -> dict[int, str]:
    """The name of every sound category, by id."""
    names = {}
    for category_id, category in source.categories.items():
        try:
            names[category_id] = category_name(category)
        except Malformed:
            continue
    return names


def _box_of_mask(annotation: dict, width: int, height: int) -> list[float] | None:
    """The box of the segmentation's pixels; None where the segmentation is wrong or empty."""
    try:
        mask = encode(annotation.get("segmentation"), height, width, "")
    except Wrong:
        return None
    return coco_mask.toBbox(mask).tolist() if coco_mask.area(mask) else None


def _left_out(ids: list[int]) -> list[str]:
    if not ids:
        return []
    return [
        f"{len(ids):,} annotations that nothing refers to have no sound image_id, category or box, and are counted "
        f"nowhere, such as annotation {ids[0]}"
    ]


def _repaired(ids: list[int]) -> list[str]:
    if not ids:
        return []
    return [
        f"{len(ids):,} boxes do not fit their images, and were taken from the segmentation, such as that of "
        f"annotation {ids[0]}"
    ]


def _overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes x, y, width, height (boxes, 4), row by row; 0 where both are empty."""
    near = np.maximum(ones[:, :2], others[:, :2])
    far = np.minimum(ones[:, :2] + ones[:, 2:], others[:, :2] + others[:, 2:])
    intersection = (far - near).clip(min=0).prod(axis=1)
    union = ones[:, 2:].prod(axis=1) + others[:, 2:].prod(axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _alone(table: pd.DataFrame, instances: pd.DataFrame) -> list[str]:
    if len(table) > len(instances):
        return []
    return ["only what is referred to is annotated: other things of the same category are not counted"]
