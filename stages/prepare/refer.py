"""The REFER layout -> a table of expressions and a table of the instances they refer to.

    ROOT/NAME/refs(SPLIT_BY).p                          list of refs: which words mean which annotation
    ROOT/NAME/instances.json                            COCO: images, annotations, categories
    ROOT/images/mscoco/images/train2014/FILE_NAME       the pictures

Nothing is dropped or repaired: what is wrong with a file stops the reading and is named.
"""

import hashlib
import io
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask
from tqdm import tqdm

from stages.prepared import EXPRESSION_COLUMNS, INSTANCE_COLUMNS

SPLITS = ("train", "val", "testA", "testB", "test")
LARGEST_SIDE = 65535  # pixels, of a JPEG
CHECKS = (
    "ids_unique",
    "splits_known",
    "splits_share_no_image",
    "annotations_exist",
    "image_files_exist",
    "masks_valid",
)


class DatasetError(ValueError):
    """A source is wrong; the message names the file and the id."""


@dataclass(frozen=True)
class Release:
    """One set of one release: where its files lie."""

    root: Path
    name: str
    split_by: str

    @property
    def refs(self) -> Path:
        return self.root / self.name / f"refs({self.split_by}).p"

    @property
    def instances(self) -> Path:
        return self.root / self.name / "instances.json"

    @property
    def images(self) -> Path:
        return self.root / "images" / "mscoco" / "images" / "train2014"


