"""Refuses a further dataset that has images which the model was trained on."""

import hashlib
import re
from pathlib import Path

import pandas as pd

from stages.data.prepared import PreparedDataset
from stages.runtime import layout
from stages.runtime.errors import UserError

COCO_FILE = re.compile(r"COCO_[a-z]+20\d\d_0*(\d+)\.\w+")
OWN_IDS = (None, "scenes", "coco")  # kinds of source whose image ids are their own
SHOWN = 3  # images that a message names


class TrainedOnError(UserError):
    """Images of a further dataset were trained on; the message says how many, names some, and the way out."""


def refuse(further: PreparedDataset, trained: PreparedDataset) -> None:
    """Raise where an image of one dataset is in the train split of the other.

    Images are the same where their files hold the same bytes, or where both are the same image of COCO: by image_id in
    the RefCOCO family, by the name of its file, such as COCO_train2014_000000000009.jpg, in data of one's own.

    Args:
        further: every image that an expression is about counts, whatever its split.

    Raises:
        TrainedOnError: there are such images.
        FileNotFoundError: an image cannot be compared, since its file is missing.
    """
    of_train = _images(trained, trained.split("train"))
    of_further = _images(further, further.expressions)
    same = {**_same_coco(of_further, of_train), **_same_files(of_further["image"], of_train["image"])}
    if same:
        names = further.summary["name"], trained.summary["name"]
        shown = [
            f"image_id {image_id}, {path}, is {same[path]}"
            for path, image_id in zip(of_further["image"], of_further["image_id"], strict=True)
            if path in same
        ]
        more = ["and others"] if len(shown) > SHOWN else []
        raise TrainedOnError(
            f"{len(same)} of {len(of_further)} images of {names[0]} are in train of {names[1]}, so a score on "
            f"{names[0]} would say nothing about new images: {'; '.join([*shown[:SHOWN], *more])}. Take these images "
            f"out of the source of one of the two, or take {names[0]} out of experiment.evaluate_on"
        )


def _images(dataset: PreparedDataset, rows: pd.DataFrame) -> pd.DataFrame:
    """image (the path), image_id and coco (its id in COCO, or none) of the images that some expressions are about."""
    instances = dataset.instances.loc[rows["ann_id"].unique(), ["image", "image_id"]]
    found = instances.drop_duplicates("image").reset_index(drop=True)
    kind = dataset.summary.get("source", {}).get("kind")
    if kind not in OWN_IDS:
        return found.assign(coco=found["image_id"])
    names = found["image"] if kind == "coco" else []  # rendered scenes have names of the same form
    named = [COCO_FILE.fullmatch(Path(path).name) for path in names] or [None] * len(found)
    return found.assign(coco=[int(match[1]) if match else None for match in named])


def _same_coco(further: pd.DataFrame, trained: pd.DataFrame) -> dict[str, str]:
    """Path of a further image -> the path of the same image of COCO that was trained on."""
    known = trained.dropna(subset="coco").set_index("coco")["image"].to_dict()
    there = further[further["coco"].isin(list(known)) & further["coco"].notna()]
    return {path: known[coco] for path, coco in zip(there["image"], there["coco"], strict=True)}


def _same_files(further: pd.Series, trained: pd.Series) -> dict[str, str]:
    """Path of a further image -> the path of a file with the same bytes; only files of one size are read."""
    sizes: dict[int, list[str]] = {}
    for path in further:
        sizes.setdefault(_size(path), []).append(path)
    known = {_hash(path): path for path in trained if _size(path) in sizes}
    of_known_size = {_size(path) for path in known.values()}
    candidates = [path for size in sorted(of_known_size) for path in sizes[size]]
    return {path: known[found] for path in candidates if (found := _hash(path)) in known}


def _size(path: str) -> int:
    file = layout.source(path)
    if not file.exists():
        raise FileNotFoundError(f"{path} is missing, so whether it was trained on cannot be checked: put it back")
    return file.stat().st_size


def _hash(path: str) -> str:
    return hashlib.sha256(layout.source(path).read_bytes()).hexdigest()
