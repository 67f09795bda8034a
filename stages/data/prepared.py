"""The prepared dataset: what is on disk and how it is read. The contract between `prepare` and every later stage.

A prepared dataset is a folder with

- `expressions.parquet`, one row for each expression: sent_id, ref_id, ann_id, image_id (int64), split, text (string).
  split is one of `SPLITS`; where several sets are mixed it is `train` or SET_SPLIT, such as `refcoco+_testA`.
- `instances.parquet`, one row for each instance that is referred to: ann_id (int64, unique), image_id (int64), image
  (path of the image file, relative to the project's root, or absolute), width, height (int64, pixels of the original
  image), category (string), mask (string: the `counts` of a COCO compressed RLE of size [height, width]).
- `boxes.parquet`, one row for each annotated thing on the images of these instances, whether it is referred to or not:
  ann_id (int64, unique), image_id (int64), category (string), x, y, width, height (float64, pixels of the original
  image: left, top, size), sorted by image_id, ann_id. Every instance has a row; regions of crowds that nothing refers
  to have none. Where several sets are mixed, an image has the rows of each set that refers to it, with that set's ids:
  `distractors` keeps them apart.
- `dataset.json`: name, source, counts by split, the checks that passed, the fingerprint of the source; `partial`, true
  where the data are not the whole published set; `warnings` and `notes`, sentences that belong beside every number.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from models import images
from stages.runtime import experiments, layout
from stages.runtime.errors import UserError

SPLITS = ("train", "val", "testA", "testB", "test")
EXPRESSION_COLUMNS = ["sent_id", "ref_id", "ann_id", "image_id", "split", "text"]
INSTANCE_COLUMNS = ["ann_id", "image_id", "image", "width", "height", "category", "mask"]
BOX_COLUMNS = ["ann_id", "image_id", "category", "x", "y", "width", "height"]
FILES = ("expressions.parquet", "instances.parquet", "boxes.parquet", "dataset.json")
SPACE = 10**13  # where sets are mixed, ids of the set at position n start at n * SPACE; `id % SPACE` is the original


class MissingSplitError(UserError):
    """A dataset has no expression in a split; the message names those it has."""


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset in memory.

    Attributes:
        expressions: one row for each expression, sorted by sent_id, columns `EXPRESSION_COLUMNS`.
        instances: one row for each instance that is referred to, indexed by ann_id, the other columns of
            `INSTANCE_COLUMNS`.
        summary: the content of `dataset.json`.
        boxes: one row for each annotated thing, columns `BOX_COLUMNS`; None only where the dataset was not read from
            disk.
    """

    expressions: pd.DataFrame
    instances: pd.DataFrame
    summary: dict
    boxes: pd.DataFrame | None = None

    @property
    def evaluation_splits(self) -> list[str]:
        """Every split but `train`, in the order val, testA, testB, test; where sets are mixed, set by set."""
        present = [split for split in self.expressions["split"].unique() if split != "train"]
        sets = list(dict.fromkeys(map(set_of, present)))
        return sorted(present, key=lambda split: (sets.index(set_of(split)), SPLITS.index(_kind(split))))

    @property
    def validation(self) -> pd.DataFrame:
        """Expressions of `val`; where sets are mixed, those of every set's. Raises MissingSplitError."""
        kinds = self.expressions["split"].map(_kind)
        return self._rows(kinds == "val", "val")

    def distractors(self, ann_ids: Iterable[int]) -> pd.DataFrame:
        """The other things of the same category on the images of some instances.

        Returns:
            One row for each pair of instance and other thing: target (ann_id of the instance), then `BOX_COLUMNS` of
            the other thing, sorted by target, ann_id. An instance without such others has no row.

        Raises:
            ValueError: the dataset has no boxes, or one of the instances has none.
        """
        if self.boxes is None:
            raise ValueError(f"dataset {self.summary['name']!r} has no boxes")
        ids = pd.Series(ann_ids, dtype="int64").drop_duplicates()
        boxes = self.boxes.assign(part=self.boxes["ann_id"] // SPACE if self._mixed else 0)
        shared = ["image_id", "category", "part"]
        targets = boxes.loc[boxes["ann_id"].isin(ids), ["ann_id", *shared]].rename(columns={"ann_id": "target"})
        unknown = ids[~ids.isin(targets["target"])]
        if len(unknown):
            raise ValueError(f"dataset {self.summary['name']!r} has no box of annotation {unknown.iloc[0]}")
        pairs = targets.merge(boxes, on=shared)
        pairs = pairs[pairs["target"] != pairs["ann_id"]].sort_values(["target", "ann_id"])
        return pairs[["target", *BOX_COLUMNS]].reset_index(drop=True)

    @property
    def _mixed(self) -> bool:
        return any(map(set_of, self.expressions["split"].unique()))

    def split(self, name: str) -> pd.DataFrame:
        """Expressions of one split. Raises MissingSplitError where there are none."""
        return self._rows(self.expressions["split"] == name, name)

    def _rows(self, chosen: pd.Series, name: str) -> pd.DataFrame:
        rows = self.expressions[chosen].reset_index(drop=True)
        if rows.empty:
            raise MissingSplitError(
                f"dataset {self.summary['name']!r} has no expression in split {name!r}; "
                f"its splits: {sorted(set(self.expressions['split']))}"
            )
        return rows


def _kind(split: str) -> str:
    """`refcoco+_testA` -> `testA`."""
    return split.rpartition("_")[2]


def set_of(split: str) -> str:
    """The set that a split belongs to: `refcoco+_testA` -> `refcoco+`; empty where the dataset is a single set."""
    return split.rpartition("_")[0]


def write(
    folder: Path, expressions: pd.DataFrame, instances: pd.DataFrame, summary: dict, boxes: pd.DataFrame | None = None
) -> None:
    """Write a prepared dataset; the same tables give the same bytes. Without `boxes`, only the instances have some."""
    folder.mkdir(parents=True, exist_ok=True)
    expressions = expressions[EXPRESSION_COLUMNS].sort_values("sent_id")
    instances = instances[INSTANCE_COLUMNS].sort_values("ann_id")
    boxes = (boxes_of(instances) if boxes is None else boxes)[BOX_COLUMNS].sort_values(["image_id", "ann_id"])
    expressions.to_parquet(folder / "expressions.parquet", index=False)
    instances.to_parquet(folder / "instances.parquet", index=False)
    boxes.to_parquet(folder / "boxes.parquet", index=False)
    (folder / "dataset.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path, stage: str = "prepare") -> PreparedDataset:
    """Read a prepared dataset. Raises FileNotFoundError with the command that makes it.

    Args:
        stage: of DVC, that makes it; `prepare_on` where it is a further dataset.
    """
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} holds no prepared dataset: {', '.join(missing)} missing. "
            f"Make it with: {experiments.dvc('repro', f'{stage}@{folder.name}')}"
        )
    return PreparedDataset(
        expressions=pd.read_parquet(folder / "expressions.parquet"),
        instances=pd.read_parquet(folder / "instances.parquet").set_index("ann_id"),
        summary=json.loads((folder / "dataset.json").read_text(encoding="utf-8")),
        boxes=pd.read_parquet(folder / "boxes.parquet"),
    )


