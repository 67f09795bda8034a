"""Writes a set of the REFER release in every other format that is read, as the tools of each format write it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from pycocotools import mask as coco_mask

from stages.prepare.formats.cris import CrisFiles
from stages.prepare.formats.mdetr import MdetrFiles
from stages.prepare.formats.parquet import ParquetFiles
from stages.prepare.formats.refer import ReferFiles, load_refs
from stages.prepare.formats.release import Release
from stages.prepare.formats.seqtr import SeqtrFiles

SPLITS = ("train", "val", "testA", "testB")
HUB = {"train": "train", "val": "validation", "testA": "test", "testB": "testB"}


class Source:
    """The content of a REFER set."""

    def __init__(self, refs: list[dict], instances: dict):
        self.refs = refs
        self.instances = instances
        self.images = {image["id"]: image for image in instances["images"]}
        self.annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}

    @classmethod
    def of(cls, files: ReferFiles) -> "Source":
        return cls(load_refs(files.refs), json.loads(files.instances.read_text()))

    def split(self, name: str) -> list[dict]:
        return [ref for ref in self.refs if ref["split"] == name]


def coco(source: Source, folder: Path) -> None:
    put(folder / "instances_train2014.json", source.instances)


def parquet(source: Source, folder: Path) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        rows = [row(source, ref) for ref in source.split(split)]
        if rows:
            table = pa.Table.from_pylist(rows)
            pa.parquet.write_table(table, folder / "data" / f"{HUB[split]}-00000-of-00001-a1b2.parquet")


def row(source: Source, ref: dict) -> dict:
    annotation, image = source.annotations[ref["ann_id"]], source.images[ref["image_id"]]
    x, y, width, height = annotation["bbox"]
    keys = ("sent_ids", "file_name", "ann_id", "ref_id", "image_id", "split", "sentences", "category_id")
    return {key: ref[key] for key in keys} | {
        "raw_anns": json.dumps(annotation),
        "raw_image_info": json.dumps(image),
        "raw_sentences": json.dumps(ref["sentences"]),
        "image_path": f"coco/train2014/{image['file_name']}",
        "bbox": [x, y, x + width, y + height],
        "captions": [sentence["sent"] for sentence in ref["sentences"]],
    }


def mdetr(source: Source, folder: Path) -> None:
    number = 0
    for split in SPLITS:
        images, annotations = [], []
        for ref in source.split(split):
            annotation, image = source.annotations[ref["ann_id"]], source.images[ref["image_id"]]
            for sentence in ref["sentences"]:
                size = {key: image[key] for key in ("file_name", "height", "width")}
                images.append({**size, "id": number, "original_id": image["id"], "caption": sentence["sent"]})
                box = {key: annotation[key] for key in ("bbox", "iscrowd", "category_id")}
                annotations.append({**box, "id": number, "image_id": number, "original_id": annotation["id"]})
                number += 1
        content = {"images": images, "annotations": annotations, "categories": source.instances["categories"]}
        put(folder / f"finetune_refcoco_{split}.json", content)
    coco(source, folder)


def seqtr(source: Source, folder: Path, ids: bool = False) -> None:
    """Refs in train, expressions in the other splits."""
    sets = {}
    for split in SPLITS:
        sets[split] = entries = []
        for ref in source.split(split):
            annotation, image = source.annotations[ref["ann_id"]], source.images[ref["image_id"]]
            texts = [sentence["sent"] for sentence in ref["sentences"]]
            for part in [texts] if split == "train" else [[text] for text in texts]:
                entry = {"image_id": image["id"], "height": image["height"], "width": image["width"]}
                entry |= {"bbox": annotation["bbox"], "mask": annotation["segmentation"]}
                entry |= {"category_id": annotation["category_id"], "expressions": part}
                entries.append(entry | ({"ann_id": ref["ann_id"], "ref_id": ref["ref_id"]} if ids else {}))
    put(folder / "annotations" / "refcoco-unc" / ("instances_withid.json" if ids else "instances.json"), sets)


def seqtr_with_ids(source: Source, folder: Path) -> None:
    seqtr(source, folder, ids=True)


def cris(source: Source, folder: Path) -> None:
    masks = folder / "masks" / "refcoco"
    masks.mkdir(parents=True, exist_ok=True)
    place = {category["id"]: number for number, category in enumerate(source.instances["categories"])}
    for split in SPLITS:
        entries = []
        for ref in source.split(split):
            annotation, image = source.annotations[ref["ann_id"]], source.images[ref["image_id"]]
            entry = {"bbox": [int(value) for value in annotation["bbox"]], "cat": place[annotation["category_id"]]}
            entry |= {"segment_id": ref["ref_id"], "img_name": image["file_name"]}
            sentences = [{key: sentence[key] for key in ("sent_id", "sent")} for sentence in ref["sentences"]]
            entries.append(entry | {"sentences": sentences, "sentences_num": len(sentences)})
            mask = drawn(annotation["segmentation"], image["height"], image["width"])
            Image.fromarray(mask * np.uint8(255)).save(masks / f"{ref['ref_id']}.png")
        put(folder / "anns" / "refcoco" / f"{split}.json", entries)


def drawn(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """How many polygons cover each pixel, as REFER's own tools sum them up; of an RLE, 1 where its mask is."""
    drawn_before = isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)
    masks = coco_mask.decode(segmentation if drawn_before else coco_mask.frPyObjects(segmentation, height, width))
    return masks.sum(axis=2, dtype=np.uint8) if masks.ndim == 3 else masks


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


FORMATS: dict[str, tuple[Callable[[Source, Path], None], type[Release]]] = {
    "parquet": (parquet, ParquetFiles),
    "mdetr": (mdetr, MdetrFiles),
    "seqtr": (seqtr, SeqtrFiles),
    "seqtr_with_ids": (seqtr_with_ids, SeqtrFiles),
    "cris": (cris, CrisFiles),
}
