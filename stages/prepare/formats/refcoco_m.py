"""Parquet of the hub's data set `moondream/refcoco-m`: masks drawn anew for a part of RefCOCO's val, no train split.

    ROOT/*.parquet, ROOT/data/*.parquet    a row for each image: image_id, file_name, samples, and its pixels

A sample has id, category, sentences, bbox (x, y, width, height) and mask: counts and size of an RLE. The pixels in the
column `image` are not read: images are those of COCO, as for RefCOCO itself.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from stages.prepare.coco import Annotations
from stages.prepare.formats import parquet, refused
from stages.prepare.formats.release import Content, Release
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.runtime import layout

NAME, SPLIT_BY, SPLIT = "refcoco-m", "unc", "val"
COLUMNS = ["image_id", "file_name", "samples"]
MADE = "the files have no ids of refs and expressions: a mask is one ref, and expressions are numbered in their order"


class RefcocoMFiles(Release):
    """Where the files lie."""

    @property
    def annotations(self) -> list[Path]:
        return parquet.tables(self.root)

    def complete(self) -> bool:
        return all(set(COLUMNS) <= set(refused.columns(path)) for path in self.annotations)

    def load(self, problems: Problems) -> Content:
        refs: dict[Path, list] = {}
        images: dict[int, dict] = {}
        annotations: dict[int, dict] = {}
        names: dict[str, int] = {}
        sent_id = 0
        for path in self.annotations:
            refs[path] = []
            for position, row in enumerate(_rows(path)):
                what = f"row {position}"
                try:
                    image_id, name = field(row, "image_id", int), field(row, "file_name", str)
                    for number, sample in enumerate(field(row, "samples", list)):
                        what = f"sample {number} of image {image_id}"
                        ann_id, category = field(sample, "id", int), field(sample, "category", str)
                        mask, texts = field(sample, "mask", dict), field(sample, "sentences", list)
                        size = field(mask, "size", list)
                        if len(size) != 2:
                            raise Malformed(f"size is {shown(size)}, expected [height, width]")
                        image = {"file_name": name, "height": size[0], "width": size[1]}
                        if images.setdefault(image_id, image) != image:
                            problems.add(path, "several names or sizes of one image", what)
                        if ann_id in annotations:
                            problems.add(path, "id of a sample not unique", str(ann_id))
                        annotations[ann_id] = {
                            "image_id": image_id,
                            "category_id": names.setdefault(category, len(names)),
                            "segmentation": mask,
                            "bbox": sample.get("bbox"),
                        }
                        ids = {"ref_id": ann_id, "ann_id": ann_id, "image_id": image_id, "split": SPLIT}
                        sentences = [{"sent_id": sent_id + place, "sent": text} for place, text in enumerate(texts)]
                        sent_id += len(texts)
                        refs[path].append({**ids, "sentences": sentences})
                except Malformed as error:
                    problems.add(path, "malformed row", f"{what}: {error}")
        categories = {number: {"id": number, "name": name} for name, number in names.items()}
        return Content(refs, Annotations(self.root, images, annotations, categories), [MADE])

    def listed(self) -> dict[Path, set[str]]:
        names = {row["file_name"] for path in self.annotations for row in _rows(path, ["file_name"])}
        return {self.image_folder(): {name for name in names if isinstance(name, str)}}


def _rows(path: Path, columns: list[str] = COLUMNS) -> list[dict]:
    """Some columns of a file, row by row. Raises DatasetError where it is no Parquet, or lacks one of `COLUMNS`."""
    parquet.refuse_pointer(path)
    try:
        file = pa.parquet.ParquetFile(layout.source(path))
        if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
            raise DatasetError(f"{path}: no column {', '.join(missing)}, so it is not moondream/refcoco-m")
        table = file.read(columns)
        table.validate(full=True)
        return table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a whole Parquet file: {shown(str(error))}") from None