def read(release: Release, sentence: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and check one set.

    Args:
        sentence: which text of an expression, `raw` or `sent`.

    Returns:
        Expressions with `EXPRESSION_COLUMNS` and instances with `INSTANCE_COLUMNS` of `stages.prepared`, in the order
        of the refs. An instance that several refs mean is one row.

    Raises:
        DatasetError: a file is missing or malformed, or one of `CHECKS` fails.
    """
    expressions = _expressions(release.refs, sentence)
    _check_splits(release.refs, expressions)
    instances = _instances(release, expressions)
    _image_sizes(release, instances)
    return expressions, instances


def fingerprint(release: Release, instances: pd.DataFrame) -> str:
    """SHA-256 of the annotation files' bytes and of name and size of every image in use."""
    lines = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (release.refs, release.instances)]
    lines += [f"{name} {size}" for name, size in sorted(_image_sizes(release, instances).items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_refs(path: Path) -> list:
    """The list in `refs(*).p`, a pickle of Python 2 or 3. Only plain containers, strings and numbers are loaded.

    Raises:
        DatasetError: the file is missing, is no pickle, is cut off, or asks for a class, which is refused.
    """
    content = _bytes(path)
    try:
        try:
            refs = _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            refs = _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except _ClassRefused as error:
        raise DatasetError(f"{path}: asks for {error}; a refs file holds no classes, so it is refused") from None
    except Exception as error:  # a malformed pickle raises nearly anything
        raise DatasetError(f"{path}: not a whole pickle: {type(error).__name__}: {error}") from None
    if not isinstance(refs, list) or not refs:
        raise DatasetError(f"{path}: expected a list of refs, found {type(refs).__name__} of no refs")
    return refs


class _ClassRefused(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise _ClassRefused(f"{module}.{name}")


def _expressions(path: Path, sentence: str) -> pd.DataFrame:
    rows, ref_ids = [], []
    for position, ref in enumerate(load_refs(path)):
        ref_id = _field(ref, "ref_id", int, path, f"ref number {position}")
        what = f"ref {ref_id}"
        ann_id = _field(ref, "ann_id", int, path, what)
        image_id = _field(ref, "image_id", int, path, what)
        split = _field(ref, "split", str, path, what)
        sentences = _field(ref, "sentences", list, path, what)
        if not sentences:
            raise DatasetError(f"{path}: {what}: no sentences")
        ref_ids.append(ref_id)
        for item in sentences:
            sent_id = _field(item, "sent_id", int, path, what)
            text = _field(item, sentence, str, path, f"{what}, sentence {sent_id}")
            if not text.strip():
                raise DatasetError(f"{path}: {what}, sentence {sent_id}: {sentence} is empty")
            rows.append((sent_id, ref_id, ann_id, image_id, split, text))

    expressions = pd.DataFrame(rows, columns=EXPRESSION_COLUMNS)
    _check_unique(path, "ref_id", pd.Series(ref_ids))
    _check_unique(path, "sent_id", expressions["sent_id"])
    return expressions


def _check_splits(path: Path, expressions: pd.DataFrame) -> None:
    unknown = expressions[~expressions["split"].isin(SPLITS)]
    if len(unknown):
        raise DatasetError(
            f"{path}: unknown split {sorted(set(unknown['split']))} of refs {_first_ten(unknown['ref_id'].unique())}; "
            f"known: {', '.join(SPLITS)}"
        )
    splits = expressions.groupby("image_id")["split"].nunique()
    shared = splits.index[splits > 1]
    if len(shared):
        raise DatasetError(
            f"{path}: {len(shared)} images are in two splits, so a score would be taken on training images: "
            f"images {_first_ten(shared)}"
        )


def _instances(release: Release, expressions: pd.DataFrame) -> pd.DataFrame:
    path = release.instances
    content = _load_json(path)
    annotations = _by_id(path, content, "annotations")
    images = _by_id(path, content, "images")
    categories = _by_id(path, content, "categories")

    referred = expressions[["ref_id", "ann_id", "image_id"]].drop_duplicates(["ann_id", "image_id"])
    missing = referred[~referred["ann_id"].isin(annotations.keys())]
    if len(missing):
        raise DatasetError(
            f"{path}: {len(missing)} annotations that {release.refs.name} refers to are missing: "
            f"annotations {_first_ten(missing['ann_id'])} of refs {_first_ten(missing['ref_id'])}"
        )

    folder = release.images.as_posix()
    rows, masks = [], []
    for ref_id, ann_id, image_id in tqdm(referred.itertuples(index=False), "masks", len(referred), disable=None):
        what = f"annotation {ann_id}"
        annotation = annotations[ann_id]
        if annotation.get("image_id") != image_id:
            raise DatasetError(
                f"{path}: {what} is of image {annotation.get('image_id')}, "
                f"but ref {ref_id} in {release.refs.name} says image {image_id}"
            )
        if image_id not in images:
            raise DatasetError(f"{path}: {what}: no image {image_id}")
        category_id = _field(annotation, "category_id", int, path, what)
        if category_id not in categories:
            raise DatasetError(f"{path}: {what}: no category {category_id}")
        category = _field(categories[category_id], "name", str, path, f"category {category_id}")
        image = images[image_id]
        file_name = _field(image, "file_name", str, path, f"image {image_id}")
        if file_name != os.path.basename(file_name):
            raise DatasetError(f"{path}: image {image_id}: file_name {file_name!r} is not the name of a file")
        height, width = (_field(image, side, int, path, f"image {image_id}") for side in ("height", "width"))
        if not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
            raise DatasetError(f"{path}: image {image_id}: height {height}, width {width} is no size of a JPEG")
        masks.append(_encode(annotation.get("segmentation"), height, width, path, what))
        rows.append((ann_id, image_id, f"{folder}/{file_name}", width, height, category))

    instances = pd.DataFrame(rows, columns=INSTANCE_COLUMNS[:-1])
    instances["mask"] = [mask["counts"].decode("ascii") for mask in masks]
    empty = [ann_id for ann_id, mask in zip(instances["ann_id"], masks, strict=True) if not coco_mask.area(mask)]
    if len(empty):
        raise DatasetError(f"{path}: {len(empty)} masks hold no pixel: annotations {_first_ten(empty)}")
    return instances


def _encode(segmentation: object, height: int, width: int, path: Path, what: str) -> dict:
    """COCO segmentation -> compressed RLE: polygons merged to their union, or an RLE with counts a list or a string."""
    if isinstance(segmentation, list) and segmentation:
        polygons = [_polygon(polygon, height, width, path, what) for polygon in segmentation]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    if not isinstance(segmentation, dict):
        raise DatasetError(f"{path}: {what}: segmentation is neither a list of polygons nor an RLE")
    if segmentation.get("size") != [height, width]:
        raise DatasetError(
            f"{path}: {what}: RLE of size {segmentation.get('size')}, "
            f"but the image is [{height}, {width}] (height, width)"
        )
    counts = segmentation.get("counts")
    try:
        runs = np.array(counts if isinstance(counts, list) else _run_lengths(counts))
        sound = runs.ndim == 1 and runs.dtype.kind == "i" and runs.min() >= 0 and runs.max() <= height * width
        whole = sound and runs.sum() == height * width
    except (ValueError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise DatasetError(f"{path}: {what}: RLE counts do not add up to {height} x {width} pixels")
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)


def _polygon(polygon: object, height: int, width: int, path: Path, what: str) -> list:
    """The polygon x0, y0, x1, y1, ... itself, once it is sound."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DatasetError(f"{path}: {what}: a polygon needs an even number of coordinates, six or more: {polygon}")
    side = max(height, width)
    if not set(map(type, polygon)) <= {int, float} or not all(-side <= x <= 2 * side for x in polygon):
        raise DatasetError(f"{path}: {what}: a coordinate is no number or far outside the image: {polygon}")
    return polygon


def _run_lengths(counts: str) -> np.ndarray:
    """Compressed RLE string -> run lengths (runs,); `rleFrString` of the COCO API, vectorised.

    A number is written in 5-bit groups, lowest first, 48 added to each, 32 set where another follows, 16 of the last
    being the sign. From the fourth on, a number is the difference to the one two places before.

    Raises:
        ValueError, IndexError: the string is cut off or holds other characters.
    """
    codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if not last[-1] or codes.min() < 0 or codes.max() > 63:
        raise ValueError("not a compressed RLE")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 7:
        raise ValueError("a run length beyond 32 bits")
    numbers = np.add.reduceat((codes & 31) << (5 * places), starts)
    numbers -= np.where(codes[ends] & 16, 1 << (5 * (places[ends] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _image_sizes(release: Release, instances: pd.DataFrame) -> dict[str, int]:
    """Size in bytes of every image in use, by name."""
    sizes = {path.rsplit("/", 1)[1]: _size(path) for path in instances["image"].unique()}
    missing = [name for name, size in sizes.items() if size == 0]
    if missing:
        raise DatasetError(
            f"{release.images}: {len(missing)} of {len(sizes)} images are missing or empty: {_first_ten(missing)}; "
            "they are in COCO's train2014.zip"
        )
    return sizes


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _field(entry: object, key: str, kind: type, path: Path, what: str):
    """`entry[key]`, once it is of that type; an int is also an id or a size, so not negative."""
    if not isinstance(entry, dict) or key not in entry:
        raise DatasetError(f"{path}: {what}: no {key}")
    value = entry[key]
    sound = type(value) is kind and (kind is not int or 0 <= value < 2**63) and (kind is not str or _is_unicode(value))
    if not sound:
        raise DatasetError(f"{path}: {what}: {key} is {value!r}, expected {kind.__name__}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _by_id(path: Path, content: object, key: str) -> dict[int, dict]:
    entries = _field(content, key, list, path, "top level")
    ids = [_field(entry, "id", int, path, f"{key} number {position}") for position, entry in enumerate(entries)]
    _check_unique(path, f"{key} id", pd.Series(ids))
    return dict(zip(ids, entries, strict=True))


def _check_unique(path: Path, name: str, ids: pd.Series) -> None:
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise DatasetError(f"{path}: {name} not unique: {_first_ten(repeated)}")


def _load_json(path: Path) -> object:
    try:
        return json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        nearby = sorted(other.name for other in path.parent.glob("*")) or "nothing"
        raise DatasetError(f"{path}: {error.strerror}; {path.parent} holds {nearby}") from None


def _first_ten(values) -> str:
    values = list(values)
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
