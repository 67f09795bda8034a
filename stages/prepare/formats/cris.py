"""What the tools of CRIS write, and DETRIS and CGFormer use: JSON of expressions, and a PNG mask for each ref.

    ROOT/anns/NAME/SPLIT.json      [{segment_id, img_name, cat, sentences: [{sent_id, sent}]}]; segment_id is ref_id
    ROOT/masks/NAME/REF_ID.png     above 127 where the thing is, of the image's size

NAME of RefCOCOg is `refcocog_u` or `refcocog_g`, as the split is by umd or google.
"""

import re
from pathlib import Path

import numpy as np

from models import images
from stages.data.prepared import encode_mask
from stages.prepare import coco
from stages.prepare.coco import LARGEST_SIDE, Annotations
from stages.prepare.formats import coco_categories
from stages.prepare.formats.release import Content, Release
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.published import COUNTS
from stages.runtime import layout
from stages.runtime.progress import bar

IMAGE_ID = re.compile(r"COCO_train2014_(\d{12})\.jpg")
MADE = "the files have no ids of annotations: that of a ref stands for it"


class CrisFiles(Release):
    """Where the files of one set lie."""

    @property
    def folder(self) -> str:
        return f"{self.name}_{self.split_by[0]}" if self.name == "refcocog" else self.name

    @property
    def splits(self) -> dict[str, Path]:
        folder = self.root / "anns" / self.folder
        return {split: folder / f"{split}.json" for split in COUNTS[self.name, self.split_by]}

    @property
    def masks(self) -> Path:
        return self.root / "masks" / self.folder

    @property
    def annotations(self) -> list[Path]:
        return list(self.splits.values())

    def load(self, problems: Problems) -> Content:
        lists = {split: _entries(path) for split, path in self.splits.items()}
        refs = {path: [] for path in self.splits.values()}
        pictures: dict[int, dict] = {}
        annotations: dict[int, dict] = {}
        entries = [(split, place, entry) for split, part in lists.items() for place, entry in enumerate(part)]
        for split, place, entry in bar(entries, "masks", len(entries)):
            path = self.splits[split]
            try:
                ref_id, cat = field(entry, "segment_id", int), field(entry, "cat", int)
                name, sentences = field(entry, "img_name", str), field(entry, "sentences", list)
                if not (found := IMAGE_ID.fullmatch(name)):
                    raise Malformed(f"img_name is {shown(name)}, expected COCO_train2014_ and 12 digits")
                if cat >= len(coco_categories.IDS):
                    raise Malformed(f"cat is {cat}, expected 0 to {len(coco_categories.IDS) - 1}")
            except Malformed as error:
                problems.add(path, "malformed ref", f"ref number {place}: {error}")
                continue
            try:
                mask = _mask(layout.source(self.masks / f"{ref_id}.png"))
            except ValueError as error:
                problems.add(self.masks, "mask cannot be read", f"{ref_id}.png: {error}")
                continue
            image_id = int(found[1])
            size = {"height": mask.shape[0], "width": mask.shape[1]}
            if pictures.setdefault(image_id, {"file_name": name, **size}) != {"file_name": name, **size}:
                problems.add(self.masks, "masks of one image have several sizes", f"{ref_id}.png")
            ids = {"ref_id": ref_id, "ann_id": ref_id, "image_id": image_id}
            refs[path].append({**ids, "split": split, "sentences": sentences})
            annotations[ref_id] = {
                "image_id": image_id,
                "category_id": coco_categories.IDS[cat],
                "segmentation": {"size": [*mask.shape], "counts": encode_mask(mask)},
            }
        own = Annotations(self.masks, pictures, annotations, coco_categories.BY_ID)
        return Content(refs, own, [coco_categories.NOTE, MADE])

    def listed(self) -> dict[Path, set[str]]:
        entries = [entry for path in self.splits.values() for entry in _entries(path) if isinstance(entry, dict)]
        names = {name for entry in entries if isinstance(name := entry.get("img_name"), str)}
        masks = {f"{number}.png" for entry in entries if type(number := entry.get("segment_id")) is int}
        return {self.image_folder(): names, self.masks: masks}


def _entries(path: Path) -> list:
    content = coco.read_json(path)
    if not isinstance(content, list):
        raise DatasetError(f"{path}: expected a list of refs, found {shown(content)}")
    return content


def _mask(path: Path) -> np.ndarray:
    """A mask (height, width), bool. Raises ValueError, which says why it cannot be read."""
    with images.opened(path) as image:
        if max(image.size) > LARGEST_SIDE:
            raise ValueError(f"{image.size[0]} x {image.size[1]} pixels are not the size of an image")
        return np.asarray(image.convert("L")) > 127
