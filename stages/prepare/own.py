"""One's own data: a COCO `instances.json` and a CSV of expressions -> the tables of a dataset.

    ann_id,expression,split
    11,the red cup,train
    11,cup next to the plate,train

Without the column `split`, pictures are dealt out by `split_by_image`. The expressions of an annotation are one ref.
"""

import csv
import io
from pathlib import Path

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stages.prepare import coco, pictures
from stages.prepare.problems import DatasetError, Problems, shown
from stages.prepare.tables import Tables, check_splits
from stages.prepared import EXPRESSION_COLUMNS

FOLDS = 10  # of the pictures; one becomes val, one test


def read(instances: Path, expressions: Path, images: Path, seed: int) -> Tables:
    """Read and check one's own data.

    Args:
        instances: COCO file; what is not referred to may be anything.
        expressions: CSV in UTF-8 with a header; `sent_id` becomes the line's number.
        images: folder that the file names are relative to.
        seed: of the split, where the CSV has none.

    Raises:
        DatasetError: a file is missing or malformed, or something in it is wrong; everything wrong is named.
    """
    problems = Problems()
    table = _csv(expressions, problems)
    annotations = coco.load(instances, problems)
    image_ids = [annotations.annotations.get(ann_id, {}).get("image_id") for ann_id in table["ann_id"]]
    table["image_id"] = [number if type(number) is int else -1 for number in image_ids]
    who = "line " + table["sent_id"].astype(str) + f" of {expressions.name}"
    referred = pd.DataFrame({"who": who, "ann_id": table["ann_id"], "image_id": table["image_id"]})
    found = coco.instances(annotations, referred, problems)
    sizes = pictures.check(found, images, problems)
    if "split" in table:
        check_splits(expressions, table, problems)
    problems.stop()

    notes = []
    if "split" not in table:
        table["split"] = split_by_image(table, found, seed)
        notes.append(f"split by image, a tenth for val and a tenth for test, stratified by category, seed {seed}")
    found["image"] = [pictures.join(images, name) for name in found["image"]]
    checks = [
        "every line refers to an annotation",
        "masks valid, not empty and inside their images",
        "image files exist, whole and of the stated size",
        "no image in two splits",
    ]
    return Tables(table[EXPRESSION_COLUMNS], found, [instances, expressions], sizes, checks, notes=notes)


def split_by_image(expressions: pd.DataFrame, instances: pd.DataFrame, seed: int) -> list[str]:
    """Split of every expression: whole images, categories in about the same shares in every split.

    Raises:
        DatasetError: there are fewer images than folds.
    """
    images = expressions["image_id"].nunique()
    if images < FOLDS:
        raise DatasetError(f"{images} images are too few to split; give the CSV a column split, or {FOLDS} images")
    categories = expressions["ann_id"].map(instances.set_index("ann_id")["category"])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    splits = pd.Series("train", index=range(len(expressions)))
    parts = folds.split(expressions, categories, groups=expressions["image_id"])
    for split, (_, chosen) in zip(("val", "test"), parts, strict=False):
        splits.iloc[chosen] = split
    return splits.tolist()


def _csv(path: Path, problems: Problems) -> pd.DataFrame:
    """sent_id, ref_id, ann_id, text and, where the file has it, split."""
    try:
        text = coco.read_bytes(path).decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(lines, [])
        if len(set(header)) < len(header) or set(header) - {"split"} != {"ann_id", "expression"}:
            raise DatasetError(
                f"{path}: its first line must name the columns ann_id,expression or ann_id,expression,split; "
                f"found {shown(header)}"
            )
        rows = []
        for values in lines:
            if values:
                _add(rows, lines.line_num, header, values, path, problems)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV in UTF-8: {error}") from None
    if not rows:
        problems.add(path, "no expression", "the file has no line that can be used")
        problems.stop()
    return pd.DataFrame(rows)


def _add(rows: list[dict], number: int, header: list[str], values: list[str], path: Path, problems: Problems) -> None:
    if len(values) != len(header):
        problems.add(path, f"line of {len(values)} values, expected {len(header)}", f"line {number}: {shown(values)}")
        return
    line = dict(zip(header, (value.strip() for value in values), strict=True))
    if not (line["ann_id"].isascii() and line["ann_id"].isdigit() and len(line["ann_id"]) < 19):
        problems.add(path, "ann_id is no id", f"line {number}: {shown(line['ann_id'])}")
    elif not line["expression"]:
        problems.add(path, "empty expression", f"line {number}")
    else:
        ann_id = int(line["ann_id"])
        row = {"sent_id": number, "ref_id": ann_id, "ann_id": ann_id, "text": line["expression"]}
        rows.append(row | ({"split": line["split"]} if "split" in line else {}))
