"""Damaged and restructured files, and what must hold whatever is read: a sound dataset or one clear error.

`FUZZ_EXAMPLES=5000` takes so many examples of each kind, other ones every time.
"""

import copy
import functools
import math
import os

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from stages.data import prepared
from stages.prepare.formats.release import Release

HEIGHT, WIDTH = 12, 16
LONGEST_MESSAGE = 100_000  # characters, whatever is wrong
CAMPAIGN = int(os.environ.get("FUZZ_EXAMPLES", 0))


def fuzzed(examples: int):
    return settings(
        max_examples=CAMPAIGN or examples,
        derandomize=not CAMPAIGN,
        database=None,
        deadline=None,  # a hang is ended by the test's own timeout
        suppress_health_check=list(HealthCheck),
    )


# What is mutated: three images, four masks of every kind, three things that nothing refers to, five refs.


def sentence(sent_id: int, text: str) -> dict:
    return {"sent_id": sent_id, "raw": text + "!", "sent": text, "tokens": text.split()}


def ref(ref_id: int, ann_id: int, image_id: int, split: str, *texts: str) -> dict:
    sentences = [sentence(10 * ref_id + place, text) for place, text in enumerate(texts)]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 5,
        "split": split,
        "file_name": f"{image_id}_{ann_id}.jpg",
        "sent_ids": [item["sent_id"] for item in sentences],
        "sentences": sentences,
    }


REFS = [
    ref(101, 11, 1, "train", "red cup", "cup on left"),
    ref(102, 12, 1, "train", "both"),
    ref(103, 13, 2, "val", "café cup"),
    ref(104, 14, 300, "testA", "rightmost"),
    ref(105, 14, 300, "testA", "not the left one of the two that stand there"),
]
SEGMENTATIONS = {
    11: [[1, 2, 6, 2, 6, 7, 1, 7]],
    12: [[1.5, 2, 6, 2, 6, 7, 1, 7], [4, 5, 10, 5, 10, 9.25, 4, 9]],
    13: {"size": [HEIGHT, WIDTH], "counts": [30, 50, 20, 10, HEIGHT * WIDTH - 110]},
    14: {"size": [HEIGHT, WIDTH], "counts": prepared.encode_mask(np.tri(HEIGHT, WIDTH, dtype=np.uint8))},
}
INSTANCES = {
    "images": [
        {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 300)
    ],
    "annotations": [
        {"id": ann_id, "image_id": image_id, "category_id": 5, "segmentation": SEGMENTATIONS[ann_id], "iscrowd": 0}
        for ann_id, image_id in ((11, 1), (12, 1), (13, 2), (14, 300))
    ]
    + [
        {"id": 15, "image_id": 1, "category_id": 5, "bbox": [1, 2, 5.5, 5]},
        {"id": 16, "image_id": 1, "category_id": 5, "segmentation": SEGMENTATIONS[14], "bbox": [0, 0, 16, 12]},
        {"id": 17, "image_id": 2, "category_id": 5, "segmentation": SEGMENTATIONS[12], "iscrowd": 0},
    ],
    "categories": [{"id": 5, "name": "cup"}],
}


def assert_clear(message: str, files: Release) -> None:
    assert len(message) <= LONGEST_MESSAGE
    for line in message.split("\n"):
        assert line.startswith(str(files.root)), line
        assert line.isprintable(), ascii(line)


def assert_sound(tables, files: Release) -> None:
    expressions, instances = tables.expressions, tables.instances
    assert list(expressions) == ["sent_id", "ref_id", "ann_id", "image_id", "split", "text"]
    assert list(instances) == ["ann_id", "image_id", "image", "width", "height", "category", "mask"]
    assert len(expressions) and expressions["sent_id"].is_unique and instances["ann_id"].is_unique
    assert set(expressions["split"]) <= {"train", "val", "testA", "testB", "test"}
    assert all(isinstance(text, str) and text.strip() for text in expressions["text"])
    by_ref = expressions.groupby("ref_id")[["ann_id", "image_id", "split"]].nunique()
    assert (by_ref == 1).all(axis=None)
    assert (expressions.groupby("image_id")["split"].nunique() == 1).all()

    images = dict(zip(instances["ann_id"], instances["image_id"], strict=True))
    for ann_id, image_id in zip(expressions["ann_id"], expressions["image_id"], strict=True):
        assert images[ann_id] == image_id
    for row in instances.itertuples():
        with Image.open(row.image) as image:
            assert image.size == (row.width, row.height)
        mask = coco_mask.decode({"size": [row.height, row.width], "counts": row.mask.encode()})
        assert mask.shape == (row.height, row.width) and set(np.unique(mask)) <= {0, 1} and mask.any()

    boxes = tables.boxes
    assert list(boxes) == ["ann_id", "image_id", "category", "x", "y", "width", "height"]
    assert boxes["ann_id"].is_unique and set(instances["ann_id"]) <= set(boxes["ann_id"])
    assert set(boxes["image_id"]) == set(instances["image_id"])
    assert all(isinstance(category, str) for category in boxes["category"])
    assert (boxes[["x", "y"]] >= -1).all(axis=None) and (boxes[["width", "height"]] >= 0).all(axis=None)
    sizes = instances.drop_duplicates("image_id").set_index("image_id").loc[boxes["image_id"]]
    for start, extent in (("x", "width"), ("y", "height")):
        assert (boxes[start].to_numpy() + boxes[extent].to_numpy() <= sizes[extent].to_numpy() + 1).all()
    assert all(note.isprintable() and len(note) < 300 for note in tables.notes)

    prepared.write(files.root / "written", expressions, instances, {"name": "fuzz"}, boxes)
    again = prepared.read(files.root / "written")
    assert sorted(again.boxes["ann_id"]) == sorted(boxes["ann_id"])
    assert sorted(again.expressions["text"]) == sorted(expressions["text"])
    assert list(again.expressions["sent_id"]) == sorted(expressions["sent_id"])


