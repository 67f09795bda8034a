"""COCO's `instances.json` -> the instances that expressions refer to, each with a sound mask."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from unicodedata import normalize

import numpy as np
import orjson
import pandas as pd
from pycocotools import mask as coco_mask

from stages.data.prepared import INSTANCE_COLUMNS
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.runtime import layout
from stages.runtime.progress import bar

LARGEST_SIDE = 65535  # pixels, of a JPEG
LONGEST_OUTLINE = 2**22  # pixels, of all polygons of a mask; drawing takes 50 bytes and 0.2 microseconds for each
FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
BEYOND = 1  # pixels that a polygon may reach out of its image, since coordinates are rounded
LISTS = ("images", "annotations", "categories")
PIECE = 2**22  # bytes of a file that are parsed together
START = re.compile(rb'"annotations"\s*:\s*\[')
BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")  # the end of an entry, and what stands before the next
END = re.compile(rb"\}\s*\]")  # of an entry and of the list
POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[^"]*\]')  # [ to the last ] before the next key
NUMBERS = {int, float}


@dataclass(frozen=True)
class Annotations:
    """The entries of an `instances.json`, by id."""

    path: Path
    images: dict[int, dict]
    annotations: dict[int, dict]
    categories: dict[int, dict]


def load(path: Path, problems: Problems) -> Annotations:
    """Read the file. Entries without an id and repeated ids are problems.

    Raises:
        DatasetError: the file is missing, is not JSON or lacks one of its three lists.
    """
    return _by_ids(path, read_lists(path, LISTS), problems)


def load_on(path: Path, image_ids: Collection[int], meant: Collection[int], problems: Problems) -> Annotations:
    """As `load`, of some images only; entries of others are not checked.

    The segmentation of an annotation is left out, and may be anything, where it has a sound box and is not one of those
    that are `meant`. A file that is written as COCO's own is parsed piece by piece, which takes a fraction of the
    memory.

    Raises:
        DatasetError: as `load`.
    """
    try:
        with opened(path) as file:
            content = _piecewise(file, image_ids, set(meant))
    except orjson.JSONDecodeError:
        content = read_lists(path, LISTS)
        sizes = _sizes(content["images"], image_ids)
        content["annotations"] = _on_images(content["annotations"], sizes, set(meant))
    lists = _lists(path, content, LISTS)
    lists["images"] = [image for image in lists["images"] if _number(image, "id") in image_ids]
    return _by_ids(path, lists, problems)


def file_names(content: bytes) -> set[str]:
    """Every file name in the bytes of an `instances.json`, sound or not: found in a tenth of the time of parsing it."""
    names = set()
    for name in set(FILE_NAME.findall(content)):
        try:
            names.add(orjson.loads(name))
        except orjson.JSONDecodeError:  # as for invalid UTF-8, of which `load` tells
            continue
    return names


def instances(source: Annotations, referred: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, list[str]]:
    """The instances that are referred to, and notes on what was left out of them. A wrong one is a problem, no row.

    Args:
        referred: who, ann_id, image_id: who refers, to which annotation, on which image.

    Returns:
        `INSTANCE_COLUMNS`, in the order of `referred`; `image` is the file's name as the source states it. And notes.
    """
    rows, images, fragments = [], {}, {}
    pairs = referred[["who", "ann_id", "image_id"]].drop_duplicates(["ann_id", "image_id"])
    for who, ann_id, image_id in bar(pairs.itertuples(index=False, name=None), "masks", len(pairs)):
        try:
            rows.append(_instance(source, images, who, ann_id, image_id))
        except Wrong as error:
            problems.add(source.path, error.kind, error.offender)
            continue
        segmentation = source.annotations[ann_id]["segmentation"]
        if dropped := len(segmentation) - len(_polygons(segmentation)):
            fragments[ann_id] = dropped
    notes = [
        f"polygons left out, as fewer than 6 numbers are no area: {sum(fragments.values()):,}; masks that had them: "
        f"{len(fragments):,}, such as that of annotation {ann_id}"
        for ann_id in list(fragments)[:1]
    ]
    return pd.DataFrame(rows, columns=INSTANCE_COLUMNS), notes


def sound_box(box: object, width: int, height: int) -> bool:
    """Whether it is x, y, width, height inside an image of this size."""
    if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
        return False
    left, top, across, down = box
    near = left >= -BEYOND and top >= -BEYOND and across >= 0 and down >= 0
    return near and left + across <= width + BEYOND and top + down <= height + BEYOND


def category_name(category: object) -> str:
    """The name of a category, its accents composed (NFC), so that what looks the same is the same. Raises Malformed."""
    return normalize("NFC", field(category, "name", str))


def read_lists(path: Path, keys: Iterable[str]) -> dict[str, list]:
    """Lists in a file in COCO's format, by key. Raises DatasetError where it is missing, not JSON or lacks one."""
    return _lists(path, read_json(path), keys)


