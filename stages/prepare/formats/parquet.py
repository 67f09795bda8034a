"""Parquet files of the hub's data sets `jxu124/refcoco`, `refcocoplus` and `refcocog`: a row for each ref.

    ROOT/*.parquet, ROOT/data/*.parquet    of one set, all its splits; the column `split` tells them apart
    ROOT/instances_train2014.json          COCO's, or another of `release.COCO_FILES`; may be absent

Segmentation and box are taken from the column `raw_anns`, where COCO wrote them, not from `bbox`, which has corners.
"""

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet

from stages.prepare import coco
from stages.prepare.coco import Annotations
from stages.prepare.formats import coco_categories, refused
from stages.prepare.formats.release import Content, Release
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.published import COUNTS
from stages.runtime import layout
from stages.runtime.refer_sets import SPLIT_BY

COLUMNS = ["ref_id", "ann_id", "image_id", "split", "sentences", "raw_anns", "raw_image_info"]
POINTER = b"version https://git-lfs"
MOST_VALUES = 10_000_000  # of a column; a page of few bytes may say that it has any number


class ParquetFiles(Release):
    """Where the files of one set lie."""

    @property
    def tables(self) -> list[Path]:
        return tables(self.root)

    @property
    def annotations(self) -> list[Path]:
        return [*self.tables, *self.coco_files()]

    def complete(self) -> bool:
        """Whether the files have the columns, and as many refs in each split as the set; of a part, its path tells."""
        if not all(set(COLUMNS) <= set(refused.columns(path)) for path in self.tables):
            return False
        splits = pa.chunked_array(
            [chunk for path in self.tables for chunk in read_columns(path, ["split"])["split"].chunks]
        )
        counts = {each["values"]: each["counts"] for each in splits.value_counts().to_pylist()}
        known = [key for key, split in COUNTS.items() if counts == {name: refs for name, (refs, *_) in split.items()}]
        if known:
            return (self.name, self.split_by) in known
        names = {part.replace("plus", "+") for part in self.root.parts}
        return self.name in names and self.split_by == SPLIT_BY[self.name][0]

    def load(self, problems: Problems) -> Content:
        refs: dict[Path, list] = {}
        images, annotations = _Entries("image", "raw_image_info"), _Entries("annotation", "raw_anns")
        for path in self.tables:
            rows = [column.to_pylist() for column in read_columns(path, COLUMNS).columns]
            refs[path] = [
                {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "split": split, "sentences": sentences}
                for ref_id, ann_id, image_id, split, sentences in zip(*rows[:5], strict=True)
            ]
            for ann_id, image_id, annotation, image in zip(*rows[1:3], *rows[5:], strict=True):
                images.add(path, image_id, image, problems)
                annotations.add(path, ann_id, annotation, problems, image_id=image_id)
        if not self.coco_files():
            own = Annotations(self.root, images.by_id, annotations.by_id, coco_categories.BY_ID)
            return Content(refs, own, [coco_categories.NOTE])
        others = self.of_coco(images.by_id, (), problems)
        every = {**others.annotations, **annotations.by_id}
        return Content(refs, Annotations(self.root, images.by_id, every, others.categories))

    def listed(self) -> dict[Path, set[str]]:
        names: set[str] = set()
        for path in self.tables:
            for info in read_columns(path, ["raw_image_info"]).columns[0].unique().to_pylist():
                names |= coco.file_names(str(info).encode())
        return {self.image_folder(): names}


class _Entries:
    """COCO's entries in a column of JSON, by id."""

    def __init__(self, what: str, column: str):
        self.by_id: dict[int, dict] = {}
        self._what, self._column = what, column
        self._written: dict[int, str] = {}

    def add(self, path: Path, number: object, text: object, problems: Problems, **given: object) -> None:
        """Add the entry that a text holds. `given` stands in for keys that it lacks."""
        if type(number) is not int or (known := self._written.get(number)) == text:
            return  # of a number that is none, the refs tell
        if known is not None:
            problems.add(path, f"several {self._column} of one {self._what}", f"{self._what} {shown(number)}")
            return
        try:
            loaded = orjson.loads(text)
            if not isinstance(loaded, dict):
                raise Malformed(f"found {shown(loaded)}")
            entry = {"id": number, **given, **loaded}
            if field(entry, "id", int) != number:
                raise Malformed(f"id is {entry['id']}")
        except (orjson.JSONDecodeError, Malformed) as error:
            what = f"{self._what} {shown(number)}"
            problems.add(path, f"{self._column} is not COCO's entry", f"{what}: {error}")
            return
        self._written[number] = text
        self.by_id[number] = entry


def tables(root: Path) -> list[Path]:
    """Every Parquet file in a folder or its folder `data`; `root/*.parquet` where there is none."""
    folders = [folder for folder in (root, root / "data") if layout.source(folder).is_dir()]
    found = [folder / path.name for folder in folders for path in layout.source(folder).iterdir()]
    return sorted(path for path in found if path.suffix == ".parquet") or [root / "*.parquet"]


def refuse_pointer(path: Path) -> None:
    """Raises DatasetError where Git LFS has left a pointer in place of a file, or there is no file."""
    with coco.opened(path) as file:
        if file.read(len(POINTER)) == POINTER:
            raise DatasetError(f"{path}: a pointer of Git LFS in place of the file: run `git lfs pull` there")


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a file. Raises DatasetError where it is no Parquet, or lacks one of them."""
    refuse_pointer(path)
    content = coco.read_bytes(path)
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(content))
        if reason := refused.of_columns(file.schema_arrow.names):
            raise DatasetError(f"{path}: {reason}")
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise DatasetError(
                f"{path}: no column {', '.join(missing)}; it has {shown(file.schema_arrow.names)}, so it is none of "
                "jxu124/refcoco, jxu124/refcocoplus and jxu124/refcocog"
            )
        groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
        values = [group.column(place).num_values for group in groups for place in range(group.num_columns)]
        if sum(values) > MOST_VALUES * len(file.schema_arrow.names):
            raise DatasetError(f"{path}: {sum(values):,} values, more than any of these sets has")
        table = file.read(columns)
        table.validate(full=True)
        return table.select(columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a whole Parquet file: {shown(str(error))}") from None
