"""The tables that every source is read into, and checks that are common to several sources."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stages.data.prepared import SPLITS
from stages.prepare.problems import Problems, shown
from stages.statistics.evidence import FEW_IMAGES, FEWEST_IMAGES


@dataclass
class Tables:
    """A source, read and checked.

    Attributes:
        expressions: `EXPRESSION_COLUMNS` of `stages.data.prepared`.
        instances: `INSTANCE_COLUMNS`; an instance that several refs mean has one row.
        boxes: `BOX_COLUMNS` of everything annotated on the images of the instances.
        files: the annotation files that were read.
        sizes: bytes of every image in use, by its name in the source; empty where images were not checked.
        checks: the checks that passed.
        warnings: sentences that must stand beside every number made from the source.
        notes: what was done to the source, where its parameters do not say so.
        partial: whether this is less than the whole published set.
    """

    expressions: pd.DataFrame
    instances: pd.DataFrame
    boxes: pd.DataFrame
    files: list[Path]
    sizes: dict[str, int]
    checks: list[str]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: bool = False


def count(expressions: pd.DataFrame) -> dict[str, dict[str, int]]:
    """The numbers of refs, expressions and images of each split."""
    columns = {"ref_id": "refs", "sent_id": "expressions", "image_id": "images"}
    counts = expressions.groupby("split")[list(columns)].nunique().rename(columns=columns)
    return {split: counts.loc[split].to_dict() for split in expressions["split"].unique()}


def few_images(counts: dict[str, dict[str, int]]) -> tuple[list[str], list[str]]:
    """Warnings and notes on the splits that are too small to say much about other images, given `count`."""
    images = {split: number["images"] for split, number in counts.items() if split != "train"}
    warnings = [
        f"images of {split}: {number}, fewer than {FEWEST_IMAGES}, so its values get no interval and no verdict"
        for split, number in images.items()
        if number < FEWEST_IMAGES
    ]
    notes = [
        f"images of {split}: {number}; with fewer than {FEW_IMAGES}, only large differences can be supported"
        for split, number in images.items()
        if FEWEST_IMAGES <= number < FEW_IMAGES
    ]
    return warnings, notes


def visible(text: str) -> bool:
    """Whether a text has a letter, digit, symbol or punctuation mark: tokenizers drop all else, such as U+200B."""
    return text[:1].isalnum() or any(unicodedata.category(character)[0] in "LNSP" for character in text)


def check_unique(path: Path, name: str, ids: pd.Series, problems: Problems) -> None:
    """Repeated ids are problems."""
    for repeated in ids[ids.duplicated()].unique():
        problems.add(path, f"{name} not unique", str(repeated))


def check_splits(
    path: Path, expressions: pd.DataFrame, problems: Problems, tolerate_overlap: bool = False
) -> list[str]:
    """Unknown splits and images in two splits are problems. A tolerated overlap is a warning, which is returned."""
    unknown = expressions[~expressions["split"].isin(SPLITS)].drop_duplicates("ref_id")
    for ref_id, split in zip(unknown["ref_id"], unknown["split"], strict=True):
        problems.add(path, f"unknown split, known are {', '.join(SPLITS)}", f"{shown(split)} of ref {ref_id}")
    pairs = expressions.loc[expressions["split"].isin(SPLITS), ["image_id", "split"]].drop_duplicates()
    shared = pairs[pairs["image_id"].duplicated(keep=False)].groupby("image_id")["split"].agg(list)
    if tolerate_overlap and len(shared):
        return [f"{' and '.join(sorted({split for names in shared for split in names}))} share {len(shared):,} images"]
    for image_id, names in shared.items():
        problems.add(path, "image in two splits", f"image {image_id} in {' and '.join(names)}")
    return []