def read_json(path: Path) -> object:
    """The content of a JSON file. Raises DatasetError where it is missing or not JSON."""
    try:
        return orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises DatasetError where it cannot be read; the message names what lies beside it."""
    with opened(path) as file:
        return file.read()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises DatasetError as `read_bytes`."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read bytes from. Raises DatasetError where it cannot be; the message names what lies beside it."""
    try:
        with layout.source(path).open("rb") as file:
            yield file
    except OSError as error:
        folder = next((above for above in path.parents if layout.source(above).is_dir()), Path())
        nearby = sorted(other.name for other in layout.source(folder).glob("*"))
        raise DatasetError(
            f"{path}: {error.strerror}; {folder} holds {shown(nearby) if nearby else 'nothing'}"
        ) from None


class Wrong(Exception):
    """An entry is wrong: carries the kind of problem, and which entry has it."""

    def __init__(self, kind: str, offender: str):
        super().__init__(kind, offender)
        self.kind, self.offender = kind, offender


def _lists(path: Path, content: object, keys: Iterable[str]) -> dict[str, list]:
    try:
        return {key: field(content, key, list) for key in keys}
    except Malformed as error:
        raise DatasetError(f"{path}: top level: {error}") from None


def _piecewise(file: BinaryIO, image_ids: Collection[int], meant: set[int]) -> dict:
    """The content of a file in COCO's format, with the annotations that `_on_images` keeps.

    A piece is cut where an entry seems to end. A cut that is none, as one inside a text, leaves a piece that is not
    JSON, since a value is not whole before its end. So what is returned is what the whole file holds.

    Raises:
        orjson.JSONDecodeError: the file is written otherwise, or is not JSON.
    """
    head = b""
    while not (start := START.search(head)) and (more := file.read(PIECE)):
        head += more
    if not start:
        raise orjson.JSONDecodeError("no annotations", "", 0)
    before = orjson.loads(head[: start.end()] + b"]}")
    sizes = _sizes(before.get("images"), image_ids)
    annotations, rest = [], head[start.end() :]
    while not (end := END.search(rest)):
        cut = BETWEEN.search(rest, PIECE)
        if cut:
            annotations += _on_images_of(rest[: cut.start() + 1], sizes, meant)
            rest = rest[cut.end() :]
        more = file.read(PIECE)
        if not more and not cut:
            raise orjson.JSONDecodeError("annotations have no end", "", 0)
        rest += more
    annotations += _on_images_of(rest[: end.start() + 1], sizes, meant)
    after = orjson.loads(b'{"":[' + rest[end.end() - 1 :] + file.read())
    if before.get("annotations") != [] or "annotations" in after:
        raise orjson.JSONDecodeError("annotations stand in two places", "", 0)
    return before | after | {"annotations": annotations}


def _on_images_of(piece: bytes, sizes: dict[int, tuple[int | None, int | None]], meant: set[int]) -> list[dict]:
    """What `_on_images` keeps of the annotations in a piece. Polygons are parsed only where one may be needed."""
    if not meant:
        found = _on_images(orjson.loads(b"[%b]" % POLYGONS.sub(b'"segmentation":0', piece)), sizes, meant)
        if not any("segmentation" in annotation for annotation in found):
            return found
    return _on_images(orjson.loads(b"[%b]" % piece), sizes, meant)