class no_code_runs:
    """Fails where anything is executed, or a class is looked up by the standard library's own unpickler."""

    EVENTS = ("exec", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
    armed = False
    seen: list = []  # noqa: RUF012

    def __enter__(self):
        no_code_runs.armed, no_code_runs.seen = True, []

    def __exit__(self, *_):
        no_code_runs.armed = False
        assert not self.seen


def watch(event: str, arguments: tuple) -> None:
    if no_code_runs.armed and event in no_code_runs.EVENTS:
        no_code_runs.seen.append((event, repr(arguments)[:200]))


# Bytes: flipped, inserted, deleted, duplicated, spliced, cut off.

PLACES = st.floats(0, 1, exclude_max=True)  # as a share of the length, which edits change
TELLING = b'(.0KMJX]}{[":,-e\\tfnul\x80\x93\x94\xff\x00Rcior9'
ANY_BYTES = st.one_of(st.binary(min_size=1, max_size=8), st.lists(st.sampled_from(TELLING), max_size=4).map(bytes))


@st.composite
def damaged(draw, sources: list[bytes]) -> bytes:
    content = draw(st.sampled_from(sources))
    for _ in range(draw(st.integers(1, 5))):
        start = int(draw(PLACES) * len(content))
        end = start + draw(st.integers(0, 60) | st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "flip", "set", "set", "insert", "delete", "duplicate", "splice", "cut"])):
            case "flip":
                flipped = bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in content[start : start + 1])
                content = content[:start] + flipped + content[start + 1 :]
            case "set":
                content = content[:start] + draw(ANY_BYTES) + content[start + 1 :]
            case "insert":
                content = content[:start] + draw(ANY_BYTES) + content[start:]
            case "delete":
                content = content[:start] + content[end:]
            case "duplicate":
                content = content[:end] + content[start:end] * draw(st.integers(1, 3)) + content[end:]
            case "splice":
                other = draw(st.sampled_from(sources))
                content = content[:start] + other[int(draw(PLACES) * len(other)) :]
            case "cut":
                content = content[:start]
    return content


# Structure: any value replaced, keys and entries deleted and duplicated.


def endless() -> list:
    endless = ["endless"]
    endless.append(endless)
    return endless


def nested(depth: int) -> list:
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


def shared(depth: int) -> list:
    """Of 2^depth leaves, in `depth` lists."""
    return functools.reduce(lambda inner, _: [inner, inner], range(depth), ["leaf"])


NAME = INSTANCES["images"][0]["file_name"]
CONSTANTS = [None, True, False]
INTEGERS = [0, 1, -1, 2, 5, 11, 65535, 65536, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400, -(2**63)]
FLOATS = [0.0, -0.0, 0.5, 1.0, 11.0, 1e9, 1e308, 1e-300, math.nan, math.inf, -math.inf]
WORDS = ["", " ", "a", "é", "train", "test", "testC", "01234", "x" * 300, "y" * 5000]
FILES = [NAME, f"./{NAME}", f"../{NAME}", "/etc/passwd", ".", "..", "/", "a/../../b", f"{NAME}/"]
UNPRINTABLE = ["\0", "\n", "a\nb", "\r\n", "\x1b[31m", "\u2028", "\u202e", "\ud800", "a\udcff", "\U0001f600"]
POLYGONS = [[[1, 1, 5, 5]], [[1, 2, 3, 4, 5, 6]], [[0, 0, 16, 0, 16, 12, 0, 12]], [[-1, -1, 17, -1, 17, 13]]]
MASKS = [{"size": [HEIGHT, WIDTH], "counts": counts} for counts in ([0, HEIGHT * WIDTH], "P6", "", 3, [-1, 193], [1.5])]
CONTAINERS = [[], {}, [[]], [1, [2, [3, [4, [5]]]]], [HEIGHT, WIDTH], nested(20), nested(400), shared(8)]
LARGE = [[["z" * 200] * 20] * 20, {"k" * 300: {"k" * 300: "v" * 300}}, [["a\nb"]], {"\ud800": "\n"}, {"id": {"id": 1}}]
JSON_VALUES = CONSTANTS + INTEGERS + FLOATS + WORDS + FILES + UNPRINTABLE + POLYGONS + MASKS + CONTAINERS + LARGE


def places(root: object) -> list[tuple]:
    """Every container below `root` and every key of it."""
    found, waiting = [], [root]
    while waiting:
        container = waiting.pop()
        keys = range(len(container)) if isinstance(container, list) else list(container)
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (list, dict)):
                waiting.append(container[key])
    return found


@st.composite
def restructured(draw, original: list | dict, values: list) -> list | dict:
    content = copy.deepcopy(original)
    edits = []
    for _ in range(draw(st.integers(1, 3))):  # chosen before any is made: a new value may hold itself
        edits.append((*draw(st.sampled_from(places(content))), draw(st.sampled_from(range(len(values))))))
    for container, key, value in edits:
        if key not in (range(len(container)) if isinstance(container, list) else container):
            continue  # deleted by an edit before
        match draw(st.sampled_from(["replace"] * 5 + ["delete", "duplicate", "swap", "extra"])):
            case "replace":
                container[key] = values[value]
            case "delete":
                del container[key]
            case "duplicate" if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case "duplicate":
                container[f"{key}_"] = container[key]
            case "swap":
                other, place = draw(st.sampled_from(places(copy.deepcopy(original))))
                container[key] = other[place]
            case "extra" if isinstance(container, list):
                container.append(values[value])
            case "extra":
                container["extra"] = values[value]
    return content
