"""JSON of SeqTR, SimVG and others that took it over: an entry for each ref or expression, with its mask.

ROOT/annotations/NAME-SPLIT_BY/instances_withid.json or instances.json, or without `annotations`; `+` is `plus`

{split: [{image_id, width, height, category_id, bbox, mask, expressions, and perhaps ann_id and ref_id}]}
"""

from pathlib import Path

import orjson

from stages.prepare import coco
from stages.prepare.coco import Annotations
from stages.prepare.formats import coco_categories
from stages.prepare.formats.release import Content, Release
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.runtime import layout

FILES = ("instances_withid.json", "instances.json")
MADE = (
    "ids are made, as far as the file has none: expressions are numbered in its order, annotations by their image and "
    "mask, and the expressions of one annotation in one split are one ref"
)


class SeqtrFiles(Release):
    """Where the files of one set lie."""

    @property
    def annotations(self) -> list[Path]:
        folder = f"{self.name.replace('+', 'plus')}-{self.split_by}"
        found = [self.root / above / folder / name for above in ("annotations", ".") for name in FILES]
        return [next((path for path in found if layout.source(path).is_file()), found[1])]

    def load(self, problems: Problems) -> Content:
        (path,) = self.annotations
        images: dict[int, dict] = {}
        annotations: dict[int, dict] = {}
        refs: dict[tuple, dict] = {}
        numbers: dict[tuple, int] = {}
        sent_id = 0
        for name, entries in _sets(path).items():
            split = name.removesuffix(f"_{self.name.replace('+', 'plus')}_{self.split_by}")
            for position, entry in enumerate(entries):
                what = f"number {position} of {shown(name)}"
                try:
                    image_id, texts = field(entry, "image_id", int), field(entry, "expressions", list)
                    size = {"height": field(entry, "height", int), "width": field(entry, "width", int)}
                    key = (image_id, orjson.dumps(entry.get("mask")))
                    ann_id = field(entry, "ann_id", int) if "ann_id" in entry else numbers.setdefault(key, len(numbers))
                    ref_id = field(entry, "ref_id", int) if "ref_id" in entry else None
                except (Malformed, orjson.JSONEncodeError) as error:  # the latter of a mask as deep as no mask is
                    problems.add(path, "malformed entry", f"{what}: {error}")
                    continue
                image = {"file_name": f"COCO_train2014_{image_id:012d}.jpg", **size}
                annotation = {
                    "image_id": image_id,
                    "category_id": entry.get("category_id"),
                    "segmentation": entry.get("mask"),
                    "bbox": entry.get("bbox"),
                }
                if images.setdefault(image_id, image) != image:
                    problems.add(path, "several sizes of one image", f"image {image_id}, {what}")
                if annotations.setdefault(ann_id, annotation) != annotation:
                    problems.add(path, "entries of one annotation differ", f"annotation {ann_id}, {what}")
                ids = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "split": split}
                ref = refs.setdefault(tuple(ids.values()), {**ids, "sentences": []})
                for text in texts:
                    sent_id += 1
                    ref["sentences"].append({"sent_id": sent_id, "sent": text})
        for number, ref in enumerate(refs.values()):
            ref["ref_id"] = number if ref["ref_id"] is None else ref["ref_id"]
        own = Annotations(path, images, annotations, coco_categories.BY_ID)
        return Content({path: list(refs.values())}, own, [coco_categories.NOTE, MADE])

    def listed(self) -> dict[Path, set[str]]:
        (path,) = self.annotations
        entries = [entry for part in _sets(path).values() for entry in part if isinstance(entry, dict)]
        ids = {number for entry in entries if type(number := entry.get("image_id")) is int}
        names = {f"COCO_train2014_{image_id:012d}.jpg" for image_id in ids}
        return {self.image_folder(): names}


def _sets(path: Path) -> dict[str, list]:
    """Raises DatasetError where the file is not JSON of lists by the name of their split."""
    content = coco.read_json(path)
    if not isinstance(content, dict) or not content or not all(isinstance(part, list) for part in content.values()):
        raise DatasetError(f"{path}: expected lists of entries by split, found {shown(content)}")
    return content
