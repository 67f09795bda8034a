"""A prepared dataset of three images with random masks, and its masks as files of predictions in every format."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from pycocotools import mask as coco_mask

from stages.data import prepared
from stages.data.prepared import PreparedDataset

SIZES = {1: (7, 5), 2: (12, 9), 3: (6, 11)}  # image -> height, width
SPLITS = {1: "train", 2: "val", 3: "testA"}
TEXTS = ("left cup", "left cup", "the cup")  # of each ref: two are the same
Masks = dict[int, np.ndarray]  # sent_id -> bool (height, width)


def write_dataset(folder: Path) -> PreparedDataset:
    """Two refs of three expressions on each image."""
    generator = np.random.default_rng(0)
    expressions, instances = [], []
    for image_id, (height, width) in SIZES.items():
        for place in (0, 1):
            ann_id = 10 * image_id + place
            mask = generator.random((height, width)) < 0.4
            instances.append((ann_id, image_id, "none.png", width, height, "cup", prepared.encode_mask(mask)))
            expressions += [(ann_id + 100, ann_id, image_id, SPLITS[image_id], text) for text in TEXTS]
    table = pd.DataFrame(expressions, columns=["ref_id", "ann_id", "image_id", "split", "text"])
    table.insert(0, "sent_id", range(500, 500 + len(table)))
    prepared.write(folder, table, pd.DataFrame(instances, columns=prepared.INSTANCE_COLUMNS), {"name": folder.name})
    return prepared.read(folder)


def true_masks(dataset: PreparedDataset) -> Masks:
    """Of every expression of the evaluation splits."""
    rows = dataset.expressions[dataset.expressions["split"] != "train"]
    return {
        int(row.sent_id): prepared.decode_mask(of["mask"], int(of["height"]), int(of["width"])).astype(bool)
        for row in rows.itertuples()
        for of in [dataset.instances.loc[row.ann_id]]
    }


def compressed(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    """Runs counted one pixel after the other, column by column, from 0 on."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def polygons(mask: np.ndarray) -> list[list[float]]:
    """A square around each pixel."""
    return [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for y, x in np.argwhere(mask).tolist()]


def entries(masks: Masks, encode: Callable[[np.ndarray], object] = compressed) -> list[dict]:
    return [{"sent_id": sent_id, "segmentation": encode(mask)} for sent_id, mask in masks.items()]


def write_json(folder: Path, found: list) -> Path:
    path = folder / "predictions.json"
    path.write_text(json.dumps(found))
    return path


def write_lines(folder: Path, found: list) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in found) + "\n")
    return path


def write_parquet(folder: Path, found: list) -> Path:
    path = folder / "predictions.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(found), path)
    return path


def write_texts(folder: Path, found: list) -> Path:
    """Parquet whose segmentations are JSON text."""
    return write_parquet(folder, [entry | {"segmentation": json.dumps(entry["segmentation"])} for entry in found])


def write_pngs(folder: Path, masks: Masks, values: Iterable[int] = (0, 255), mode: str = "L") -> Path:
    path = folder / "predictions"
    path.mkdir(exist_ok=True)
    outside, inside = values
    for sent_id, mask in masks.items():
        image = Image.fromarray(np.where(mask, inside, outside).astype(np.uint8))
        if mode == "P":
            image.putpalette([0, 0, 0, 200, 10, 10])
        image.save(path / f"{sent_id}.png")
    return path