def _sizes(images: object, image_ids: Collection[int]) -> dict[int, tuple[int | None, int | None]]:
    """The width and the height of some images by id, None where their entries do not state them."""
    sizes = dict.fromkeys(image_ids, (None, None))
    for image in images if isinstance(images, list) else []:
        if (number := _number(image, "id")) in sizes:
            sizes[number] = (_number(image, "width"), _number(image, "height"))
    return sizes


def _on_images(annotations: list, sizes: dict[int, tuple[int | None, int | None]], meant: set[int]) -> list[dict]:
    """The annotations on images of `sizes`; those with a sound box without their segmentation, unless `meant`."""
    found = [annotation for annotation in annotations if _number(annotation, "image_id") in sizes]
    for annotation in found:
        width, height = sizes[annotation["image_id"]]
        if width is None or height is None or _number(annotation, "id") in meant:
            continue
        if sound_box(annotation.get("bbox"), width, height):
            annotation.pop("segmentation", None)
    return found


def _number(entry: object, key: str) -> int | None:
    """The integer that stands under a key; None where there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if type(value) is int else None


def _by_ids(path: Path, lists: dict[str, list], problems: Problems) -> Annotations:
    return Annotations(path, **{key: _by_id(path, key, entries, problems) for key, entries in lists.items()})


def _by_id(path: Path, key: str, entries: list, problems: Problems) -> dict[int, dict]:
    by_id = {}
    for position, entry in enumerate(entries):
        try:
            number = field(entry, "id", int)
        except Malformed as error:
            problems.add(path, f"{key} without a sound id", f"number {position}: {error}")
            continue
        if number in by_id:
            problems.add(path, f"{key} id not unique", str(number))
        by_id[number] = entry
    return by_id


def _instance(source: Annotations, images: dict, who: str, ann_id: int, image_id: int) -> tuple:
    """A row of `INSTANCE_COLUMNS`. Raises Wrong. `images` remembers what `_image` found of each image."""
    what = f"annotation {ann_id}"
    if ann_id not in source.annotations:
        raise Wrong("annotation missing", f"{what} of {who}")
    annotation = source.annotations[ann_id]
    if annotation.get("image_id") != image_id:
        raise Wrong(
            "annotation is of another image",
            f"{what} is of image {shown(annotation.get('image_id'))}, but {who} says image {image_id}",
        )
    if image_id not in images:
        try:
            images[image_id] = _image(source, image_id, what)
        except Wrong as error:
            images[image_id] = error
    if isinstance(known := images[image_id], Wrong):
        raise Wrong(known.kind, known.offender)
    name, height, width = known
    try:
        category_id = field(annotation, "category_id", int)
        category = category_name(source.categories.get(category_id, {}))
    except Malformed as error:
        wrong = f"{what}, category_id {shown(annotation.get('category_id'))}: {error}"
        raise Wrong("no sound category", wrong) from None
    mask = encode(annotation.get("segmentation"), height, width, what)
    if not coco_mask.area(mask):
        raise Wrong("mask without a pixel", what)
    return ann_id, image_id, name, width, height, category, mask["counts"].decode("ascii")


def _image(source: Annotations, image_id: int, what: str) -> tuple[str, int, int]:
    """file_name, height, width of the image of an annotation, `what`. Raises Wrong."""
    if image_id not in source.images:
        raise Wrong("image not listed", f"image {image_id} of {what}")
    image = source.images[image_id]
    try:
        name = field(image, "file_name", str)
        height, width = field(image, "height", int), field(image, "width", int)
    except Malformed as error:
        raise Wrong("malformed image", f"image {image_id}: {error}") from None
    parts = name.split("/")
    if not name.isprintable() or name.startswith("/") or ".." in parts or parts[-1] in ("", "."):
        raise Wrong("file_name is not the name of a file", f"image {image_id}: {shown(name)}")
    if not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise Wrong("size is not the size of an image", f"image {image_id}: height {height}, width {width}")
    return name, height, width


def encode(segmentation: object, height: int, width: int, what: str) -> dict:
    """COCO segmentation -> compressed RLE.

    Args:
        segmentation: polygons, of which the union is taken, or an RLE whose counts are a list or a string. Fragments
            of fewer than 6 numbers are left out, unless there are no others.
        what: names the entry in an error.

    Raises:
        Wrong: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = [_polygon(polygon, height, width, what) for polygon in _polygons(segmentation)]
        longest_possible = sum(map(len, polygons)) // 2 * (max(height, width) + 2 * BEYOND)
        if longest_possible > LONGEST_OUTLINE and sum(map(_outline, polygons)) > LONGEST_OUTLINE:
            raise Wrong(f"polygons with an outline of more than {LONGEST_OUTLINE:,} pixels", what)
        masks = coco_mask.frPyObjects(polygons, height, width)
        return masks[0] if len(masks) == 1 else coco_mask.merge(masks)
    if not isinstance(segmentation, dict):
        if segmentation is None or segmentation == []:
            raise Wrong("no segmentation, a box is not enough", what)
        raise Wrong("segmentation is neither a list of polygons nor an RLE", f"{what}: {shown(segmentation)}")
    if segmentation.get("size") != [height, width]:
        raise Wrong(
            "RLE of another size than its image",
            f"{what}: {shown(segmentation.get('size'))}, image [{height}, {width}] (height, width)",
        )
    counts = segmentation.get("counts")
    try:
        runs = np.array(counts if isinstance(counts, list) else _run_lengths(counts))
        sound = runs.ndim == 1 and runs.dtype.kind == "i" and runs.min() >= 0 and runs.max() <= height * width
        whole = sound and runs.sum() == height * width
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError):
        whole = False
    if not whole:
        raise Wrong("RLE counts do not add up to the image", f"{what}: {height} x {width} pixels")
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)