def read_image(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """An image of a prepared dataset, as `models.images.read` gives it: upright, 8-bit RGB.

    Args:
        size: (width, height) that the dataset states.

    Raises:
        ValueError: why the file cannot be read; who calls knows which image it is of which dataset.
    """
    image = images.read(layout.source(path))
    if image.size != size:
        raise ValueError("it is {} x {} pixels, prepared as {} x {}".format(*image.size, *size))
    return image


def boxes_of(instances: pd.DataFrame) -> pd.DataFrame:
    """`BOX_COLUMNS` of instances (`INSTANCE_COLUMNS`): the boxes of their masks, in whole pixels."""
    table = instances[["ann_id", "image_id", "category"]].reset_index(drop=True)
    masks = _compressed(instances)
    table[BOX_COLUMNS[3:]] = coco_mask.toBbox(masks).reshape(-1, 4) if masks else np.empty((0, 4))
    return table


def area_shares(instances: pd.DataFrame) -> pd.Series:
    """Area of every instance's mask as a share of its image, by the table's index."""
    areas = [int(coco_mask.area(mask)) for mask in _compressed(instances)]  # a list at once overflows with numpy 2
    return pd.Series(areas, index=instances.index) / (instances["height"] * instances["width"])


def _compressed(instances: pd.DataFrame) -> list[dict]:
    """COCO's compressed RLE of every mask."""
    sizes = zip(instances["mask"], instances["height"].tolist(), instances["width"].tolist(), strict=True)
    return [{"size": [height, width], "counts": counts.encode("ascii")} for counts, height, width in sizes]


def decode_mask(counts: str, height: int, width: int) -> np.ndarray:
    """COCO compressed RLE -> uint8 mask (height, width) of 0 and 1."""
    return coco_mask.decode({"size": [height, width], "counts": counts.encode("ascii")})


def encode_mask(mask: np.ndarray) -> str:
    """Binary mask (height, width) -> the `counts` of its COCO compressed RLE."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")
