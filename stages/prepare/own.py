"""A user's own data: a COCO `instances.json` and a CSV of expressions -> the tables of a dataset.

    ann_id,expression,split
    11,the red cup,train
    11,"cup next to the plate, on the left",train

The expressions of an annotation are one ref. Without the column `split`, `split_by_image` splits the images.
"""

import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stages.data.prepared import EXPRESSION_COLUMNS, SPLITS
from stages.prepare import boxes, coco, image_files
from stages.prepare.coco import Annotations
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.tables import Tables
from stages.runtime import layout

HEADERS = (["ann_id", "expression"], ["ann_id", "expression", "split"])
NEEDED = ("train", "val")  # to train, and to choose the best epoch
FOLDS = 10  # of the images; one becomes val, another test


def read(instances: Path, expressions: Path, images: Path, seed: int) -> Tables:
    """Read and check a user's own data.

    Args:
        instances: COCO file; entries that nothing refers to may be wrong.
        expressions: CSV in UTF-8 with a header; the number of a line becomes its `sent_id`.
        images: folder that the file names are relative to.
        seed: of the split by image, where the CSV has no split.

    Raises:
        DatasetError: a file is missing or malformed, or entries are wrong; the message names every kind of problem.
    """
    if not layout.source(images).is_dir():
        raise DatasetError(f"{images}: no such folder; datasets.NAME.images in params.yaml names that of the images")
    problems = Problems()
    table = _csv(expressions, problems)
    annotations = coco.load(instances, problems)
    table = _with_images(table, annotations, expressions, problems)
    who = ("line " + table["sent_id"].astype(str) + f" of {expressions.name}").rename("who")
    found = coco.instances(annotations, pd.concat([who, table[["ann_id", "image_id"]]], axis=1), problems)
    things, notes = boxes.boxes(annotations, found)
    _check_file_names(instances, found, problems)
    sizes = image_files.check(found, images, problems)
    given = "split" in table
    if given:
        _check_splits(expressions, table, problems)
    problems.stop()

    notes += boxes.disagreeing(things, found)
    if not given:
        table["split"] = table["image_id"].map(split_by_image(found, seed))
        notes.append(f"split by image, a tenth for val and a tenth for test, stratified by category, seed {seed}")
    found["image"] = [image_files.join(images, name) for name in found["image"]]
    checks = [
        "every line refers to an annotation, none twice with the same words",
        "masks valid, not empty and inside their images",
        "image files exist, whole and of the stated size",
        "no image in two splits",
    ]
    return Tables(
        expressions=table[EXPRESSION_COLUMNS],
        instances=found,
        boxes=things,
        files=[instances, expressions],
        sizes=sizes,
        checks=checks,
        warnings=[*_ambiguous(table), *_crowds(table, annotations)],
        notes=notes,
    )


def split_by_image(instances: pd.DataFrame, seed: int) -> dict[int, str]:
    """The split of every image: a tenth for val, a tenth for test, with categories in about equal shares in each.

    It depends on which annotations there are, not on the order of lines or on how many expressions each has.
    Categories of fewer than `FOLDS` annotations, which cannot be in every fold, are stratified as one category.

    Args:
        instances: image_id and category of every annotation in use.

    Raises:
        DatasetError: there are fewer images than folds.
    """
    images = instances["image_id"].nunique()
    if images < FOLDS:
        raise DatasetError(
            f"{images} images are too few to be split by themselves, {FOLDS} are needed; "
            "add a column split to the CSV, or more images"
        )
    category = instances["category"]
    category = category.where(category.map(category.value_counts()) >= FOLDS, "")  # "" is the name of no other category
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the rare ones may be fewer than the folds even together
        parts = [part for _, part in folds.split(instances, category, groups=instances["image_id"]) if len(part)]
    splits = dict.fromkeys(instances["image_id"].tolist(), "train")
    for split, part in zip(("val", "test"), parts, strict=False):
        splits |= dict.fromkeys(instances["image_id"].iloc[part].tolist(), split)
    return splits