def _polygons(segmentation: list | dict) -> list | dict:
    """A segmentation without polygons of fewer than 6 numbers; as it is where nothing would be left."""
    if isinstance(segmentation, dict):
        return segmentation
    return [polygon for polygon in segmentation if not isinstance(polygon, list) or len(polygon) >= 6] or segmentation


def _polygon(polygon: object, height: int, width: int, what: str) -> list:
    """The polygon x0, y0, x1, y1, ... unchanged. Raises Wrong where it is not sound."""
    numbers = isinstance(polygon, list) and NUMBERS.issuperset(map(type, polygon))
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise Wrong(_fault(polygon), f"{what}: {shown(polygon)}")
    xs, ys = polygon[0::2], polygon[1::2]
    if min(polygon) < -BEYOND or max(xs) > width + BEYOND or max(ys) > height + BEYOND:
        box = f"x {min(xs):g} to {max(xs):g}, y {min(ys):g} to {max(ys):g}"
        raise Wrong("polygon outside its image", f"{what}: {box}, image {width} x {height}")
    return polygon


def _fault(polygon: object) -> str:
    """What is wrong with something that stands where a polygon should."""
    if isinstance(polygon, dict):
        return "RLE in a list, take it out of the list"
    if isinstance(polygon, int | float):
        return "number where a polygon is expected, put the numbers of a polygon into a list of their own"
    if isinstance(polygon, list) and any(isinstance(point, list) for point in polygon):
        return "polygon of lists, write x, y, x, y, ... in one list"
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return "polygon with fewer than 6 numbers, or an odd number"
    return "polygon with a coordinate that is not a number"


def _outline(polygon: list) -> float:
    """Pixels along its edges."""
    corners = np.array(polygon, dtype=float).reshape(-1, 2)
    return np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()


def _run_lengths(counts: str) -> np.ndarray:
    """Compressed RLE string -> run lengths (runs,); `rleFrString` of the COCO API, vectorised.

    A number is written as characters of 5 bits each, lowest first, plus 48, plus 32 where another character follows.
    Bit 16 of the last is the sign. From the fourth on, a number is the difference to the one two places before it.

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
