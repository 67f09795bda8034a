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
from unicodedata import normalize

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stages.data.prepared import EXPRESSION_COLUMNS, SPLITS
from stages.prepare import boxes, coco, image_files
from stages.prepare.coco import Annotations
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.tables import Tables, visible
from stages.runtime import layout
from stages.statistics.evidence import FEWEST_IMAGES

HEADERS = (["ann_id", "expression"], ["ann_id", "expression", "split"])
NEEDED = ("train", "val")  # to train, and to choose the best epoch
MOST_FOLDS, LEAST_FOLDS = 10, 3  # parts that the images are split into; one becomes val, another test
MOST_LINES = 50  # of a cell


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
    referred = pd.concat([who, table[["ann_id", "image_id"]]], axis=1)
    found, notes = coco.instances(annotations, referred, problems)
    things, about_boxes = boxes.boxes(annotations, found)
    _check_file_names(instances, found, problems)
    files = image_files.check(found, images, problems)
    given = "split" in table
    if given:
        _check_splits(expressions, table, problems)
    problems.stop()

    notes += [*about_boxes, *files.notes, *boxes.disagreeing(things, found)]
    if not given:
        splits, parts = split_by_image(found, seed)
        table["split"] = table["image_id"].map(splits)
        notes.append(
            f"split by image into {parts} parts, one of them val and one test, stratified by category, seed {seed}"
        )
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
        sizes=files.sizes,
        checks=checks,
        warnings=[*files.warnings, *_ambiguous(table), *_crowds(table, annotations)],
        notes=notes,
    )


def split_by_image(instances: pd.DataFrame, seed: int) -> tuple[dict[int, str], int]:
    """The split of every image, and the number of parts, of which one is val, one test and the others train.

    There are 10 parts, or as many fewer, at least 3, as val and test need to have `FEWEST_IMAGES` images each. Parts
    are not quite equal: where one of the two is a little short, images of train fill it up. Categories have about equal
    shares in each. It depends on which annotations there are, not on the order of lines or on how many expressions each
    has.

    Args:
        instances: image_id and category of every annotation in use.

    Raises:
        DatasetError: there are fewer than 10 images.
    """
    images = instances["image_id"].nunique()
    if images < MOST_FOLDS:
        raise DatasetError(
            f"{images} images are too few to be split by themselves, {MOST_FOLDS} are needed; "
            "add a column split to the CSV, or more images"
        )
    parts = min(MOST_FOLDS, images // FEWEST_IMAGES)
    enough = parts >= LEAST_FOLDS
    held_out = _held_out(instances, seed, parts if enough else MOST_FOLDS)
    splits = dict.fromkeys(sorted(instances["image_id"].tolist()), "train")
    for split, image_ids in zip(("val", "test"), held_out, strict=False):
        splits |= dict.fromkeys(image_ids, split)
    train = [image_id for image_id, split in splits.items() if split == "train"]
    for split, image_ids in zip(("val", "test"), held_out, strict=False):
        for _ in range(FEWEST_IMAGES - len(image_ids) if enough else 0):
            splits[train.pop()] = split
    return splits, parts if enough else MOST_FOLDS


def _held_out(instances: pd.DataFrame, seed: int, folds: int) -> list[list[int]]:
    """The image_ids of the first two of some folds that are not empty.

    Categories of fewer annotations than folds, which cannot be in every fold, are stratified as one category.
    """
    category = instances["category"]
    category = category.where(category.map(category.value_counts()) >= folds, "")  # "" is the name of no other category
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the rare ones may be fewer than the folds even together
        parts = [part for _, part in dealer.split(instances, category, groups=instances["image_id"]) if len(part)]
    return [instances["image_id"].iloc[part].unique().tolist() for part in parts[:2]]


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
    """The number of the first line and the values of every record that is not blank; white space in values is joined.

    A record is one line. Where it is no CSV, following lines are added until it is, as in a cell of several lines, but
    none that is a record by itself: quotes that do not match would swallow it.
    """
    content = coco.read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}: line {number}: not UTF-8; save the file as CSV in UTF-8") from None
    lines = list(io.StringIO(text, newline=None))
    columns, place = None, 0
    while place < len(lines):
        number, record = place + 1, lines[place]
        place += 1
        wrong = None
        while isinstance(values := _values(record), csv.Error):
            wrong = wrong or values
            end = place >= len(lines) or place - number >= MOST_LINES or _whole(lines[place], columns)
            if end:
                kind = 'quotes that do not match; commas and quotes are written "a, b" and "a ""b"""'
                problems.add(path, kind, f"line {number}: {wrong}")
                place = number  # the lines that did not help are read by themselves
                break
            record += lines[place]
            place += 1
        else:
            if any(values):
                columns = columns or len(values)
                yield number, values


def _values(record: str) -> list[str] | csv.Error:
    """The values of a record, accents composed (NFC), white space joined; what is wrong where it is no CSV."""
    try:
        found = next(csv.reader(io.StringIO(record, newline=""), strict=True), [])
    except csv.Error as error:
        return error
    return [" ".join(normalize("NFC", value).split()) for value in found]


def _whole(line: str, columns: int | None) -> bool:
    """Whether a line is a record by itself: as many values as others, a whole number among them, quotes in pairs."""
    values = _values(line)
    if isinstance(values, csv.Error) or line.count('"') % 2:
        return False
    return len(values) == columns and any(value.isascii() and value.isdigit() for value in values)


def _row(number: int, header: list[str], values: list[str], path: Path, problems: Problems) -> dict | None:
    if len(values) != len(header):
        kind = f"the number of values in the line is not {len(header)}; an expression with a comma stands in quotes"
        problems.add(path, kind, f"line {number}: {shown(values)}")
        return None
    line = dict(zip(header, values, strict=True))
    digits = line["ann_id"]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        problems.add(path, "ann_id is not a whole number", f"line {number}: {shown(digits)}")
    elif not visible(line["expression"]):
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