def _csv(path: Path, problems: Problems) -> pd.DataFrame:
    """sent_id, ref_id, ann_id, text and, where the file has it, split. A wrong line is a problem and gives no row.

    Raises:
        DatasetError: the file is missing, is not UTF-8 or has another header, or every line is wrong.
    """
    lines = _lines(path, problems)
    number, header = next(lines, (1, []))
    if sorted(header) not in HEADERS:
        raise DatasetError(
            f"{path}: line {number}: found {shown(','.join(header))}, expected the names of the columns, separated by "
            f"commas: {' or '.join(map(','.join, HEADERS))}"
        )
    rows = [row for number, values in lines if (row := _row(number, header, values, path, problems))]
    if not rows:
        problems.add(path, "no expression", "no line below the first can be used")
        problems.stop()
    table = pd.DataFrame(rows)
    first = table.groupby(["ann_id", "text"])["sent_id"].transform("first")
    repeats = first != table["sent_id"]
    for line, earlier in zip(table.loc[repeats, "sent_id"], first[repeats], strict=True):
        problems.add(path, "line repeats an earlier one, delete it", f"line {line} repeats line {earlier}")
    return table


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """The number and the stripped values of every line that is not blank."""
    content = coco.read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}: line {number}: not UTF-8; save the file as CSV in UTF-8") from None
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        try:
            values = [value.strip() for value in next(csv.reader([line], strict=True))]
        except csv.Error as error:
            kind = 'quotes that do not match; commas and quotes are written "a, b" and "a ""b"""'
            problems.add(path, kind, f"line {number}: {error}")
            continue
        if any(values):
            yield number, values


def _row(number: int, header: list[str], values: list[str], path: Path, problems: Problems) -> dict | None:
    if len(values) != len(header):
        kind = f"the number of values in the line is not {len(header)}; an expression with a comma stands in quotes"
        problems.add(path, kind, f"line {number}: {shown(values)}")
        return None
    line = dict(zip(header, values, strict=True))
    digits = line["ann_id"]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        problems.add(path, "ann_id is not a whole number", f"line {number}: {shown(digits)}")
    elif not line["expression"]:
        problems.add(path, "empty expression", f"line {number}")
    elif line.get("split", "train") not in SPLITS:
        problems.add(path, f"unknown split, known are {', '.join(SPLITS)}", f"line {number}: {shown(line['split'])}")
    else:
        ann_id = int(digits)
        row = {"sent_id": number, "ref_id": ann_id, "ann_id": ann_id, "text": line["expression"]}
        return row | {key: line[key] for key in ("split",) if key in line}
    return None


def _with_images(table: pd.DataFrame, source: Annotations, path: Path, problems: Problems) -> pd.DataFrame:
    """The table with `image_id`. A line whose annotation is unknown or has no image is a problem and gives no row."""
    image_ids = {}
    for line, ann_id in zip(table["sent_id"], table["ann_id"], strict=True):
        if ann_id not in source.annotations:
            problems.add(path, f"ann_id is the id of no annotation in {source.path.name}", f"line {line}: {ann_id}")
        elif ann_id not in image_ids:
            try:
                image_ids[ann_id] = field(source.annotations[ann_id], "image_id", int)
            except Malformed as error:
                problems.add(source.path, "annotation without a sound image_id", f"annotation {ann_id}: {error}")
    known = table[table["ann_id"].isin(image_ids)].reset_index(drop=True)
    return known.assign(image_id=known["ann_id"].map(image_ids).astype("int64"))


def _check_file_names(path: Path, instances: pd.DataFrame, problems: Problems) -> None:
    """A file under several image ids is a problem: unnoticed, it could be in two splits."""
    images = instances[["image", "image_id"]].drop_duplicates()
    for name, ids in images.groupby("image")["image_id"]:
        if len(ids) > 1:
            problems.add(path, "one file_name for several images", f"{name}: images {', '.join(map(str, ids))}")


def _check_splits(path: Path, table: pd.DataFrame, problems: Problems) -> None:
    for split in NEEDED:
        if not (table["split"] == split).any():
            problems.add(path, f"no line of a split that is needed, {' and '.join(NEEDED)} are", split)
    lines = table.drop_duplicates(["image_id", "split"])
    for image_id, rows in lines[lines["image_id"].duplicated(keep=False)].groupby("image_id"):
        places = [f"{split} in line {line}" for split, line in zip(rows["split"], rows["sent_id"], strict=True)]
        problems.add(path, "image in two splits, give all its lines one", f"image {image_id}: {', '.join(places)}")


def _ambiguous(table: pd.DataFrame) -> list[str]:
    meant = table.groupby(["image_id", "text"])["ann_id"].transform("nunique")
    lines = table[meant > 1].sort_values(["image_id", "text", "sent_id"])
    if lines.empty:
        return []
    one, other = lines["sent_id"].iloc[:2]
    return [f"{len(lines):,} expressions mean several objects of their image, such as lines {one} and {other}"]


def _crowds(table: pd.DataFrame, source: Annotations) -> list[str]:
    marked = [ann_id for ann_id in table["ann_id"].unique() if source.annotations[ann_id].get("iscrowd")]
    if not marked:
        return []
    return [f"{len(marked):,} masks are marked iscrowd, and may cover several objects, such as annotation {marked[0]}"]
