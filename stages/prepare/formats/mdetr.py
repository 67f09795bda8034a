"""MDETR's JSON: an image entry for each expression, with the box of what it means, joined with COCO's masks.

ROOT/finetune_NAME_SPLIT.json      images: original_id, caption; annotations: original_id. Both are COCO's ids
ROOT/instances_train2014.json      COCO's, or another of `release.COCO_FILES`
"""

from pathlib import Path

from stages.prepare import coco
from stages.prepare.formats.release import COCO_FILES, Content, Release
from stages.prepare.problems import Malformed, Problems, field
from stages.prepare.published import COUNTS

MADE = (
    "the files have no ids of refs and expressions: the expressions of one annotation in one split are one ref, and "
    "both are numbered in the order of the files"
)


class MdetrFiles(Release):
    """Where the files of one set lie."""

    @property
    def splits(self) -> dict[str, Path]:
        return {split: self.root / f"finetune_{self.name}_{split}.json" for split in COUNTS[self.name, self.split_by]}

    @property
    def annotations(self) -> list[Path]:
        return [*self.splits.values(), *(self.coco_files() or [self.root / COCO_FILES[0]])]

    def load(self, problems: Problems) -> Content:
        refs: dict[Path, list] = {}
        used: set[tuple[int, int]] = set()
        ref_id = sent_id = 0
        for split, path in self.splits.items():
            lists = coco.read_lists(path, ("images", "annotations"))
            drawn: dict[object, list] = {}
            for annotation in lists["annotations"]:
                if isinstance(annotation, dict) and type(image := annotation.get("image_id")) is int:
                    drawn.setdefault(image, []).append(annotation)
            by_annotation: dict[tuple[int, int], dict] = {}
            for position, image in enumerate(lists["images"]):
                sent_id += 1
                try:
                    boxes = drawn.get(field(image, "id", int), [])
                    if len(boxes) != 1:
                        raise Malformed(f"{len(boxes)} annotations, expected one")
                    key = field(image, "original_id", int), field(boxes[0], "original_id", int)
                    caption = field(image, "caption", str)
                except Malformed as error:
                    problems.add(path, "malformed expression", f"number {position}: {error}")
                    continue
                if key not in by_annotation:
                    ref_id += 1
                    ids = {"ref_id": ref_id, "image_id": key[0], "ann_id": key[1]}
                    by_annotation[key] = {**ids, "split": split, "sentences": []}
                by_annotation[key]["sentences"].append({"sent_id": sent_id, "sent": caption})
            refs[path] = list(by_annotation.values())
            used |= set(by_annotation)
        image_ids, meant = ({pair[place] for pair in used} for place in (0, 1))
        return Content(refs, self.of_coco(image_ids, meant, problems), [MADE])

    def listed(self) -> dict[Path, set[str]]:
        names = [coco.file_names(coco.read_bytes(path)) for path in self.splits.values()]
        return {self.image_folder(): set().union(*names)}
